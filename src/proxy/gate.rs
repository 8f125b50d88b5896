//! The gate: may this request pass, and what does its answer mean for the sessions of its tokens?

use super::body::{Body, Download, Refresh, Signal};
use super::{Client, FAREWELL};
use crate::audit::Caller;
use crate::keeper::{Attached, Awaited, Keeper, Session, Standing};
use crate::metrics::Dropped;
use crate::refusal::Fault;
use crate::session::{Activity, Mode, Reason, Source};
use crate::token::{Carrier, Place, Sighting, TokenRule};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use std::sync::Arc;

/// How many tokens of one request may begin a session. An honest request has one; a cookie may stand there twice.
const BEGINNINGS_AT_MOST: usize = 4;

/// How many tokens of one request are looked up in the store. An honest request has one that is not known here.
const LOOKUPS_AT_MOST: usize = 8;

/// A request that may pass: whose it is.
#[derive(Debug)]
pub(super) struct Pass<'p> {
    keeper: &'p Keeper,
    activity: Activity,
    caller: Caller,
    /// Live sessions that this request refreshes.
    refreshed: Vec<Arc<Session>>,
    /// Live sessions that the app's yes ends.
    ending: Vec<(Arc<Session>, Arc<TokenRule>)>,
    /// Tokens nobody knows. The app has the say.
    strangers: Vec<Sighting>,
    /// Keeps the sessions alive until the answer begins.
    awaited: Vec<Awaited>,
    attached: Vec<Attached>,
    /// Tokens that the app must not see.
    unwanted: Vec<Sighting>,
}

/// Lets a request pass, or not: every token found is looked at, and a single dead one refuses. But apps leave cookies of
/// earlier sessions behind: beside a live one of the same rule they are taken out.
pub(super) async fn admit(
    keeper: &Arc<Keeper>,
    activity: Activity,
    sightings: Vec<Sighting>,
    caller: Caller,
) -> Result<Pass<'_>, Fault> {
    let mut pass = Pass {
        keeper,
        activity,
        caller,
        refreshed: Vec::new(),
        ending: Vec::new(),
        strangers: Vec::new(),
        awaited: Vec::new(),
        attached: Vec::new(),
        unwanted: Vec::new(),
    };
    let (mut dead, mut undecided, mut excused) = (None, false, Vec::new());
    let sightings = pass.bound_lookups(sightings)?;
    // At once: several strangers wait for the store no longer than one.
    let standings = join_all(sightings.iter().map(|sighting| keeper.standing(sighting.id))).await;
    let live: Vec<_> = sightings
        .iter()
        .zip(&standings)
        .filter(|(_, standing)| matches!(standing, Standing::Live(_)))
        .map(|(sighting, _)| Arc::clone(&sighting.rule))
        .collect();
    let is_left_behind = |sighting: &Sighting| {
        matches!(sighting.rule.place, Place::Cookie(_)) && live.iter().any(|rule| Arc::ptr_eq(rule, &sighting.rule))
    };
    let enforces = keeper.mode() == Mode::Enforce;
    for (sighting, standing) in sightings.into_iter().zip(standings) {
        match standing {
            Standing::Ended(_) | Standing::Unknown | Standing::Undecided if enforces && is_left_behind(&sighting) => {
                keeper.metrics().dropped(Dropped::BesideLive);
                pass.unwanted.push(sighting);
            }
            Standing::Ended(ended) => {
                keeper.record_refusal(sighting.id, &ended, Carrier::Request, Some(&pass.caller));
                let (_, cookies) = dead.get_or_insert_with(|| (ended.reason, Vec::new()));
                if let Place::Cookie(name) = &sighting.rule.place {
                    cookies.push(name.clone());
                }
            }
            Standing::Excused(excuse) => {
                keeper.record_would_refuse(sighting.id, &excuse.ended, Carrier::Request, Some(&pass.caller));
                excused.push(Attached::excused(excuse));
            }
            // Whoever else is dead is known for certain, and goes before.
            Standing::Undecided => undecided = true,
            Standing::Live(session) => {
                session.called_by(&pass.caller);
                if sighting.rule.ends {
                    pass.ending.push((session, sighting.rule));
                } else {
                    pass.refreshed.push(session);
                }
            }
            Standing::Unknown if sighting.loose => {}
            Standing::Unknown => pass.strangers.push(sighting),
        }
    }
    if let Some((reason, cookies)) = dead {
        return Err(Fault::Ended { cookies, reason });
    }
    if undecided {
        return Err(Fault::Undecided);
    }
    let ending: Vec<_> = pass.ending.iter().map(|(session, _)| session.id()).collect();
    pass.refreshed.retain(|session| !ending.contains(&session.id()));
    pass.attached = pass.refreshed.iter().cloned().map(Attached::new).chain(excused).collect();
    pass.awaited = pass.refreshed.iter().cloned().map(Awaited::new).collect();
    pass.touch();
    Ok(pass)
}

