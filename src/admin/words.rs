//! What the `[admin]` listener says to whoever reads it: every refusal, with what to do.

use http::StatusCode;
use std::fmt;

/// Why a request is not answered as it was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The Host is somebody else's name.
    Host,
    /// The page that asks is not ours.
    Origin,
    /// The token is missing or wrong.
    Token,
    /// There is no such page.
    Path,
    /// The page is not for that method; these are.
    Method(&'static str),
    /// What was sent is not what it should be.
    Malformed(String),
    /// That is no duration.
    NoDuration(String),
    /// That is no session id.
    NoId,
    /// Nobody knows such a session.
    Unknown,
    /// It has ended already.
    Ended,
    /// The change would cut so many sessions, and nobody said yes to that.
    WouldCut(usize),
    /// The store does not answer.
    Store(String),
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Path | Self::Unknown => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) | Self::NoDuration(_) | Self::NoId => StatusCode::BAD_REQUEST,
            Self::Ended | Self::WouldCut(_) => StatusCode::CONFLICT,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What to do about it.
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            Self::Host => "open it by an address or as localhost: http://127.0.0.1:9090/",
            Self::Origin => "open the page itself, and use its buttons",
            Self::Token => "send what stands in admin.token_file: Authorization: Bearer …",
            Self::Path => "there are /, /mode, /drain, /sessions, /sessions/{id} and /events",
            Self::Method(_) => "use one of the methods in Allow",
            Self::Malformed(_) => "send JSON like {\"mode\": \"observe\", \"for\": \"30m\", \"fleet\": true}",
            Self::NoDuration(_) => "write it in seconds, or like /sessions?idle_over=30m",
            Self::NoId => {
                "a session id is 32 hexadecimal digits, as the log shows it; to start from a token: \
                           idlegate explain --token-stdin"
            }
            Self::Unknown => "it was never accepted by the app, or ended longer ago than idle.retention",
            Self::Ended => "a new login begins a new session",
            Self::WouldCut(_) => "say yes to that (--yes, or \"yes\": true), or extend those that should live on",
            Self::Store(_) => "look at the log, and run idlegate doctor",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this is not the name of this listener"),
            Self::Origin => f.write_str("another site's page has no say here"),
            Self::Token => f.write_str("the token is missing or wrong"),
            Self::Path => f.write_str("there is no such page"),
            Self::Method(allowed) => write!(f, "this page is only for {allowed}"),
            Self::Malformed(what) => write!(f, "what was sent is not understood: {what}"),
            Self::NoDuration(what) => write!(f, "idle_over is no duration: {what}"),
            Self::NoId => f.write_str("this is no session id"),
            Self::Unknown => f.write_str("nobody knows this session"),
            Self::Ended => f.write_str("this session has ended already"),
            Self::WouldCut(1) => f.write_str("one session is past the limit and would be cut at once"),
            Self::WouldCut(count) => write!(f, "{count} sessions are past the limit and would be cut at once"),
            Self::Store(cause) => f.write_str(cause),
        }
    }
}
