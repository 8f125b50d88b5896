//! What the `[admin]` listener answers: how sessions stand and why, the switch of the mode, and the drain.

use super::answer::{Change, Drained, Explained, ManySessions, Modes, OneSession, Refused, Setting, Until};
use super::door::Door;
use super::events::{self, Audience};
use super::page::File;
use super::{Limits, Listener};
use crate::clock::milliseconds;
use crate::config::duration;
use crate::counted::when;
use crate::keeper::{self, Account, Keeper, Reach, Reckoning, Switch, TOLD_AT_MOST, Told};
use crate::proxy::{Body, full};
use crate::refusal::Refusal;
use crate::session::{CERTAIN_DIGITS, ID_DIGITS, Mode, SHOWN_DIGITS, SessionId};
use crate::shutdown::Shutdown;
use crate::store::StoreError;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub(super) const LIMITS: Limits = Limits { connections: 64, life: Duration::from_secs(30) };

/// How much may be sent.
const SENT_AT_MOST: usize = 4096;

type Answer = Response<Body>;

/// Sessions and switches, for operators.
#[derive(Debug)]
pub(crate) struct Control {
    keeper: Arc<Keeper>,
    door: Door,
    shutdown: Shutdown,
    audience: Audience,
}

impl Control {
    pub(crate) fn new(keeper: Arc<Keeper>, door: Door, shutdown: Shutdown) -> Self {
        Self { keeper, door, shutdown, audience: Audience::default() }
    }

    pub(super) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    pub(super) fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Answers on `listener`, for ever.
    pub(crate) async fn serve(self, listener: Listener) {
        let control = Arc::new(self);
        let answer = move |request| {
            let control = Arc::clone(&control);
            async move { control.answer(request).await.unwrap_or_else(|refusal| refused(&refusal)) }
        };
        listener.serve(LIMITS, answer).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        if let Some(file) = File::at(head.uri.path()) {
            self.door.check_page(&head.uri, &head.headers)?;
            return file.answer(&head.method);
        }
        self.door.check(&head.uri, &head.headers)?;
        if head.uri.path() == "/events" {
            only(&head.method, "GET", &[Method::GET])?;
            return Ok(answer_of(StatusCode::OK, "text/event-stream", events::stream(self)));
        }
        self.ask(&head, body).await
    }

    async fn ask(&self, head: &request::Parts, body: Incoming) -> Result<Answer, Refusal> {
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        match path[..] {
            ["mode"] => self.mode(&head.method, body).await.map(|modes| json_of(StatusCode::OK, &modes)),
            ["drain"] => self.drain(&head.method).map(|drained| json_of(StatusCode::OK, &drained)),
            ["sessions"] => {
                let query = head.uri.query().unwrap_or_default();
                self.sessions(&head.method, query).await.map(|sessions| json_of(StatusCode::OK, &sessions))
            }
            ["sessions", id] => self.session(&head.method, id).await,
            ["sessions", id, "extend"] => self.extend(&head.method, id).await,
            _ => Err(Refusal::Path),
        }
    }

    async fn mode(&self, method: &Method, body: Incoming) -> Result<Modes, Refusal> {
        if method == Method::PUT {
            self.change(body).await?;
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(self.modes(self.keeper.past_the_limit().await))
    }

    /// Takes this replica out of service, or tells what is left of it.
    fn drain(&self, method: &Method) -> Result<Drained, Refusal> {
        if method == Method::PUT {
            self.shutdown.drain();
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(Drained {
            phase: self.shutdown.phase().name().to_owned(),
            tunnels: self.shutdown.tunnels(),
            requests: self.shutdown.requests(),
            seconds_left: milliseconds(self.shutdown.left()).div_ceil(1000),
            replica: self.keeper.replica().to_owned(),
        })
    }

    pub(super) fn modes(&self, past_the_limit: usize) -> Modes {
        let now = self.keeper.clock().now();
        let switches =
            Switch::ALL.iter().zip(self.keeper.switches()).map(|(switch, keeper::Setting { mode, until })| {
                let until = until.map(|(until, then)| Until {
                    seconds_left: until.since(now).div_ceil(1000),
                    then: then.name().to_owned(),
                });
                (switch.name().to_owned(), Setting { mode: mode.name().to_owned(), until })
            });
        // Without a store that replicas share there is no fleet.
        let store = self.keeper.store_kind();
        let switches = switches.filter(|(name, _)| store == "redis" || name != Switch::Fleet.name());
        Modes {
            mode: self.keeper.mode().name().to_owned(),
            switches: switches.collect(),
            past_the_limit,
            replica: self.keeper.replica().to_owned(),
            store: Some(store.to_owned()),
            held_since: self.keeper.held_since(),
            no_match: self.keeper.metrics().unmatched.report(),
        }
    }

    /// Sets a switch. Where that would cut sessions at once, somebody has to have said yes.
    async fn change(&self, body: Incoming) -> Result<(), Refusal> {
        let sent =
            Limited::new(body, SENT_AT_MOST).collect().await.map_err(|error| Refusal::Malformed(error.to_string()))?;
        let sent = sent.to_bytes();
        // A list of the values alone would do for serde, and hide which is which.
        if !sent.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::Malformed("it is no JSON object".to_owned()));
        }
        let change: Change = serde_json::from_slice(&sent).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let mode = Mode::from_name(&change.mode)
            .ok_or_else(|| Refusal::Malformed("a mode is enforce, observe or off".to_owned()))?;
        let lasting = change.lasting.as_deref().map(duration).transpose();
        let lasting = lasting.map_err(|fault| Refusal::Malformed(format!("\"for\": {}", fault.what)))?;
        if mode == Mode::Enforce && !change.yes {
            let switch = if change.fleet { Switch::Fleet } else { Switch::Replica };
            match self.keeper.would_be_cut(switch).await {
                Told { told: 0, unheard: 0 } => {}
                Told { told: count, unheard } => return Err(Refusal::WouldCut { count, unheard }),
            }
        }
        if change.fleet {
            let set = self.keeper.switch_fleet(mode, lasting).await;
            set.map_err(|error| Refusal::FleetOutOfReach(error.to_string()))?;
        } else {
            self.keeper.switch(Switch::Replica, mode, lasting);
        }
        Ok(())
    }

