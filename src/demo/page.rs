//! The files of the page, and the headers of every response of the app.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use http_body_util::Full;

const HTML: &str = include_str!("page/page.html");
const FILES: [(&str, &str, &str); 6] = [
    ("/demo/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/demo/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/demo/client.js", "text/javascript; charset=utf-8", include_str!("page/client.js")),
    ("/demo/gauge.js", "text/javascript; charset=utf-8", include_str!("page/gauge.js")),
    ("/demo/retry.js", "text/javascript; charset=utf-8", include_str!("page/retry.js")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The file at `path`. As in the real app, every unknown path is the page.
pub(super) fn file(path: &str) -> http::Response<Full<Bytes>> {
    let known = FILES.iter().find(|(name, _, _)| *name == path);
    let (media_type, content) =
        known.map_or(("text/html; charset=utf-8", HTML), |(_, kind, content)| (*kind, *content));
    respond(StatusCode::OK, media_type, Full::new(Bytes::from_static(content.as_bytes())))
}

/// A response with the common headers.
pub(super) fn respond<B>(status: StatusCode, media_type: &'static str, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]);
    response
}
