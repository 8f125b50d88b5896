//! The API of the `[admin]` listener: sessions, mode switches and drain.

use super::access::Access;
use super::events::Events;
use super::json::{Drained, Explained, ManySessions, ModeRequest, Modes, OneSession, Warnings, WatchRequest};
use super::page::File;
use super::response::{AdminResponse, json_of, only, refused, respond};
use super::{Listener, ListenerLimits};
use crate::clock::milliseconds;
use crate::config::duration;
use crate::counted::when;
use crate::refusal::AdminError;
use crate::registry::{FleetReply, MAX_LISTED, MAX_WATCH, Reach, Registry, Switch, Watched};
use crate::session::{CERTAIN_DIGITS, ID_DIGITS, Mode, SHOWN_DIGITS, SessionId};
use crate::shutdown::Shutdown;
use crate::store::StoreError;
use http::{Method, Request, StatusCode, request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

pub(super) const LIMITS: ListenerLimits = ListenerLimits { connections: 64, life: Duration::from_secs(30) };

/// The largest request body.
const MAX_REQUEST_BYTES: usize = 4096;

/// The admin API.
#[derive(Debug)]
pub(crate) struct Api {
    registry: Arc<Registry>,
    access: Access,
    shutdown: Shutdown,
    events: Arc<Events>,
}

impl Api {
    pub(crate) fn new(registry: Arc<Registry>, access: Access, shutdown: Shutdown) -> Self {
        let events = Arc::new(Events::new(Arc::clone(&registry)));
        Self { registry, access, shutdown, events }
    }

    /// Serves `listener` forever.
    pub(crate) async fn serve(self, listener: Listener) {
        let api = Arc::new(self);
        let handler = move |request| {
            let api = Arc::clone(&api);
            async move { api.handle(request).await.unwrap_or_else(|refusal| refused(&refusal)) }
        };
        listener.serve(LIMITS, handler).await;
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<AdminResponse, AdminError> {
        let (head, body) = request.into_parts();
        if let Some(file) = File::at(head.uri.path()) {
            self.access.check_page(&head.uri, &head.headers)?;
            return file.response(&head.method);
        }
        self.access.check(&head.uri, &head.headers)?;
        if head.uri.path() == "/events" {
            only(&head.method, "GET", &[Method::GET])?;
            return Ok(respond(StatusCode::OK, "text/event-stream", self.events.stream()));
        }
        self.route(&head, body).await
    }

    async fn route(&self, head: &request::Parts, body: Incoming) -> Result<AdminResponse, AdminError> {
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        match path[..] {
            ["mode"] => self.mode(&head.method, body).await.map(|modes| json_of(StatusCode::OK, &modes)),
            ["watch"] => self.watch(&head.method, body).await.map(|watched| json_of(StatusCode::OK, &watched)),
            ["drain"] => self.drain(&head.method).map(|drained| json_of(StatusCode::OK, &drained)),
            ["sessions"] => {
                let query = head.uri.query().unwrap_or_default();
                self.sessions(&head.method, query).await.map(|sessions| json_of(StatusCode::OK, &sessions))
            }
            ["sessions", id] => self.session(&head.method, id).await,
            ["sessions", id, "extend"] => self.extend(&head.method, id).await,
            _ => Err(AdminError::Path),
        }
    }

    async fn mode(&self, method: &Method, body: Incoming) -> Result<Modes, AdminError> {
        if method == Method::PUT {
            self.change(body).await?;
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(Modes::of(&self.registry, self.registry.inspect.past_the_limit().await))
    }

    /// Starts a drain of this replica, or reports its progress.
    fn drain(&self, method: &Method) -> Result<Drained, AdminError> {
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
            replica: self.registry.replica().to_owned(),
        })
    }

    /// Begins to record what counts as activity, or reports what was recorded.
    async fn watch(&self, method: &Method, body: Incoming) -> Result<Watched, AdminError> {
        let now = || self.registry.clock().now();
        if method == Method::PUT {
            let request: WatchRequest = json_object(body).await?;
            let lasting = duration(&request.lasting);
            let lasting = lasting.map_err(|fault| AdminError::Malformed(format!("\"for\": {}", fault.what)))?;
            if lasting > MAX_WATCH {
                return Err(AdminError::Malformed("\"for\": longer than 24h".to_owned()));
            }
            self.registry.watch.begin(now(), lasting);
        } else {
            only(method, "GET, PUT", &[Method::GET])?;
        }
        Ok(self.registry.watch.watched(now()))
    }

    /// Sets a switch. If that would cut sessions at once, the request must confirm it with `yes`.
    async fn change(&self, body: Incoming) -> Result<(), AdminError> {
        let change: ModeRequest = json_object(body).await?;
        let mode = Mode::from_name(&change.mode)
            .ok_or_else(|| AdminError::Malformed("a mode is enforce, observe or off".to_owned()))?;
        let lasting = change.lasting.as_deref().map(duration).transpose();
        let lasting = lasting.map_err(|fault| AdminError::Malformed(format!("\"for\": {}", fault.what)))?;
        if mode == Mode::Enforce && !change.yes {
            let switch = if change.fleet { Switch::Fleet } else { Switch::Replica };
            match self.registry.inspect.would_be_cut(switch).await {
                FleetReply { found: 0, silent: 0 } => {}
                FleetReply { found: count, silent } => return Err(AdminError::WouldCut { count, silent }),
            }
        }
        if change.fleet {
            let set = self.registry.modes.switch_fleet(mode, lasting).await;
            set.map_err(|error| AdminError::FleetOutOfReach(error.to_string()))?;
        } else {
            self.registry.modes.switch(Switch::Replica, mode, lasting);
        }
        Ok(())
    }

    async fn sessions(&self, method: &Method, query: &str) -> Result<ManySessions, AdminError> {
        only(method, "GET", &[Method::GET])?;
        let idle_over = query.split('&').find_map(|pair| pair.strip_prefix("idle_over="));
        let idle_over = match idle_over {
            None => 0,
            Some(text) => text
                .parse()
                .or_else(|_| duration(text).map(|duration| duration.as_secs()))
                .map_err(|fault| AdminError::NoDuration(fault.what))?,
        };
        let FleetReply { found: views, silent } = self.registry.inspect.views(idle_over, MAX_LISTED).await;
        let by = self.registry.inspect.timing();
        let sessions = views.into_iter().map(|view| OneSession::of(view, &by)).collect();
        Ok(ManySessions {
            warnings: Warnings::of(&self.registry),
            now: by.now,
            mode: self.registry.mode().name().to_owned(),
            silent,
            sessions,
        })
    }

    async fn session(&self, method: &Method, id: &str) -> Result<AdminResponse, AdminError> {
        only(method, "GET, DELETE", &[Method::GET, Method::DELETE])?;
        let digits = if method == Method::DELETE { CERTAIN_DIGITS } else { SHOWN_DIGITS };
        let id = self.id_beginning(id, digits).await?;
        let mut unsynced = false;
        if method == Method::DELETE {
            match self.registry.inspect.end_by_operator(id).await? {
                Reach::None => return Err(self.gone(id).await),
                Reach::Here => unsynced = true,
                Reach::All => {}
            }
        }
        self.explain(id, unsynced).await
    }

    /// The session id in `text`, or the only known id with that prefix. A prefix must have at least `digits` digits.
    async fn id_beginning(&self, text: &str, digits: usize) -> Result<SessionId, AdminError> {
        if let Some(id) = SessionId::from_hex(text) {
            return Ok(id);
        }
        let is_beginning = text.len() >= digits && text.len() < ID_DIGITS;
        if !is_beginning || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AdminError::NoId);
        }
        let ids = self.registry.inspect.ids_beginning(&text.to_ascii_lowercase()).await;
        match &ids[..] {
            [] => Err(self.unknown()),
            [id] => SessionId::from_hex(id).ok_or(AdminError::NoId),
            _ => Err(AdminError::Ambiguous(ids)),
        }
    }

    /// The session is unknown. A memory store knows no session from before the start, so the error says when that was.
    fn unknown(&self) -> AdminError {
        let now = self.registry.now() / 1000;
        let since = (self.registry.store_kind() == "memory").then(|| when(self.registry.started(), now));
        AdminError::Unknown {
            since,
            is_refused: self.registry.issues.are_watched() && !self.registry.issues.may_be_older(),
        }
    }

    async fn extend(&self, method: &Method, id: &str) -> Result<AdminResponse, AdminError> {
        only(method, "POST", &[Method::POST])?;
        let id = self.id_beginning(id, CERTAIN_DIGITS).await?;
        if !self.registry.inspect.extend(id).await? {
            return Err(self.gone(id).await);
        }
        self.explain(id, false).await
    }

    /// Explains a session. The status is 202 if its end is still unsynced, so that other replicas still admit it.
    async fn explain(&self, id: SessionId, unsynced: bool) -> Result<AdminResponse, AdminError> {
        let FleetReply { found: view, silent } = self.registry.inspect.view(id).await?;
        let session = OneSession::of(view.ok_or_else(|| self.unknown())?, &self.registry.inspect.timing());
        let mode = self.registry.mode().name().to_owned();
        let status = if unsynced { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok(json_of(status, &Explained { session, mode, silent, unsynced }))
    }

    /// Why a session cannot be ended or extended.
    async fn gone(&self, id: SessionId) -> AdminError {
        match self.registry.inspect.view(id).await {
            Ok(FleetReply { found: Some(_), .. }) => AdminError::Ended,
            _ => self.unknown(),
        }
    }
}

async fn json_object<T: DeserializeOwned>(body: Incoming) -> Result<T, AdminError> {
    let sent = Limited::new(body, MAX_REQUEST_BYTES).collect().await;
    let sent = sent.map_err(|error| AdminError::Malformed(error.to_string()))?.to_bytes();
    // serde would also accept an array of the values without their names.
    if !sent.trim_ascii_start().starts_with(b"{") {
        return Err(AdminError::Malformed("not a JSON object".to_owned()));
    }
    serde_json::from_slice(&sent).map_err(|error| AdminError::Malformed(error.to_string()))
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
