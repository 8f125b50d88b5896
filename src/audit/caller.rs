//! The client and the route of a request.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use std::net::IpAddr;
use std::sync::Arc;

/// The longest part of a method that is kept and shown, in bytes.
const MAX_METHOD_BYTES: usize = 16;

/// The longest part of a route that is kept and shown, in bytes.
const MAX_ROUTE_BYTES: usize = 100;

/// The end of a truncated route.
const ELLIPSIS: &str = "...";

/// Percent-encoded in a route: control characters, spaces, `%` and everything that is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The client, method and route of a request or tunnel. Every session keeps one, so they share one reference-counted string:
/// `192.0.2.7 GET /api/renew`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller(Arc<str>);

impl Caller {
    /// A client at this address that requests this path.
    #[must_use]
    pub fn new(client: IpAddr, method: &Method, path: &[u8]) -> Self {
        let method = method.as_str();
        let mut text = format!("{client} {} ", method.get(..MAX_METHOD_BYTES).unwrap_or(method));
        let limit = text.len() + MAX_ROUTE_BYTES;
        for piece in percent_encode(path, ENCODED) {
            let room = limit - text.len();
            if piece.len() > room {
                // An encoded byte is kept whole or dropped.
                let fits = if piece.starts_with('%') { "" } else { piece.get(..room).unwrap_or_default() };
                text.push_str(fits);
                text.push_str(ELLIPSIS);
                break;
            }
            text.push_str(piece);
        }
        Self(text.into())
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// The method, truncated to 16 bytes.
    #[must_use]
    pub fn method(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    /// The normalised path in printable ASCII, truncated to 100 bytes. The client controls its content.
    #[must_use]
    pub fn route(&self) -> &str {
        self.0.split(' ').next_back().unwrap_or_default()
    }
}
