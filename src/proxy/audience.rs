//! What must be remembered of a request to answer it without the app: who reads the answer, and where they come from.

use crate::cut::{PAGE_PLACEHOLDER, login_path};
use crate::route::NormalPath;
use http::{HeaderValue, Method, Uri, header, request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// How long the page to return to may be, in bytes: it becomes part of a URL again.
const MAX_PAGE_BYTES: usize = 2048;

/// All but what needs no encoding in a query (RFC 3986 §2.3), and the slash.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A request without its body. All of it is shared with the request, and costs no copy.
#[derive(Debug)]
pub(super) struct RequestSummary {
    pub(super) method: Method,
    target: Uri,
    pub(super) reader: Audience,
    host: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    /// The site whose script asks.
    pub(super) origin: Option<HeaderValue>,
}

/// Who reads the response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    /// A person in front of a browser: a navigation, not a fetch.
    Person,
    /// A program that takes JSON.
    Program,
    /// Unknown.
    Unknown,
}

impl RequestSummary {
    pub(super) fn of(head: &request::Parts) -> Self {
        let field = |name| head.headers.get(name).cloned();
        let takes = |kind: &str| {
            super::headers::elements(&head.headers, &header::ACCEPT)
                .any(|one| one.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind)))
        };
        let navigates = match head.headers.get("sec-fetch-mode") {
            Some(mode) => mode == "navigate",
            // Browsers send it over TLS alone, and libraries of scripts often send the other.
            None => !head.headers.contains_key("x-requested-with"),
        };
        let reader = if navigates && takes("text/html") {
            Audience::Person
        } else if takes("application/json") {
            Audience::Program
        } else {
            Audience::Unknown
        };
        Self {
            method: head.method.clone(),
            target: head.uri.clone(),
            reader,
            host: field(header::HOST),
            referer: field(header::REFERER),
            origin: field(header::ORIGIN),
        }
    }

    /// Without the query: it may carry a token.
    pub(super) fn path(&self) -> &str {
        self.target.path()
    }

    /// Whether a person opens a page, or sends a form.
    pub(super) fn is_for_a_page(&self) -> bool {
        self.reader == Audience::Person
    }

    /// Whether nothing is sent but the wish to see a page.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether this is where `url` leads, on this host: sending it there again would never end.
    pub(super) fn leads_to(&self, url: &str) -> bool {
        self.only_reads() && NormalPath::of(login_path(url)) == NormalPath::of(self.path())
    }

    /// The `login_url`, with the page to return to where it asks for it.
    pub(super) fn login(&self, url: &str, has_tokens_in_query: bool) -> String {
        if !url.contains(PAGE_PLACEHOLDER) {
            return url.to_owned();
        }
        let page = self.page(has_tokens_in_query).unwrap_or_else(|| "/".to_owned());
        url.replace(PAGE_PLACEHOLDER, &utf8_percent_encode(&page, ENCODED).to_string())
    }

    /// The page that a person was on, of this site alone. For a form it is the page that it was on: where a form is sent
    /// there may be nothing to see.
    fn page(&self, has_tokens_in_query: bool) -> Option<String> {
        let from;
        let uri = if self.only_reads() {
            &self.target
        } else {
            from = self.referer.as_ref()?.to_str().ok()?.parse::<Uri>().ok()?;
            let host = self.host.as_ref()?.to_str().ok()?;
            from.authority().filter(|site| site.as_str().eq_ignore_ascii_case(host))?;
            &from
        };
        let page = match uri.query() {
            Some(query) if !has_tokens_in_query => format!("{}?{query}", uri.path()),
            _ => uri.path().to_owned(),
        };
        // Browsers read what follows a leading // or /\ as a host, and some apps make such a path of /.//.
        let may_leave = uri.path().contains('\\') || uri.path().contains("//") || !page.starts_with('/');
        (!may_leave && page.len() <= MAX_PAGE_BYTES).then_some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn summary(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestSummary {
        let mut request = Request::builder().method(method).uri(target).header("host", "App.example");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        RequestSummary::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_navigation_is_a_page_and_a_script_is_not() {
        const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");
        let is_page = |fields: &[(&str, &str)]| summary("GET", "/", fields).is_for_a_page();
        assert!(is_page(&[HTML]) && is_page(&[HTML, ("sec-fetch-mode", "navigate")]));
        assert!(!is_page(&[]) && !is_page(&[("accept", "*/*")]) && !is_page(&[("sec-fetch-mode", "navigate")]));
        for script in
            [("sec-fetch-mode", "cors"), ("sec-fetch-mode", "same-origin"), ("x-requested-with", "XMLHttpRequest")]
        {
            assert!(!is_page(&[HTML, script]), "{script:?}");
        }
        assert!(summary("POST", "/save", &[HTML]).is_for_a_page());
    }

    #[test]
    fn the_login_learns_the_page_to_return_to() {
        let login = |target, tokens| summary("GET", target, &[]).login("/login?next={path}", tokens);
        assert_eq!(login("/", false), "/login?next=/");
        assert_eq!(login("/a%20b/c?x=1&y=%26#", false), "/login?next=/a%2520b/c%3Fx%3D1%26y%3D%2526");
        assert_eq!(login("/a?token=secret", true), "/login?next=/a");
        assert_eq!(summary("GET", "/a", &[]).login("/login", false), "/login");
        assert_eq!(login(&format!("/{}", "x".repeat(MAX_PAGE_BYTES)), false), "/login?next=/");
    }

    #[test]
    fn the_page_to_return_to_is_of_this_site() {
        for elsewhere in ["//evil.example", "//evil.example/x", "/.//evil.example", "/a//b"] {
            assert_eq!(
                summary("GET", elsewhere, &[]).login("/login?next={path}", false),
                "/login?next=/",
                "{elsewhere}"
            );
        }
        let form = |referer| summary("POST", "/save", &[("referer", referer)]).login("/login?next={path}", false);
        assert_eq!(form("https://app.example/edit?id=1"), "/login?next=/edit%3Fid%3D1");
        for other in ["https://evil.example/edit", "https://app.example:8443/edit", "about:blank", "/edit", ""] {
            assert_eq!(form(other), "/login?next=/", "{other}");
        }
        assert_eq!(summary("POST", "/save", &[]).login("/login?next={path}", false), "/login?next=/");
    }
}
