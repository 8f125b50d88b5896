//! The operators' page: static files without data. The page reads `GET /events` and uses the same API as the commands.

use super::response::respond;
use crate::proxy::{Body, full};
use crate::refusal::AdminError;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

const FILES: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/dialog.js", "text/javascript; charset=utf-8", include_str!("page/dialog.js")),
    ("/live.js", "text/javascript; charset=utf-8", include_str!("page/live.js")),
    ("/parts.js", "text/javascript; charset=utf-8", include_str!("page/parts.js")),
    ("/words.js", "text/javascript; charset=utf-8", include_str!("page/words.js")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// Only the files above may load or run, even if a client manages to inject markup into a name that the page shows.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    kind: &'static str,
    content: &'static str,
}

impl File {
    /// The file at `path`, if it exists.
    pub(super) fn at(path: &str) -> Option<Self> {
        let found = FILES.iter().find(|(name, _, _)| *name == path);
        found.map(|(_, kind, content)| Self { kind, content })
    }

    /// The response with this file.
    ///
    /// # Errors
    /// If the method is neither GET nor HEAD.
    pub(super) fn response(self, method: &Method) -> Result<Response<Body>, AdminError> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(AdminError::Method("GET, HEAD"));
        }
        let mut response = respond(StatusCode::OK, self.kind, full(self.content));
        response.headers_mut().extend([
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            // A page that opened this one by a link gets no reference to its window.
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        ]);
        Ok(response)
    }
}
