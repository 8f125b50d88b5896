//! What clients receive when their session ends, or when they come without a token that is required.

use crate::route::PathSet;
use crate::session::Reason;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::Duration;

/// `[cut]`: what clients receive when they are cut or refused, in the app's own words, by the reason.
#[derive(Clone, Debug)]
pub struct Cut {
    /// `[cut.idle]`
    pub idle: CutWords,
    /// `[cut.lifetime]`
    pub lifetime: CutWords,
    /// `[cut.logout]`
    pub logout: CutWords,
    /// `[cut.operator]`
    pub operator: CutWords,
    /// `[cut.missing]`: without a token that a rule requires.
    pub missing: CutWords,
    /// `[cut.unknown]`: with a token that the app was not seen to hand out.
    pub unknown: CutWords,
    /// The paths of every `login_url` on this host. A client without a token must get there.
    pub logins: PathSet,
}

impl Cut {
    /// The words for this reason.
    #[must_use]
    pub fn words(&self, reason: Reason) -> &CutWords {
        match reason {
            Reason::Idle => &self.idle,
            Reason::Lifetime => &self.lifetime,
            Reason::Logout => &self.logout,
            Reason::Operator => &self.operator,
        }
    }

    /// The words for every reason.
    #[must_use]
    pub fn all_words(&self) -> [&CutWords; 6] {
        [&self.idle, &self.lifetime, &self.logout, &self.operator, &self.missing, &self.unknown]
    }
}

/// Stands in a `login_url` for the page to return to after the login.
pub const PAGE_PLACEHOLDER: &str = "{path}";

/// How a WebSocket handshake is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeRefusal {
    /// It is accepted; then come `ws_message` and the Close. The only way in which a page can read why.
    Message,
    /// With `http_status`, like any request.
    Status,
}

/// What clients receive for one reason.
#[derive(Clone, Debug)]
pub struct CutWords {
    /// `ws_message`: the text message a tunnel's client gets before the Close.
    pub ws_message: Option<String>,
    /// `ws_code`: the Close code, one that an endpoint may send (RFC 6455 §7.4): from 1000 to 1014, or 3000 to 4999.
    pub ws_code: u16,
    /// `ws_reason`: the Close reason, at most 123 bytes (RFC 6455 §5.5).
    pub ws_reason: String,
    /// `http_status`: the status of a refusal.
    pub http_status: StatusCode,
    /// `http_body`: its body. `None`: a page for a person, and JSON for a program.
    pub http_body: Option<String>,
    /// `http_headers`: more headers for it, CORS for one.
    pub http_headers: HeaderMap,
    /// `ws_refuse`, where it is given, see [`Self::handshake_refusal`].
    pub ws_refuse: Option<HandshakeRefusal>,
    /// `login_url`: where a page (not an API call) is redirected instead. It may have [`PAGE_PLACEHOLDER`] in its query.
    pub login_url: Option<String>,
    /// `clear_site_data`: the value of `Clear-Site-Data` in the answer to a page whose session has ended.
    pub clear_site_data: Option<HeaderValue>,
    /// `delay`: how long the session's tunnels stay open after the end, for the app's last messages. Only after a
    /// logout; up to a minute.
    pub delay: Duration,
}

impl CutWords {
    /// How a WebSocket handshake is refused: with a message, if there is one and nothing else is said.
    #[must_use]
    pub fn handshake_refusal(&self) -> HandshakeRefusal {
        let default = if self.ws_message.is_some() { HandshakeRefusal::Message } else { HandshakeRefusal::Status };
        self.ws_refuse.unwrap_or(default)
    }
}

/// The path of a `login_url`, without its query.
pub(crate) fn login_path(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}
