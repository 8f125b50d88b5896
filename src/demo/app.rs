//! The app: what all its connections share.

use super::Watch;
use super::logins::Logins;
use crate::session::SessionId;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all connections share.
pub(super) struct App {
    pub(super) logins: Logins,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) stop: CancellationToken,
}

impl App {
    pub(super) fn new(watch: Arc<dyn Watch>, stop: CancellationToken) -> Self {
        Self { logins: Logins::default(), watch, stop }
    }

    /// Lets a user in, and issues a token.
    pub(super) fn let_in(&self, username: &str) -> String {
        let token = self.logins.begin(username);
        self.watch.logged_in(username, SessionId::of_token(token.as_bytes()));
        token
    }
}
