//! The gate: may this request pass, and what does its answer mean for the sessions of its tokens?

use super::body::{Body, CutSignal, Download, Refresh};
use super::reach::ClientReach;
use super::refusals::{Refusal, Refusals};
use super::{CLOSE_TIMEOUT, Client, ignore};
use crate::audit::Caller;
use crate::metrics::Dropped;
use crate::refusal::{DeadCookie, ProxyError};
use crate::registry::{Attachment, AwaitingResponse, Origin, Registry, Resolved, TrackedSession};
use crate::session::{ActivitySources, Mode, Reason, SessionId, Source};
use crate::sock_diag::SockDiag;
use crate::store::Ended;
use crate::token::{Carrier, Location, Requirements, TokenMatch, TokenRule};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::sync::Arc;

/// How many tokens of one request may begin a session. An honest request has one; a cookie may stand there twice.
const MAX_NEW_SESSIONS: usize = 4;

/// How many tokens of one request are looked up in the store. An honest request has one that is not known here.
const MAX_LOOKUPS: usize = 8;

/// Who asks, and what of it counts as activity.
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) activity: ActivitySources,
    /// The position of the rule of `[[ignore]]` that keeps the request from counting.
    pub(super) ignored: Option<usize>,
}

/// An admitted request, and the sessions that it belongs to.
#[derive(Debug)]
pub(super) struct Admitted<'p> {
    registry: &'p Registry,
    activity: ActivitySources,
    caller: Caller,
    /// Live sessions that this request refreshes.
    refreshed: Vec<Arc<TrackedSession>>,
    /// Live sessions that end if the app accepts this request.
    ending: Vec<(Arc<TrackedSession>, Arc<TokenRule>)>,
    /// Unknown tokens, and how their sessions would begin, if that counts. The app decides.
    unknown: Vec<(TokenMatch, Option<Origin>)>,
    /// Keeps the sessions alive until the answer begins.
    awaited: Vec<AwaitingResponse>,
    attached: Vec<Attachment>,
    /// Tokens that the app must not see.
    unwanted: Vec<TokenMatch>,
    /// Cookies of live sessions, and of those that may begin, which the response may replace.
    cookies: Vec<TokenMatch>,
}

