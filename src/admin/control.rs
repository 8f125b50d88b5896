//! What the `[admin]` listener answers: how sessions stand and why, the switch of the mode, and the drain.

use super::door::Door;
use super::events::{self, Audience};
use super::page::File;
use super::{Limits, Listener};
use crate::config::duration;
use crate::keeper::{Account, Keeper, Reckoning, Switch, TOLD_AT_MOST};
use crate::proxy::{Body, full};
use crate::refusal::Refusal;
use crate::session::{Mode, SessionId};
use crate::shutdown::Shutdown;
use crate::store::StoreError;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
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

/// What a change of the mode says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    mode: String,
    #[serde(rename = "for")]
    lasting: Option<String>,
    #[serde(default)]
    fleet: bool,
    #[serde(default)]
    yes: bool,
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
        self.ask(&head, body).await.map(|value| json_of(StatusCode::OK, &value))
    }

    async fn ask(&self, head: &request::Parts, body: Incoming) -> Result<Value, Refusal> {
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        match path[..] {
            ["mode"] => self.mode(&head.method, body).await,
            ["drain"] => self.drain(&head.method),
            ["sessions"] => self.sessions(&head.method, head.uri.query().unwrap_or_default()).await,
            ["sessions", id] => self.session(&head.method, id).await,
            ["sessions", id, "extend"] => self.extend(&head.method, id).await,
            _ => Err(Refusal::Path),
        }
    }

    async fn mode(&self, method: &Method, body: Incoming) -> Result<Value, Refusal> {
        if method == Method::PUT {
            self.change(body).await?;
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(self.shown_mode(self.keeper.overview().lapsed))
    }

    /// Takes this replica out of service, or tells what is left of it.
    fn drain(&self, method: &Method) -> Result<Value, Refusal> {
        if method == Method::PUT {
            self.shutdown.drain();
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(json!({
            "phase": self.shutdown.phase().name(),
            "tunnels": self.shutdown.tunnels(),
            "requests": self.shutdown.requests(),
            "seconds_left": self.shutdown.left().as_millis().div_ceil(1000),
            "replica": self.keeper.replica(),
        }))
    }

    pub(super) fn shown_mode(&self, past_the_limit: usize) -> Value {
        let now = self.keeper.clock().now();
        let settings = self.keeper.switches();
        let switches = Switch::ALL.iter().zip(settings).map(|(switch, setting)| {
            let until = setting
                .until
                .map(|(until, then)| json!({"seconds_left": until.since(now).div_ceil(1000), "then": then.name()}));
            (switch.name().to_owned(), json!({"mode": setting.mode.name(), "until": until}))
        });
        json!({
            "mode": self.keeper.mode().name(),
            "switches": switches.collect::<serde_json::Map<_, _>>(),
            "past_the_limit": past_the_limit,
            "replica": self.keeper.replica(),
        })
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
                0 => {}
                count => return Err(Refusal::WouldCut(count)),
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

    async fn sessions(&self, method: &Method, query: &str) -> Result<Value, Refusal> {
        only(method, "GET", &[Method::GET])?;
        let idle_over = query.split('&').find_map(|pair| pair.strip_prefix("idle_over="));
        let idle_over = match idle_over {
            None => 0,
            Some(text) => text
                .parse()
                .or_else(|_| duration(text).map(|duration| duration.as_secs()))
                .map_err(|fault| Refusal::NoDuration(fault.what))?,
        };
        let accounts = self.keeper.accounts(idle_over, TOLD_AT_MOST).await;
        let by = self.keeper.reckoning();
        let sessions: Vec<_> = accounts.iter().map(|account| shown(account, &by)).collect();
        Ok(json!({ "now": by.now, "mode": self.keeper.mode().name(), "sessions": sessions }))
    }

    async fn session(&self, method: &Method, id: &str) -> Result<Value, Refusal> {
        only(method, "GET, DELETE", &[Method::GET, Method::DELETE])?;
        let id = SessionId::from_hex(id).ok_or(Refusal::NoId)?;
        if method == Method::DELETE && !self.keeper.end_by_operator(id).await.map_err(|error| unanswered(&error))? {
            return Err(self.gone(id).await);
        }
        self.account(id).await
    }

    async fn extend(&self, method: &Method, id: &str) -> Result<Value, Refusal> {
        only(method, "POST", &[Method::POST])?;
        let id = SessionId::from_hex(id).ok_or(Refusal::NoId)?;
        if !self.keeper.extend(id).await.map_err(|error| unanswered(&error))? {
            return Err(self.gone(id).await);
        }
        self.account(id).await
    }

    async fn account(&self, id: SessionId) -> Result<Value, Refusal> {
        let account = self.keeper.account(id).await.map_err(|error| unanswered(&error))?;
        account.map(|account| shown(&account, &self.keeper.reckoning())).ok_or(Refusal::Unknown)
    }

    /// Why there is no session to end or to extend.
    async fn gone(&self, id: SessionId) -> Refusal {
        match self.keeper.account(id).await {
            Ok(Some(_)) => Refusal::Ended,
            _ => Refusal::Unknown,
        }
    }
}

/// An account, with what can be computed from it.
pub(super) fn shown(account: &Account, by: &Reckoning) -> Value {
    let mut value = json!(account);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("now".to_owned(), by.now.into());
        fields.insert("idle".to_owned(), account.idle(by).into());
        fields.insert("limit".to_owned(), by.limits.timeout.into());
        if account.end.is_none() {
            let (left, reason) = account.left(by);
            fields.insert("seconds_left".to_owned(), left.into());
            fields.insert("left_until".to_owned(), reason.name().into());
        }
        fields.insert("says".to_owned(), account.says(by).into());
    }
    value
}

fn unanswered(error: &StoreError) -> Refusal {
    Refusal::Store(error.to_string())
}

/// Nothing changes by a GET, and nothing else is asked by another method.
fn only(method: &Method, allowed: &'static str, these: &[Method]) -> Result<(), Refusal> {
    if these.contains(method) { Ok(()) } else { Err(Refusal::Method(allowed)) }
}

fn refused(refusal: &Refusal) -> Answer {
    let mut body = json!({"error": refusal.to_string(), "cure": refusal.cure()});
    if let (Refusal::WouldCut(count), Some(fields)) = (refusal, body.as_object_mut()) {
        fields.insert("would_cut".to_owned(), (*count).into());
    }
    let mut answer = json_of(refusal.status(), &body);
    let headers = answer.headers_mut();
    match refusal {
        Refusal::Method(allowed) => drop(headers.insert(header::ALLOW, HeaderValue::from_static(allowed))),
        Refusal::Token => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        _ => {}
    }
    answer
}

fn json_of(status: StatusCode, value: &Value) -> Answer {
    answer_of(status, "application/json", full(format!("{value}\n")))
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
