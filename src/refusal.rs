//! Every refusal that idlegate sends over HTTP, with its status and its words: for users and their programs in place of
//! the app's response, and for operators.

use crate::counted::counted;
use crate::cut::{Cut, CutWords};
use crate::session::Reason;
use http::StatusCode;
use std::fmt;

/// A cookie to remove from the browser, which would send it to the login as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeadCookie {
    pub(crate) name: String,
    /// A rule requires the token that it carries.
    pub(crate) is_required: bool,
}

/// Why a request gets its answer from idlegate and not from the app.
#[derive(Debug)]
pub(crate) enum ProxyError {
    /// Its path is denied.
    Denied,
    /// CONNECT is never forwarded.
    Connect,
    /// It could be understood in two ways.
    Malformed(&'static str),
    /// Its body is in a transfer coding beyond chunked.
    Coding,
    /// A token in it is dead.
    Ended {
        /// The cookies that carried one.
        cookies: Vec<DeadCookie>,
        /// Why its session ended.
        reason: Reason,
    },
    /// It has no token, and a rule requires one.
    Missing {
        /// The cookies that such rules look for. A client may still have one that no rule reads as a token.
        cookies: Vec<DeadCookie>,
    },
    /// Its token is unknown, and only those that the app was seen to hand out pass.
    Unknown {
        /// The cookies that carried one.
        cookies: Vec<DeadCookie>,
    },
    /// Its body is not JSON, and a rule must read it.
    NotJson,
    /// Its body is larger than what is examined.
    TooLarge,
    /// The client stopped sending its request.
    ClientStalled,
    /// The request broke off.
    ClientGone,
    /// The app does not accept connections.
    Unreachable(String),
    /// The app broke off, or does not speak HTTP.
    BadAnswer(String),
    /// The store does not answer, and unknown tokens are refused meanwhile.
    Undecided,
    /// The app did not accept a connection in time.
    ConnectTimedOut,
    /// The app did not begin its answer in time.
    TimedOut,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("not found"),
            Self::Connect => f.write_str("CONNECT is not forwarded"),
            Self::Malformed(what) => write!(f, "this request is not understood: {what}"),
            Self::Coding => f.write_str("chunked is the only transfer coding that is understood"),
            Self::Ended { .. } => f.write_str("the session has ended; log in again"),
            Self::Missing { .. } => f.write_str("this request needs a session token; log in first"),
            Self::Unknown { .. } => f.write_str("the session token of this request is not known; log in again"),
            Self::NotJson => f.write_str("the body of this request must be JSON"),
            Self::TooLarge => {
                write!(f, "the body of this request must not be larger than {} bytes", crate::token::MAX_EXAMINED_BYTES)
            }
            Self::ClientStalled => f.write_str("the request did not arrive in time"),
            Self::ClientGone => f.write_str("the request broke off"),
            Self::Unreachable(_) => f.write_str("the app behind this proxy cannot be reached"),
            Self::BadAnswer(_) => f.write_str("the app behind this proxy gave no proper answer"),
            Self::Undecided => {
                f.write_str("whether this session has ended cannot be checked now; try again in a moment")
            }
            Self::ConnectTimedOut => f.write_str("the app behind this proxy did not accept a connection in time"),
            Self::TimedOut => f.write_str("the app behind this proxy did not answer in time"),
        }
    }
}

