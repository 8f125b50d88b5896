//! Every fault of an exchange, and the one place where each becomes an answer and a log line.

use super::body::{self, Body};
use crate::config::Cut;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request};
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
    Ended,
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
            Self::Ended => f.write_str("the session has ended; log in again"),
            Self::NotJson => f.write_str("the body of this request must be JSON"),
            Self::TooLarge => {
                write!(f, "the body of this request must not be larger than {} bytes", crate::token::EXAMINED_BYTES)
            }
            Self::ClientStalled => f.write_str("the request did not arrive in time"),
            Self::ClientGone => f.write_str("the request broke off"),
            Self::Unreachable(_) => f.write_str("the app behind this proxy cannot be reached"),
            Self::BadAnswer(_) => f.write_str("the app behind this proxy gave no proper answer"),
            Self::TimedOut => f.write_str("the app behind this proxy did not answer in time"),
        }
    }
}

impl Fault {
    fn status(&self, cut: &Cut) -> StatusCode {
        match self {
            Self::Denied => StatusCode::NOT_FOUND,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Ended => cut.http_status,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::Malformed(_) | Self::NotJson | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::Unreachable(_) | Self::BadAnswer(_) => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// One line per fault; only those of the app call for somebody.
    fn log(&self, asked: &Asked) {
        let Asked { method, path, .. } = asked;
        match self {
            Self::Unreachable(cause) | Self::BadAnswer(cause) => {
                tracing::warn!(%method, path, cause, "502: {self}; check that it runs and that `upstream` is right");
            }
            Self::TimedOut => tracing::warn!(%method, path, "504: {self}; see its log, or raise response_timeout"),
            _ => tracing::debug!(%method, path, "refused: {self}"),
        }
    }

    /// The answer.
    pub(super) fn answer(&self, asked: &Asked, cut: &Cut) -> Response<Body> {
        self.log(asked);
        let (text, kind, more) = match self {
            Self::Ended => match &cut.login_url {
                Some(login) if asked.page => return redirect(login, &cut.http_headers),
                _ => (cut.http_body.clone(), kind_of(&cut.http_body), Some(&cut.http_headers)),
            },
            _ => (format!("{self}\n"), "text/plain; charset=utf-8", None),
        };
        let mut answer = Response::new(body::full(text));
        *answer.status_mut() = self.status(cut);
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(self, Self::Connect) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        overwrite(headers, more);
        answer
    }
}

/// What must be remembered of a request to answer it without the app.
#[derive(Debug)]
pub(super) struct Asked {
    method: Method,
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
}

fn redirect(login: &HeaderValue, more: &HeaderMap) -> Response<Body> {
    let mut answer = Response::new(body::full(String::new()));
    *answer.status_mut() = StatusCode::FOUND;
    let headers = answer.headers_mut();
    headers.insert(header::LOCATION, login.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    overwrite(headers, Some(more));
    answer
}

fn overwrite(headers: &mut HeaderMap, more: Option<&HeaderMap>) {
    for (name, value) in more.into_iter().flatten() {
        headers.insert(name, value.clone());
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
