//! The demo: a small app without an idle timeout, and a page that shows idlegate enforcing one.
//!
//! ```text
//!  browser ──► idlegate ──► this app
//!    page        │           /api/…        logins, uploads          (http.rs, logins.rs)
//!                │           /ws           in-band token, programs  (socket.rs, program.rs)
//!                │           /demo/watch   what idlegate knows      (watch.rs)
//!                └─ Watch ─► (same process)
//! ```
//! The app speaks the protocol of the classroom app that idlegate was written for. A login lasts until its logout.
//! Nothing in the app looks at idle time, so every idle end in the demo comes from the proxy.

mod app;
mod http;
mod logins;
mod page;
mod program;
mod report;
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

/// The configuration of the demo. `start` overrides `listen` and `upstream`.
pub const CONFIG: &str = include_str!("demo.toml");

/// What the proxy knows of a session, for the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glance {
    /// `live` or `ended`.
    pub state: &'static str,
    /// The source of the last activity, `client-pong` for one.
    pub source: &'static str,
    /// Milliseconds since the last activity.
    pub idle_ms: u64,
    /// The idle timeout in seconds.
    pub limit_seconds: u64,
    /// Open connections of the session.
    pub connections: usize,
}

/// Looks up a session by its id, without refreshing it.
pub trait Watch: Send + Sync + 'static {
    /// What is known of `session`, or `None` if it is unknown.
    fn glance(&self, session: &SessionId) -> Option<Glance>;

    /// The app has logged a user in.
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
