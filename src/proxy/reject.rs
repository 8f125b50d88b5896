//! Every fault of an exchange, and the one place where each becomes an answer and a log line.

use super::body::{self, Body};
use super::outage::Outage;
use crate::config::Cut;
use crate::metrics::Trouble;
use crate::route::NormalPath;
use http::{HeaderValue, Method, Response, StatusCode, header, request};
use std::fmt;

/// Why a request gets its answer from idlegate and not from the app.
#[derive(Debug)]
pub(super) enum Fault {
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
        cookies: Vec<String>,
    },
    /// Its body is not JSON, where a rule has to read it.
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("not found"),
            Self::Connect => f.write_str("CONNECT is not forwarded"),
            Self::Malformed(what) => write!(f, "this request is not understood: {what}"),
            Self::Coding => f.write_str("chunked is the only transfer coding that is understood"),
            Self::Ended { .. } => f.write_str("the session has ended; log in again"),
            Self::NotJson => f.write_str("the body of this request must be JSON"),
            Self::TooLarge => {
                write!(f, "the body of this request must not be larger than {} bytes", crate::token::EXAMINED_BYTES)
            }
            Self::ClientStalled => f.write_str("the request did not arrive in time"),
            Self::ClientGone => f.write_str("the request broke off"),
            Self::Unreachable(_) => f.write_str("the app behind this proxy cannot be reached"),
            Self::BadAnswer(_) => f.write_str("the app behind this proxy gave no proper answer"),
            Self::Undecided => f.write_str("it cannot be told whether this session is over; try again in a moment"),
            Self::ConnectTimedOut => f.write_str("the app behind this proxy did not accept a connection in time"),
            Self::TimedOut => f.write_str("the app behind this proxy did not answer in time"),
        }
    }
}

impl Fault {
    fn status(&self, cut: &Cut) -> StatusCode {
        match self {
            Self::Denied => StatusCode::NOT_FOUND,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Ended { .. } => cut.http_status,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_) | Self::NotJson | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::Unreachable(_) | Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::Undecided => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimedOut | Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Where the app is to blame: for what.
    pub(super) fn of_the_app(&self) -> Option<Trouble> {
        match self {
            Self::Unreachable(_) => Some(Trouble::Unreachable),
            Self::BadAnswer(_) => Some(Trouble::BadAnswer),
            Self::ConnectTimedOut => Some(Trouble::ConnectTimeout),
            Self::TimedOut => Some(Trouble::ResponseTimeout),
            _ => None,
        }
    }

    /// One line per fault. Only those of the app call for somebody, and not each of them: the first tells it.
    fn log(&self, asked: &Asked, outage: &Outage) {
        let Asked { method, path, .. } = asked;
        let (status, cause, cure) = match self {
            Self::Unreachable(cause) | Self::BadAnswer(cause) => {
                (502, Some(cause), "check that it runs and that `upstream` is right")
            }
            Self::ConnectTimedOut => (504, None, "see whether it runs and keeps up, or raise connect_timeout"),
            Self::TimedOut => (504, None, "see its log, or raise response_timeout"),
            _ => return tracing::debug!(%method, path, "refused: {self}"),
        };
        if outage.goes_on() {
            tracing::warn!(%method, path, cause, "{status}: {self}; {cure} (what fails until it answers: log = \"debug\")");
        } else {
            tracing::debug!(%method, path, cause, "{status}: {self}");
        }
    }

    /// The answer.
    pub(super) fn answer(&self, asked: &Asked, cut: &Cut, outage: &Outage) -> Response<Body> {
        self.log(asked, outage);
        if let Self::Ended { cookies } = self {
            return goodbye(asked, cut, cookies);
        }
        let mut answer = plain(self.status(cut), format!("{self}\n"), "text/plain; charset=utf-8");
        let headers = answer.headers_mut();
        if matches!(self, Self::Malformed(_) | Self::Coding) {
            // Where one thing was in doubt, where the next request begins is too.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if matches!(self, Self::Undecided) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if matches!(self, Self::Connect) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        answer
    }
}

/// The answer to a dead token, in the app's own words; for a page the way to the login.
fn goodbye(asked: &Asked, cut: &Cut, cookies: &[String]) -> Response<Body> {
    let mut answer = match &cut.login_url {
        Some(login) if asked.page && !asked.is_for(login) => {
            let mut answer = plain(StatusCode::FOUND, String::new(), "text/plain; charset=utf-8");
            answer.headers_mut().insert(header::LOCATION, login.clone());
            answer
        }
        _ => plain(cut.http_status, cut.http_body.clone(), kind_of(&cut.http_body)),
    };
    let headers = answer.headers_mut();
    for (name, value) in &cut.http_headers {
        headers.insert(name, value.clone());
    }
    if !cut.http_headers.contains_key(header::SET_COOKIE) {
        for cookie in cookies.iter().filter_map(|name| taken_away(name)) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    answer
}

/// Takes a dead cookie away from the browser: it would send it to the login as well, and be refused there.
fn taken_away(name: &str) -> Option<HeaderValue> {
    // Browsers take a `__Host-` or `__Secure-` cookie from nobody who does not say Secure.
    let secure = if name.starts_with("__") { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{name}=; Path=/; Max-Age=0{secure}")).ok()
}

fn plain(status: StatusCode, text: String, kind: &'static str) -> Response<Body> {
    let mut answer = Response::new(body::full(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What must be remembered of a request to answer it without the app.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Without the query: it may carry a token.
    path: String,
    /// Whether a person is to see the answer: a browser navigates, it does not fetch.
    page: bool,
}

impl Asked {
    pub(super) fn of(head: &request::Parts) -> Self {
        let is = |name: &str, wanted: &str| head.headers.get(name).is_some_and(|value| value == wanted);
        let html = super::headers::elements(&head.headers, &header::ACCEPT)
            .any(|kind| kind.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("text/html")));
        let readable = matches!(head.method, Method::GET | Method::HEAD);
        let navigates = is("sec-fetch-mode", "navigate") || !head.headers.contains_key("sec-fetch-mode");
        let page = readable && html && navigates;
        Self { method: head.method.clone(), path: head.uri.path().to_owned(), page }
    }

    /// Whether this is where `url` leads, on this host: sending it there again would never end.
    fn is_for(&self, url: &HeaderValue) -> bool {
        let path = url.to_str().ok().and_then(|url| url.split(['?', '#']).next());
        path.is_some_and(|path| NormalPath::of(path) == NormalPath::of(&self.path))
    }
}

fn kind_of(text: &str) -> &'static str {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        "application/json"
    } else if text.trim_start().starts_with('<') {
        "text/html; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    }
}
