//! The one place where a fault of an exchange becomes an answer and a log line. The words: [`crate::refusal`].

use super::Proxy;
use super::audience::{Audience, RequestSummary};
use super::body::{self, Body};
use super::outage::Outage;
use crate::config::Reloadable;
use crate::cut::CutWords;
use crate::metrics::UpstreamFailure;
use crate::refusal::ProxyError;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

const JSON: &str = "application/json";

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

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
        let (method, path) = (&summary.method, summary.path());
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
}

impl Proxy {
    /// The answer to a request that does not reach the app, or that the app did not answer.
    pub(super) fn reject(&self, error: &ProxyError, summary: &RequestSummary, settings: &Reloadable) -> Response<Body> {
        let status = error.status(&settings.cut);
        error.log(summary, status.as_u16(), &self.outage);
        let mut answer = match error.words(&settings.cut) {
            Some(words) => self.in_words(error, summary, words),
            None => in_our_words(error, summary, status),
        };
        if let Some(origin) = summary.origin.as_ref().filter(|origin| settings.cors.contains(origin)) {
            let headers = answer.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        answer
    }

    /// The answer to a refusal that is about a token, in the operator's words; for a page the way to the login.
    fn in_words(&self, error: &ProxyError, summary: &RequestSummary, words: &CutWords) -> Response<Body> {
        let is_page = summary.is_for_a_page();
        let login = words.login_url.as_deref().filter(|_| is_page);
        let login = login.map(|url| summary.login(url, self.tokens.read_queries()));
        let redirect = login.as_deref().filter(|login| !summary.leads_to(login));
        let mut answer = match (redirect.and_then(|login| HeaderValue::from_str(login).ok()), &words.http_body) {
            (Some(login), _) => {
                // What a form has sent is not sent again to the login (RFC 9110 §15.4.4).
                let status = if summary.only_reads() { StatusCode::FOUND } else { StatusCode::SEE_OTHER };
                let mut answer = own(status, String::new(), "text/plain; charset=utf-8");
                answer.headers_mut().insert(header::LOCATION, login);
                answer
            }
            // JSON is for scripts.
            (None, Some(body)) if !(is_page && kind_of(body) == JSON) => {
                own(words.http_status, body.clone(), kind_of(body))
            }
            (None, _) if is_page => own(words.http_status, page(error, login.as_deref()), "text/html; charset=utf-8"),
            (None, _) => own(words.http_status, error.json(), JSON),
        };
        let headers = answer.headers_mut();
        for (name, value) in &words.http_headers {
            headers.insert(name, value.clone());
        }
        self.remove_cookies(error, summary, headers);
        // At its first visit a browser has nothing to clear but what it needs for the login.
        let is_over = is_page && !matches!(error, ProxyError::Missing { .. });
        if let Some(kinds) = words.clear_site_data.as_ref().filter(|_| is_over) {
            headers.insert(CLEAR_SITE_DATA, kinds.clone());
        }
        answer
    }

    /// Takes dead cookies away from the browser. A script that is answered keeps its page in front of the person: if that lost
    /// the token of an ended session, it could go on without one. So a script keeps it, unless the rule requires a token.
    /// Without a session there is nothing to go on with.
    fn remove_cookies(&self, error: &ProxyError, summary: &RequestSummary, headers: &mut HeaderMap) {
        let (is_page, had_session) = (summary.is_for_a_page(), matches!(error, ProxyError::Ended { .. }));
        let mut removed =
            error.cookies().iter().filter(|cookie| is_page || !had_session || cookie.is_required).peekable();
        if removed.peek().is_none() && (!is_page || matches!(error, ProxyError::Missing { .. })) {
            // The browser has none, kept it back, or must keep it.
            headers.remove(header::SET_COOKIE);
        } else if !headers.contains_key(header::SET_COOKIE) {
            for line in removed.flat_map(|cookie| self.set_cookies.removals(cookie, summary.path())) {
                headers.append(header::SET_COOKIE, line);
            }
        }
    }
}

/// The answer to all other refusals.
fn in_our_words(error: &ProxyError, summary: &RequestSummary, status: StatusCode) -> Response<Body> {
    let mut answer = match summary.reader {
        Audience::Person => own(status, page(error, None), "text/html; charset=utf-8"),
        Audience::Program => own(status, error.json(), JSON),
        Audience::Unknown => own(status, format!("{error}\n"), "text/plain; charset=utf-8"),
    };
    let headers = answer.headers_mut();
    if matches!(error, ProxyError::Malformed(_) | ProxyError::Coding) {
        // Where one thing was in doubt, where the next request begins is too.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if matches!(error, ProxyError::Undecided) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if matches!(error, ProxyError::Connect) {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    answer
}

/// The response for a person in front of a browser, with a link to the login. It contains nothing that a client sent, but for
/// the percent-encoded page to return to.
fn page(error: &ProxyError, login: Option<&str>) -> String {
    let (title, advice) = error.for_people();
    let login = login.map_or_else(String::new, |url| {
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

fn kind_of(text: &str) -> &'static str {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        JSON
    } else if text.trim_start().starts_with('<') {
        "text/html; charset=utf-8"
    } else {
        "text/plain; charset=utf-8"
    }
}