impl ProxyError {
    /// The operator's words for a refusal that is about a token.
    pub(crate) fn words<'c>(&self, cut: &'c Cut) -> Option<&'c CutWords> {
        match self {
            Self::Ended { reason, .. } => Some(cut.words(*reason)),
            Self::Missing { .. } => Some(&cut.missing),
            Self::Unknown { .. } => Some(&cut.unknown),
            _ => None,
        }
    }

    /// The cookies to remove from the browser.
    pub(crate) fn cookies(&self) -> &[DeadCookie] {
        match self {
            Self::Ended { cookies, .. } | Self::Missing { cookies } | Self::Unknown { cookies } => cookies,
            _ => &[],
        }
    }

    /// The JSON for a program, where the operator has no words of their own.
    pub(crate) fn json(&self) -> String {
        match self {
            // As it always was.
            Self::Ended { .. } => r#"{"error":"session ended"}"#.to_owned(),
            _ => serde_json::json!({ "error": self.name(), "message": self.to_string() }).to_string(),
        }
    }

    /// The status of the answer; of a refusal that is about a token the operator's own.
    pub(crate) fn status(&self, cut: &Cut) -> StatusCode {
        match self {
            Self::Denied => StatusCode::NOT_FOUND,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Ended { reason, .. } => cut.words(*reason).http_status,
            Self::Missing { .. } => cut.missing.http_status,
            Self::Unknown { .. } => cut.unknown.http_status,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_) | Self::NotJson | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::Unreachable(_) | Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::Undecided => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimedOut | Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// What a person in front of a browser reads: what happened, and what to do. Nothing about how this site is built.
    pub(crate) fn for_people(&self) -> (&'static str, &'static str) {
        match self {
            Self::Denied => ("There is nothing here", "Check the address, or go back to where you came from."),
            Self::Ended { .. } => ("Your session has ended", "Log in again to go on."),
            Self::Missing { .. } => ("You are not logged in", "Log in to go on."),
            Self::Unknown { .. } => ("You are not logged in any more", "Log in again to go on."),
            Self::Unreachable(_) | Self::BadAnswer(_) => {
                ("This site does not work right now", "It is not your fault. Try again in a minute.")
            }
            Self::ConnectTimedOut | Self::TimedOut => {
                ("This site takes too long to answer", "It may be busy. Try again in a minute.")
            }
            Self::Undecided => {
                ("Please try again in a moment", "We cannot check right now whether you are still logged in.")
            }
            Self::ClientStalled | Self::ClientGone => {
                ("Your request did not arrive", "Check your connection, and try again.")
            }
            Self::Connect | Self::Malformed(_) | Self::Coding | Self::NotJson | Self::TooLarge => {
                ("This request was not understood", "Go back, and try again.")
            }
        }
    }

    /// For programs: names that do not change. The log and the metrics know the causes.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Denied => "not-found",
            Self::Connect => "method-not-allowed",
            Self::Malformed(_) => "malformed",
            Self::Coding => "transfer-coding",
            Self::Ended { .. } => "session-ended",
            Self::Missing { .. } => "token-missing",
            Self::Unknown { .. } => "token-unknown",
            Self::NotJson => "not-json",
            Self::TooLarge => "too-large",
            Self::ClientStalled => "request-timeout",
            Self::ClientGone => "broken-off",
            Self::Unreachable(_) => "app-unreachable",
            Self::BadAnswer(_) => "app-bad-answer",
            Self::Undecided => "undecided",
            Self::ConnectTimedOut => "app-connect-timeout",
            Self::TimedOut => "app-response-timeout",
        }
    }

    /// What an operator reads in the log, beside the words: what to do about the app.
    pub(crate) fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable(_) | Self::BadAnswer(_) => Some("check that it runs and that `upstream` is right"),
            Self::ConnectTimedOut => Some("see whether it runs and keeps up, or raise connect_timeout"),
            Self::TimedOut => Some("see its log, or raise response_timeout"),
            _ => None,
        }
    }
}

/// Why a request of an operator is not answered as it was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AdminError {
    /// The Host names another site.
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
    /// There is no such session; for a store in memory, since when; and whether some rule refuses unknown tokens.
    Unknown { since: Option<String>, is_refused: bool },
    /// Several begin with these digits.
    Ambiguous(Vec<String>),
    /// It has ended already.
    Ended,
    /// The change would cut this many sessions, and more on this many replicas that did not answer; the operator has
    /// not confirmed it.
    WouldCut { count: usize, silent: u64 },
    /// The store does not answer.
    Store(String),
    /// Nor can the switch of the fleet be set there.
    FleetOutOfReach(String),
}