/// Lets a request pass, or not: every token found is looked at, and a single dead one refuses. But apps leave cookies of
/// earlier sessions behind: beside a live one of the same rule they are taken out.
pub(super) async fn admit<'p>(
    registry: &'p Arc<Registry>,
    asked: Asked,
    matches: Vec<TokenMatch>,
    (required, records): (&Requirements<'_>, &Refusals),
) -> Result<Admitted<'p>, ProxyError> {
    let ignored = asked.ignored;
    let mut pass = Admitted::new(registry, asked);
    let (mut dead, mut undecided, mut tolerated_connections) = (None, false, Vec::new());
    let matches = pass.bound_lookups(matches)?;
    let missing = required.missing(&matches).filter(|_| registry.mode() != Mode::Off);
    // Concurrently: several unknown tokens wait for the store no longer than one.
    let standings = join_all(matches.iter().map(|token_match| resolve(registry, token_match))).await;
    let live: Vec<_> = matches
        .iter()
        .zip(&standings)
        .filter(|(_, standing)| matches!(standing, Resolved::Live(_)))
        .flat_map(|(token_match, _)| token_match.rules().cloned())
        .collect();
    // Wherever the token is, the app must find a live one of the same rule instead.
    let has_live =
        |token_match: &TokenMatch| token_match.rules().all(|rule| live.iter().any(|live| Arc::ptr_eq(live, rule)));
    let is_left_behind = |token_match: &TokenMatch| token_match.can_be_taken_out() && has_live(token_match);
    let enforces = registry.mode() == Mode::Enforce;
    let mut never_seen = Vec::new();
    for (token_match, standing) in matches.into_iter().zip(standings) {
        match standing {
            Resolved::Ended(_) | Resolved::Unknown | Resolved::Issued | Resolved::NeverSeen | Resolved::Undecided
                if enforces && is_left_behind(&token_match) =>
            {
                registry.metrics().dropped(Dropped::BesideLive);
                pass.unwanted.push(token_match);
            }
            Resolved::Ended(ended) => {
                registry.decisions.refusal(token_match.id, &ended, Carrier::Request, Some(&pass.caller));
                let (_, cookies) = dead.get_or_insert_with(|| (ended.reason, Vec::new()));
                cookies.extend(cookies_of(&token_match));
            }
            Resolved::Tolerated(tolerated) => {
                registry.decisions.would_refuse(token_match.id, &tolerated.ended, Carrier::Request, Some(&pass.caller));
                tolerated_connections.push(Attachment::tolerated(tolerated));
            }
            // Another token may be dead for certain, which takes precedence.
            Resolved::Undecided => undecided = true,
            Resolved::Live(session) => {
                token_match.rules().for_each(|rule| registry.issues.used(rule, &session));
                pass.note_request_of(&session, ignored);
                if token_match.rule.ends {
                    pass.ending.push((session, token_match.rule));
                } else {
                    pass.refreshed.push(session);
                    if matches!(token_match.rule.place, Location::Cookie(_)) {
                        pass.cookies.push(token_match);
                    }
                }
            }
            // What only a lenient app would read beside a live token, such as the word before it.
            Resolved::NeverSeen if token_match.loose && has_live(&token_match) => {}
            Resolved::NeverSeen => {
                records.record(registry, Refusal::unknown(&token_match), Carrier::Request, &pass.caller, enforces);
                never_seen.push(token_match);
            }
            Resolved::Unknown | Resolved::Issued if token_match.loose => {}
            standing @ (Resolved::Unknown | Resolved::Issued) => {
                if matches!(token_match.rule.place, Location::Cookie(_)) {
                    pass.cookies.push(token_match.clone());
                }
                let is_issued = matches!(standing, Resolved::Issued);
                pass.unknown.push((token_match, Some(if is_issued { Origin::Issued } else { Origin::Unseen })));
            }
        }
    }
    if let Some((reason, cookies)) = dead {
        return Err(ProxyError::Ended { cookies, reason });
    }
    if enforces && !never_seen.is_empty() {
        return Err(ProxyError::Unknown { cookies: never_seen.iter().flat_map(cookies_of).collect() });
    }
    pass.unknown.extend(never_seen.into_iter().filter(|token_match| !token_match.loose).map(|found| (found, None)));
    if let Some(rule) = missing {
        records.record(registry, Refusal::missing(rule), Carrier::Request, &pass.caller, enforces);
        if enforces {
            let cookies = required.cookies().into_iter().map(|name| DeadCookie { name, is_required: true });
            return Err(ProxyError::Missing { cookies: cookies.collect() });
        }
    }
    if undecided {
        return Err(ProxyError::Undecided);
    }
    let ending: Vec<_> = pass.ending.iter().map(|(session, _)| session.id()).collect();
    pass.refreshed.retain(|session| !ending.contains(&session.id()));
    pass.attached = tolerated_connections;
    for session in &pass.refreshed {
        let attachment = Attachment::new(Arc::clone(session));
        pass.attached.push(attachment.map_err(|ended| pass.refuse(session.id(), &ended))?);
    }
    match ignored {
        Some(rule) => registry.metrics().ignored(rule, 1),
        None => pass.awaited = pass.refreshed.iter().cloned().map(AwaitingResponse::new).collect(),
    }
    pass.touch();
    Ok(pass)
}

/// The cookies that carry a token.
fn cookies_of(token_match: &TokenMatch) -> impl Iterator<Item = DeadCookie> {
    token_match.rules().filter_map(|rule| match &rule.place {
        Location::Cookie(name) => Some(DeadCookie { name: name.clone(), is_required: rule.required.is_some() }),
        _ => None,
    })
}

/// Resolves a token: strictly where a rule that found it refuses unknown tokens, and sees which ones the app hands out.
async fn resolve(registry: &Arc<Registry>, token_match: &TokenMatch) -> Resolved {
    let refuses = |rule: &Arc<TokenRule>| rule.refuses_unknown && registry.issues.are_seen(rule.number);
    if token_match.rules().any(refuses) {
        registry.table.resolve_strictly(token_match.id).await
    } else {
        registry.table.resolve(token_match.id).await
    }
}

