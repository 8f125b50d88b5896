//! The demo: a small app that has no idle timeout at all, and a page that shows what idlegate makes of it.
//!
//! ```text
//!  browser ──► idlegate ──► this app
//!    page        │           /api/…        logins, uploads          (http.rs, logins.rs)
//!                │           /ws           in-band token, programs  (socket.rs, program.rs)
//!                │           /demo/watch   what idlegate sees       (watch.rs)
//!                └─ Watch ─► (same process)
//! ```
//! The app speaks the wire of the classroom app that idlegate was written for. A login lasts until its logout, and
//! nothing here looks at idle time: whatever ends a session in the demo, it was the proxy.

mod app;
mod events;
mod http;
mod logins;
mod page;
mod program;
mod socket;
mod start;
#[cfg(test)]
mod tests;
mod watch;

pub use start::{Demo, start};

use crate::accept::Accepting;
use crate::session::SessionId;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The configuration of the demo. Its caller overrides `listen` and `upstream`.
pub const CONFIG: &str = include_str!("demo.toml");

/// What the proxy knows of a session, for the page to show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glance {
    /// `live` or `ended`.
    pub state: &'static str,
    /// The source of the last activity, `client-pong` for one.
    pub source: &'static str,
    /// Milliseconds since the last activity.
    pub idle_ms: u64,
    /// How many idle seconds are allowed.
    pub limit_seconds: u64,
    /// Open connections of the session.
    pub connections: usize,
}

/// Looks a session up by its session id, without touching it.
pub trait Watch: Send + Sync + 'static {
    /// What is known of `session`; `None` where nothing is.
    fn glance(&self, session: &SessionId) -> Option<Glance>;

    /// The app has let a user in, by a session id of its own.
    fn logged_in(&self, _username: &str, _session: SessionId) {}
}

/// Serves the bundled app on `listener` until the future is dropped.
pub async fn serve(listener: TcpListener, watch: Arc<dyn Watch>) -> Infallible {
    let stop = CancellationToken::new();
    let _stops_every_connection_when_dropped = stop.clone().drop_guard();
    let app = Arc::new(app::App::new(watch, stop.clone()));
    let mut accepting = Accepting::default();
    loop {
        if let Some((stream, _)) = accepting.take(listener.accept().await).await {
            let connection = http::serve_connection(stream, Arc::clone(&app));
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(connection).await });
        }
    }
}