impl AdminError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Path | Self::Unknown { .. } => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) | Self::NoDuration(_) | Self::NoId => StatusCode::BAD_REQUEST,
            Self::Ended | Self::WouldCut { .. } | Self::Ambiguous(_) => StatusCode::CONFLICT,
            Self::Store(_) | Self::FleetOutOfReach(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What to do about it.
    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Host => {
                "open it by an address or as localhost: http://127.0.0.1:9090/; the same as Host on a Unix socket"
            }
            Self::Origin => "open the page itself, and use its buttons",
            Self::Token => {
                "send what stood in admin.token_file when idlegate started (another one is in force after a restart): \
                 Authorization: Bearer …"
            }
            Self::Path => "there are /, /mode, /drain, /watch, /sessions, /sessions/{id} and /events",
            Self::Method(_) => "use one of the methods in Allow",
            Self::Malformed(_) => "send JSON like {\"mode\": \"observe\", \"for\": \"30m\", \"fleet\": true}",
            Self::NoDuration(_) => "write it in seconds, or like /sessions?idle_over=30m",
            Self::NoId => {
                "a session id is 32 hexadecimal digits, as the log shows it; the first 4 are enough to explain it, the first 8 to \
                 end or extend it. To start from a token: idlegate explain --token-stdin"
            }
            Self::Unknown { is_refused: true, .. } => "log in again, or admit it: idlegate extend ID",
            Self::Unknown { since: None, .. } => {
                "it was never accepted by the app, or ended longer ago than idle.retention"
            }
            Self::Unknown { since: Some(_), .. } => {
                "a store in memory forgets all sessions at a restart. It may have been one from before; its token begins a \
                 new one when the app accepts it. For sessions that outlive a restart: store.url"
            }
            Self::Ambiguous(_) => "write more digits",
            Self::Ended => "a new login begins a new session",
            Self::WouldCut { .. } => "say yes to that (--yes, or \"yes\": true), or extend those that should live on",
            Self::Store(_) => "look at the log, and run idlegate doctor",
            Self::FleetOutOfReach(_) => "leave out --fleet (or \"fleet\": true) to switch this replica alone, at once",
        }
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this is not the name of this listener"),
            Self::Origin => f.write_str("another site's page has no say here"),
            Self::Token => f.write_str("the token is missing or wrong"),
            Self::Path => f.write_str("there is no such page"),
            Self::Method(allowed) => write!(f, "this page is only for {allowed}"),
            Self::Malformed(what) => write!(f, "what was sent is not understood: {what}"),
            Self::NoDuration(what) => write!(f, "idle_over: {what}"),
            Self::NoId => f.write_str("this is no session id"),
            Self::Unknown { is_refused: true, .. } => {
                f.write_str(
                    "there is no such session: its token was never seen issued here, and rules with unknown = \"refuse\" refuse it",
                )
            }
            Self::Unknown { since: None, .. } => f.write_str("there is no such session"),
            Self::Unknown { since: Some(since), .. } => {
                write!(f, "there is no such session since idlegate started, {since}")
            }
            Self::Ambiguous(ids) => write!(f, "several session ids begin like that: {}", ids.join(", ")),
            Self::Ended => f.write_str("this session has ended already"),
            Self::WouldCut { count, silent } => would_cut(*count, *silent, f),
            Self::Store(cause) | Self::FleetOutOfReach(cause) => f.write_str(cause),
        }
    }
}

fn would_cut(count: usize, silent: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let who = || format!("{} did not answer, and may have", counted(silent, "replica"));
    match (count, silent) {
        (0, _) => write!(f, "{} sessions that would be cut at once", who()),
        (1, _) => f.write_str("one session is past the limit and would be cut at once"),
        _ => write!(f, "{count} sessions are past the limit and would be cut at once"),
    }?;
    if count > 0 && silent > 0 { write!(f, "; {} more", who()) } else { Ok(()) }
}