impl<'p> Admitted<'p> {
    fn new(registry: &'p Registry, asked: Asked) -> Self {
        let Asked { caller, activity, ignored } = asked;
        Self {
            registry,
            activity: if ignored.is_some() { ignore::nothing(activity) } else { activity },
            caller,
            refreshed: Vec::new(),
            ending: Vec::new(),
            unknown: Vec::new(),
            awaited: Vec::new(),
            attached: Vec::new(),
            unwanted: Vec::new(),
            cookies: Vec::new(),
        }
    }

    /// Notes in a live session what this request was, and whether a rule keeps it from counting.
    fn note_request_of(&self, session: &TrackedSession, ignored: Option<usize>) {
        let now = self.registry.clock().now();
        if let Some(rule) = ignored {
            return session.ignored_request(now, rule, &self.caller);
        }
        session.called_by(&self.caller);
        self.registry.watch.request(now, session.id(), &self.caller);
    }

    /// Bounds the tokens of one request that need a lookup. Further tokens are taken out; where they
    /// cannot be, the request is refused.
    fn bound_lookups(&mut self, matches: Vec<TokenMatch>) -> Result<Vec<TokenMatch>, ProxyError> {
        let mut lookups = 0;
        let (few, many): (Vec<_>, Vec<_>) = matches.into_iter().partition(|token_match| {
            lookups += usize::from(self.registry.table.known(token_match.id).is_none());
            lookups <= MAX_LOOKUPS || self.registry.table.known(token_match.id).is_some()
        });
        if self.registry.mode() != Mode::Enforce {
            return Ok(few);
        }
        for token_match in many {
            if !token_match.can_be_taken_out() {
                return Err(ProxyError::Malformed("it has too many tokens"));
            }
            self.registry.metrics().dropped(Dropped::TooMany);
            self.unwanted.push(token_match);
        }
        Ok(few)
    }

    /// The session of an admitted token has ended meanwhile.
    fn refuse(&self, id: SessionId, ended: &Ended) -> ProxyError {
        self.registry.decisions.refusal(id, ended, Carrier::Request, Some(&self.caller));
        let of_session = self.cookies.iter().filter(|token_match| token_match.id == id);
        ProxyError::Ended { cookies: of_session.flat_map(cookies_of).collect(), reason: ended.reason }
    }

    /// The tokens that pass.
    pub(super) fn admitted(&self) -> Vec<SessionId> {
        let ending = self.ending.iter().map(|(session, _)| session.id());
        let known = self.refreshed.iter().map(|session| session.id()).chain(ending);
        known.chain(self.unknown.iter().map(|(token_match, _)| token_match.id)).collect()
    }

    /// Tokens that the app must not see.
    pub(super) fn unwanted(&self) -> &[TokenMatch] {
        &self.unwanted
    }

    /// Cookies that the response may replace. None where the request is a logout.
    pub(super) fn replaceable_cookies(&self) -> &[TokenMatch] {
        if self.ending.is_empty() { &self.cookies } else { &[] }
    }

    /// A request begins, or its answer does.
    fn touch(&self) {
        if self.activity.requests && !self.refreshed.is_empty() {
            self.registry.metrics().active(Source::Request);
            let now = self.registry.clock().now();
            self.refreshed.iter().for_each(|session| session.touch(now, Source::Request));
        }
    }

    fn refresh(&self) -> Refresh {
        Refresh {
            clock: self.registry.clock().clone(),
            metrics: Arc::clone(self.registry.metrics()),
            sessions: self.refreshed.clone(),
        }
    }

    /// The sessions that the bytes of the request's body refresh.
    pub(super) fn uploading(&self) -> Option<Refresh> {
        (self.activity.uploads && !self.refreshed.is_empty()).then(|| self.refresh())
    }

    /// Whether the body of the answer decides about a token of this request.
    pub(super) fn depends_on_body(&self) -> bool {
        let rules = self.ending.iter().map(|(_, rule)| rule).chain(self.unknown.iter().map(|(token, _)| &token.rule));
        rules.into_iter().any(|rule| rule.accept.reads_body())
    }