impl Pass<'_> {
    /// Leaves as many tokens that the store has to be asked about as one request may have. Further cookies are not
    /// forwarded; where further tokens cannot be taken out, the request is refused.
    fn bound_lookups(&mut self, sightings: Vec<Sighting>) -> Result<Vec<Sighting>, Fault> {
        let mut lookups = 0;
        let (few, many): (Vec<_>, Vec<_>) = sightings.into_iter().partition(|sighting| {
            lookups += usize::from(self.keeper.known(sighting.id).is_none());
            lookups <= LOOKUPS_AT_MOST || self.keeper.known(sighting.id).is_some()
        });
        if self.keeper.mode() != Mode::Enforce {
            return Ok(few);
        }
        for sighting in many {
            if !matches!(sighting.rule.place, Place::Cookie(_)) {
                return Err(Fault::Malformed("it has too many tokens"));
            }
            self.keeper.metrics().dropped(Dropped::TooMany);
            self.unwanted.push(sighting);
        }
        Ok(few)
    }

    /// Tokens that the app must not see.
    pub(super) fn unwanted(&self) -> &[Sighting] {
        &self.unwanted
    }

    /// A request begins, or its answer does.
    fn touch(&self) {
        if self.activity.requests && !self.refreshed.is_empty() {
            self.keeper.metrics().active(Source::Request);
            let now = self.keeper.clock().now();
            self.refreshed.iter().for_each(|session| session.touch(now, Source::Request));
        }
    }

    fn refresh(&self) -> Refresh {
        Refresh {
            clock: self.keeper.clock().clone(),
            metrics: Arc::clone(self.keeper.metrics()),
            sessions: self.refreshed.clone(),
        }
    }

    /// Whom the bytes of the request's body refresh.
    pub(super) fn uploading(&self) -> Option<Refresh> {
        (self.activity.uploads && !self.refreshed.is_empty()).then(|| self.refresh())
    }

    /// Whether the body of the answer decides about a token of this request.
    pub(super) fn depends_on_body(&self) -> bool {
        let rules = self.ending.iter().map(|(_, rule)| rule).chain(self.strangers.iter().map(|token| &token.rule));
        rules.into_iter().any(|rule| rule.accept.reads_body())
    }

    /// The answer begins: with 2xx, and as the rules ask for, the app has accepted the tokens, or the logout. `body` is
    /// `None` where it was not read.
    pub(super) async fn answered(&mut self, status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) {
        self.awaited.clear();
        self.touch();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // An upgrade is the app's yes to whatever the handshake carried.
            return self.begin(|_| true).await;
        }
        // A page's logout is answered by a redirect to where one can log in.
        let redirects = matches!(status, StatusCode::FOUND | StatusCode::SEE_OTHER);
        if !(status.is_success() || redirects) {
            return;
        }
        let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is_yes = |rule: &TokenRule| rule.accept.is_met_by(kind, body);
        for (session, rule) in std::mem::take(&mut self.ending) {
            if is_yes(&rule) || redirects {
                self.keeper.end(&session, Reason::Logout).await;
            }
        }
        if status.is_success() {
            self.begin(is_yes).await;
        }
    }

    async fn begin(&mut self, is_yes: impl Fn(&TokenRule) -> bool) {
        for sighting in std::mem::take(&mut self.strangers).into_iter().take(BEGINNINGS_AT_MOST) {
            if sighting.rule.ends || !is_yes(&sighting.rule) {
                continue;
            }
            if let Standing::Live(session) = self.keeper.accept(sighting.id, Some(&self.caller)).await {
                self.attached.push(Attached::new(Arc::clone(&session)));
                self.refreshed.push(session);
            }
        }
    }

    /// Whose request it is.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The sessions that the connection belongs to from now on.
    pub(super) fn into_attached(self) -> Vec<Attached> {
        self.attached
    }

    /// The answer's body, as a connection of its sessions: refreshing them, and cut with them.
    pub(super) fn follow(self, body: Body, client: &Client) -> Body {
        if self.attached.is_empty() {
            return body;
        }
        let refresh = self.refresh();
        let cuts = self.attached.iter().map(signal).collect();
        let kill = client.kill.clone();
        let watched: Vec<Signal> = self.attached.iter().map(signal).collect();
        let watch = tokio::spawn(async move {
            first(watched).await;
            tokio::time::sleep(FAREWELL).await;
            kill.cancel();
        });
        Download {
            inner: body,
            cuts,
            moving: self.activity.downloads.then(|| refresh.clone()),
            end: self.activity.requests.then_some(refresh),
            attached: self.attached,
            watch: watch.abort_handle(),
        }
        .boxed_unsync()
    }
}

/// Fires when the connection is to end. Where that was so while its answer was awaited, the answer still gets its moment:
/// a request is not cut before its answer has begun.
fn signal(attached: &Attached) -> Signal {
    let late = attached.is_cut();
    let cut = attached.cut();
    Box::pin(async move {
        cut.await;
        if late {
            tokio::time::sleep(FAREWELL).await;
        }
    })
}

async fn first(mut signals: Vec<Signal>) {
    std::future::poll_fn(|cx| {
        let fired = signals.iter_mut().any(|signal| signal.as_mut().poll(cx).is_ready());
        if fired { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
