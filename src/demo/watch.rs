//! `GET /demo/watch`: what idlegate knows of a session, twice a second, as Server-Sent Events.
//!
//! The request carries a session id and no token, so watching does not refresh the session.

use super::app::App;
use crate::session::SessionId;
use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Interval;

const INTERVAL: Duration = Duration::from_millis(500);

/// An endless body: one event at once, then one per interval.
pub(super) struct WatchBody {
    app: Arc<App>,
    session: Option<SessionId>,
    tick: Interval,
}

impl WatchBody {
    /// Watches the session whose id is in `query`.
    pub(super) fn new(app: Arc<App>, query: &str) -> Self {
        let session = query.split('&').find_map(|pair| pair.strip_prefix("session=")).and_then(SessionId::from_hex);
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        Self { app, session, tick }
    }

    /// `app_login`: whether the app itself would still accept the token.
    fn event(&self) -> Value {
        let app_login = self.session.as_ref().is_some_and(|session| self.app.logins.holds(session));
        match self.session.as_ref().and_then(|session| self.app.watch.glance(session)) {
            Some(glance) => json!({
                "state": glance.state,
                "source": glance.source,
                "idle_ms": glance.idle_ms,
                "limit_seconds": glance.limit_seconds,
                "connections": glance.connections,
                "app_login": app_login,
            }),
            None => json!({ "state": "unknown", "app_login": app_login }),
        }
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.tick.poll_tick(context));
        let event = format!("data: {}\n\n", self.event());
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}
