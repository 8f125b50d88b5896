//! The state shared by all connections of the app.

use super::Watch;
use super::logins::Logins;
use crate::session::SessionId;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The app.
pub(super) struct App {
    pub(super) logins: Logins,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) stop: CancellationToken,
}

impl App {
    pub(super) fn new(watch: Arc<dyn Watch>, stop: CancellationToken) -> Self {
        Self { logins: Logins::default(), watch, stop }
    }

    /// Logs a user in and issues a token.
    pub(super) fn log_in(&self, username: &str) -> String {
        let token = self.logins.begin(username);
        self.watch.logged_in(username, SessionId::of_token(token.as_bytes()));
        token
    }
}