    async fn sessions(&self, method: &Method, query: &str) -> Result<ManySessions, Refusal> {
        only(method, "GET", &[Method::GET])?;
        let idle_over = query.split('&').find_map(|pair| pair.strip_prefix("idle_over="));
        let idle_over = match idle_over {
            None => 0,
            Some(text) => text
                .parse()
                .or_else(|_| duration(text).map(|duration| duration.as_secs()))
                .map_err(|fault| Refusal::NoDuration(fault.what))?,
        };
        let Told { told: accounts, unheard } = self.keeper.accounts(idle_over, TOLD_AT_MOST).await;
        let by = self.keeper.reckoning();
        let sessions = accounts.into_iter().map(|account| OneSession::of(account, &by)).collect();
        let held_since = self.keeper.held_since();
        let no_match = self.keeper.metrics().unmatched.report();
        Ok(ManySessions {
            held_since,
            no_match,
            now: by.now,
            mode: self.keeper.mode().name().to_owned(),
            unheard,
            sessions,
        })
    }

    async fn session(&self, method: &Method, id: &str) -> Result<Answer, Refusal> {
        only(method, "GET, DELETE", &[Method::GET, Method::DELETE])?;
        let digits = if method == Method::DELETE { CERTAIN_DIGITS } else { SHOWN_DIGITS };
        let id = self.id_beginning(id, digits).await?;
        let mut untold = false;
        if method == Method::DELETE {
            match self.keeper.end_by_operator(id).await? {
                Reach::Nobody => return Err(self.gone(id).await),
                Reach::Here => untold = true,
                Reach::All => {}
            }
        }
        self.explain(id, untold).await
    }

    /// The session id in `text`, or the only one that is known and begins with it, where it has so many digits.
    async fn id_beginning(&self, text: &str, digits: usize) -> Result<SessionId, Refusal> {
        if let Some(id) = SessionId::from_hex(text) {
            return Ok(id);
        }
        let is_beginning = text.len() >= digits && text.len() < ID_DIGITS;
        if !is_beginning || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Refusal::NoId);
        }
        let ids = self.keeper.ids_beginning(&text.to_ascii_lowercase()).await;
        match &ids[..] {
            [] => Err(self.unknown()),
            [id] => SessionId::from_hex(id).ok_or(Refusal::NoId),
            _ => Err(Refusal::Ambiguous(ids)),
        }
    }

    /// There is no such session; a store in memory knows of none from before it began.
    fn unknown(&self) -> Refusal {
        let now = self.keeper.now() / 1000;
        let since = (self.keeper.store_kind() == "memory").then(|| when(self.keeper.started(), now));
        Refusal::Unknown { since }
    }

    async fn extend(&self, method: &Method, id: &str) -> Result<Answer, Refusal> {
        only(method, "POST", &[Method::POST])?;
        let id = self.id_beginning(id, CERTAIN_DIGITS).await?;
        if !self.keeper.extend(id).await? {
            return Err(self.gone(id).await);
        }
        self.explain(id, false).await
    }

    /// What is known of a session. Where its end is still `untold` to other replicas, the order is not carried out yet.
    async fn explain(&self, id: SessionId, untold: bool) -> Result<Answer, Refusal> {
        let Told { told: account, unheard } = self.keeper.account(id).await?;
        let session = OneSession::of(account.ok_or_else(|| self.unknown())?, &self.keeper.reckoning());
        let mode = self.keeper.mode().name().to_owned();
        let status = if untold { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(json_of(status, &Explained { session, mode, unheard, untold }))
    }

    /// Why there is no session to end or to extend.
    async fn gone(&self, id: SessionId) -> Refusal {
        match self.keeper.account(id).await {
            Ok(Told { told: Some(_), .. }) => Refusal::Ended,
            _ => self.unknown(),
        }
    }
}

impl OneSession {
    pub(super) fn of(account: Account, by: &Reckoning) -> Self {
        let left = account.end.is_none().then(|| account.left(by));
        Self {
            now: by.now,
            idle: account.idle(by),
            limit: by.limits.timeout,
            seconds_left: left.map(|(left, _)| left),
            left_until: left.map(|(_, reason)| reason.name().to_owned()),
            says: account.says(by),
            account,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Nothing changes by a GET, and nothing else is asked by another method.
fn only(method: &Method, allowed: &'static str, these: &[Method]) -> Result<(), Refusal> {
    if these.contains(method) { Ok(()) } else { Err(Refusal::Method(allowed)) }
}

fn refused(refusal: &Refusal) -> Answer {
    let (would_cut, unheard) = match refusal {
        Refusal::WouldCut { count, unheard } => (Some(*count), Some(*unheard)),
        _ => (None, None),
    };
    let body = Refused { error: refusal.to_string(), cure: refusal.cure().to_owned(), would_cut, unheard };
    let mut answer = json_of(refusal.status(), &body);
    let headers = answer.headers_mut();
    match refusal {
        Refusal::Method(allowed) => drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed))),
        Refusal::Token => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    answer
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Answer {
    answer_of(status, "application/json", full(format!("{}\n", json!(value))))
}

pub(super) fn answer_of(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
