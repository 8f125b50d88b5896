//! What clients are told when their session ends.

use crate::session::Reason;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::Duration;

/// `[cut]`: what clients are told when their session ends, in the app's own words, by the reason of the end.
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
}

impl Cut {
    /// What is said of an end for this reason.
    #[must_use]
    pub fn words(&self, reason: Reason) -> &CutWords {
        match reason {
            Reason::Idle => &self.idle,
            Reason::Lifetime => &self.lifetime,
            Reason::Logout => &self.logout,
            Reason::Operator => &self.operator,
        }
    }
}

/// What clients are told when their session ends for one reason.
#[derive(Clone, Debug)]
pub struct CutWords {
    /// `ws_message`: the text message a tunnel's client gets before the Close.
    pub ws_message: Option<String>,
    /// `ws_code`: the Close code, 1000–1014 as far as RFC 6455 §7.4 lets an endpoint send them, or 3000–4999.
    pub ws_code: u16,
    /// `ws_reason`: the Close reason, at most 123 bytes (RFC 6455 §5.5).
    pub ws_reason: String,
    /// `http_status`: the status of the answer to a dead token.
    pub http_status: StatusCode,
    /// `http_body`: its body.
    pub http_body: String,
    /// `http_headers`: more headers for it, CORS for one.
    pub http_headers: HeaderMap,
    /// `login_url`: where a page (not an API call) is redirected instead.
    pub login_url: Option<HeaderValue>,
    /// `delay`: how long the tunnels of the session stay open after the end, for what the app still says. Only after a
    /// logout; at most a minute.
    pub delay: Duration,
}