    /// The answer begins: with 2xx, and as the rules ask for, the app has accepted the tokens, or the logout. `body` is
    /// `None` where it was not read.
    ///
    /// # Errors
    /// A token is dead after all: the store answered after `lookup_timeout`, or its session has ended meanwhile.
    pub(super) async fn answered(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        body: Option<&[u8]>,
    ) -> Result<(), ProxyError> {
        self.awaited.clear();
        self.touch();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // An upgrade is the app's yes to whatever the handshake carried.
            return self.begin(|_| true).await;
        }
        // A page's logout is answered by a redirect to where one can log in.
        let redirects = matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER);
        if !(status.is_success() || redirects) {
            return Ok(());
        }
        let mode = self.registry.mode();
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        // In `off` no body is held. A token whose acceptance depends on one is not known then.
        let is_readable = |rule: &TokenRule| mode != Mode::Off || !rule.accept.reads_body();
        let is_yes = |rule: &TokenRule| is_readable(rule) && rule.accept.is_met_by(kind, body);
        for (session, rule) in std::mem::take(&mut self.ending) {
            if is_yes(&rule) || redirects {
                self.registry.table.end(&session, Reason::Logout).await;
            }
        }
        if status.is_success() { self.begin(is_yes).await } else { Ok(()) }
    }

    async fn begin(&mut self, is_yes: impl Fn(&TokenRule) -> bool) -> Result<(), ProxyError> {
        for (token_match, origin) in std::mem::take(&mut self.unknown).into_iter().take(MAX_NEW_SESSIONS) {
            let id = token_match.id;
            if token_match.rule.ends || !is_yes(&token_match.rule) {
                continue;
            }
            match self.registry.table.accept(id, Some(&self.caller), origin).await {
                Resolved::Live(session) => {
                    token_match.rules().for_each(|rule| self.registry.issues.used(rule, &session));
                    let attachment = Attachment::new(Arc::clone(&session));
                    self.attached.push(attachment.map_err(|ended| self.refuse(id, &ended))?);
                    self.refreshed.push(session);
                }
                Resolved::Tolerated(tolerated) => self.attached.push(Attachment::tolerated(tolerated)),
                Resolved::Ended(ended) => return Err(self.refuse(id, &ended)),
                Resolved::Unknown | Resolved::Issued | Resolved::NeverSeen | Resolved::Undecided => {}
            }
        }
        Ok(())
    }

    /// Whose request it is.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The sessions that the connection belongs to from now on.
    pub(super) fn into_attached(self) -> Vec<Attachment> {
        self.attached
    }

    /// The answer's body, as a connection of its sessions: refreshing them, and cut with them.
    pub(super) fn follow(self, body: Body, client: &Client, system: &Arc<SockDiag>) -> Body {
        if self.attached.is_empty() {
            return body;
        }
        let refresh = self.refresh();
        let cuts = self.attached.iter().map(signal).collect();
        let kill = client.kill.clone();
        let watched: Vec<CutSignal> = self.attached.iter().map(signal).collect();
        let watch = tokio::spawn(async move {
            first(watched).await;
            tokio::time::sleep(CLOSE_TIMEOUT).await;
            kill.cancel();
        });
        Download {
            inner: body,
            cuts,
            moving: self.activity.downloads.then(|| refresh.clone()),
            end: self.activity.requests.then_some(refresh),
            attached: self.attached,
            reach: ClientReach::new(),
            system: Arc::clone(system),
            ends: [client.local, client.address],
            watch: watch.abort_handle(),
        }
        .boxed_unsync()
    }
}

/// Fires when the connection must close. If that happens while the response is awaited, the response still gets a
/// moment: a request is not cut before its response has begun.
fn signal(attached: &Attachment) -> CutSignal {
    let late = attached.is_cut();
    let cut = attached.cut();
    Box::pin(async move {
        cut.await;
        if late {
            tokio::time::sleep(CLOSE_TIMEOUT).await;
        }
    })
}

async fn first(mut signals: Vec<CutSignal>) {
    std::future::poll_fn(|cx| {
        let fired = signals.iter_mut().any(|signal| signal.as_mut().poll(cx).is_ready());
        if fired { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
