//! The page for people: its files, which hold nothing. What it shows comes by `GET /events`, what it does goes to the
//! pages that `idlegate mode` and the others ask as well.

use super::response::respond;
use crate::proxy::{Body, full};
use crate::refusal::AdminError;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/asking.js", "text/javascript; charset=utf-8", include_str!("page/asking.js")),
    ("/live.js", "text/javascript; charset=utf-8", include_str!("page/live.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("page/parts.js")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("page/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Nothing but the files above runs or is loaded, whatever a client may have smuggled into a name that is shown.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    kind: &'static str,
    content: &'static str,
}

impl File {
    /// The file at `path`, where there is one.
    pub(super) fn at(path: &str) -> Option<Self> {
        let found = FILES.iter().find(|(name, _, _)| *name == path);
        found.map(|(_, kind, content)| Self { kind, content })
    }

    /// The answer that it is.
    ///
    /// # Errors
    /// Where it is not asked for by GET or HEAD.
    pub(super) fn answer(self, method: &Method) -> Result<Response<Body>, AdminError> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(AdminError::Method("GET, HEAD"));
        }
        let mut answer = respond(StatusCode::OK, self.kind, full(self.content));
        answer.headers_mut().extend([
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            // A site that opened the page by a link gets no handle on its window.
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        ]);
        Ok(answer)
    }
}
