//! The one place where a fault of an exchange becomes an answer and a log line. The words: [`crate::refusal`].

use super::body::{self, Body};
use super::outage::Outage;
use crate::cut::{Cut, CutWords};
use crate::metrics::UpstreamFailure;
use crate::refusal::ProxyError;
use crate::route::NormalPath;
use http::{HeaderValue, Method, Response, StatusCode, header, request};

impl ProxyError {
    /// Where the app is to blame: for what.
    pub(super) fn upstream_failure(&self) -> Option<UpstreamFailure> {
        match self {
            Self::Unreachable(_) => Some(UpstreamFailure::Unreachable),
            Self::BadAnswer(_) => Some(UpstreamFailure::BadAnswer),
            Self::ConnectTimedOut => Some(UpstreamFailure::ConnectTimeout),
            Self::TimedOut => Some(UpstreamFailure::ResponseTimeout),
            _ => None,
        }
    }

    /// One log line per error. Only errors of the app need a person, and not each of them: the first one is logged as
    /// WARN.
    fn log(&self, summary: &RequestSummary, status: u16, outage: &Outage) {
        let RequestSummary { method, path, .. } = summary;
        let Some(fix) = self.fix() else {
            return tracing::debug!(%method, path, "refused: {self}");
        };
        let cause = match self {
            Self::Unreachable(cause) | Self::BadAnswer(cause) => Some(cause),
            _ => None,
        };
        if outage.goes_on() {
            tracing::warn!(%method, path, cause, "{status}: {self}; {fix} (what fails until it answers: log = \"debug\")");
        } else {
            tracing::debug!(%method, path, cause, "{status}: {self}");
        }
    }

    /// The answer.
    pub(super) fn answer(&self, summary: &RequestSummary, cut: &Cut, outage: &Outage) -> Response<Body> {
        let status = self.status(cut);
        self.log(summary, status.as_u16(), outage);
        if let Some(words) = self.words(cut) {
            return in_words(self, summary, words);
        }
        let mut answer = match summary.reader {
            Audience::Person => own(status, page(self, None), "text/html; charset=utf-8"),
            Audience::Program => own(status, self.json(), "application/json"),
            Audience::Unknown => own(status, format!("{self}\n"), "text/plain; charset=utf-8"),
        };
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

/// The answer to a refusal that is about a token, in the operator's words; for a page the way to the login.
fn in_words(error: &ProxyError, summary: &RequestSummary, words: &CutWords) -> Response<Body> {
    let mut answer = match (&words.login_url, &words.http_body) {
        (Some(login), _) if summary.is_for_a_page() && !summary.leads_to(login) => {
            let mut answer = own(StatusCode::FOUND, String::new(), "text/plain; charset=utf-8");
            answer.headers_mut().insert(header::LOCATION, login.clone());
            answer
        }
        (_, Some(body)) => own(words.http_status, body.clone(), kind_of(body)),
        (_, None) if summary.reader == Audience::Person => {
            own(words.http_status, page(error, words.login_url.as_ref()), "text/html; charset=utf-8")
        }
        (_, None) => own(words.http_status, error.json(), "application/json"),
    };
    let headers = answer.headers_mut();
    for (name, value) in &words.http_headers {
        headers.insert(name, value.clone());
    }
    let cookies = error.cookies();
    if matches!(error, ProxyError::Missing { .. }) && cookies.is_empty() {
        // The browser has none, or kept it back.
        headers.remove(header::SET_COOKIE);
    } else if !headers.contains_key(header::SET_COOKIE) {
        for cookie in cookies.iter().filter_map(|name| taken_away(name)) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    answer
}

/// Takes a dead cookie away from the browser: it would send it to the login as well, and be refused there.
fn taken_away(name: &str) -> Option<HeaderValue> {
    // Browsers accept a `__Host-` or `__Secure-` cookie only with Secure.
    let secure = if name.starts_with("__") { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{name}=; Path=/; Max-Age=0{secure}")).ok()
}

/// The response for a person in front of a browser, with a link to the login. It contains nothing that a client sent.
fn page(error: &ProxyError, login: Option<&HeaderValue>) -> String {
    let (title, advice) = error.for_people();
    let login = login.and_then(|login| login.to_str().ok()).map_or_else(String::new, |url| {
        let url = url.replace('&', "&amp;").replace('"', "&quot;");
        format!("<p><a href=\"{url}\">Log in</a></p>\n")
    });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:18vh auto;padding:0 1rem}}</style>\n\
         <h1>{title}</h1>\n<p>{advice}</p>\n{login}"
    )
}

fn own(status: StatusCode, text: String, kind: &'static str) -> Response<Body> {
    let mut answer = Response::new(body::full(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// What must be remembered of a request to answer it without the app.
#[derive(Debug)]
pub(super) struct RequestSummary {
    pub(super) method: Method,
    /// Without the query: it may carry a token.
    path: String,
    reader: Audience,
}

/// Who reads the response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audience {
    /// A person in front of a browser: a navigation, not a fetch.
    Person,
    /// A program that takes JSON.
    Program,
    /// Unknown.
    Unknown,
}

impl RequestSummary {
    pub(super) fn of(head: &request::Parts) -> Self {
        let is = |name: &str, wanted: &str| head.headers.get(name).is_some_and(|value| value == wanted);
        let takes = |kind: &str| {
            super::headers::elements(&head.headers, &header::ACCEPT)
                .any(|one| one.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)))
        };
        let navigates = is("sec-fetch-mode", "navigate") || !head.headers.contains_key("sec-fetch-mode");
        let reader = if navigates && takes("text/html") {
            Audience::Person
        } else if takes("application/json") {
            Audience::Program
        } else {
            Audience::Unknown
        };
        Self { method: head.method.clone(), path: head.uri.path().to_owned(), reader }
    }

    /// Whether a person opens a page. A form that was sent is not sent again to the login.
    fn is_for_a_page(&self) -> bool {
        self.reader == Audience::Person && matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether this is where `url` leads, on this host: sending it there again would never end.
    fn leads_to(&self, url: &HeaderValue) -> bool {
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
