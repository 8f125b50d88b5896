//! Who came, and where to.

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use std::net::IpAddr;
use std::sync::Arc;

/// How long a route may be that is remembered and shown, in bytes.
const MAX_ROUTE_BYTES: usize = 100;

/// What a route that was cut off ends with.
const CUT_OFF: &str = "...";

/// What does not stand in a route as it is: control characters, spaces, `%` itself, and all that is not ASCII.
const NOT_SHOWN: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// The client of a request or of a tunnel, and its route. Each session remembers one, so it is small, and shared: both in
/// one text, `192.0.2.7 /api/renew`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller(Arc<str>);

impl Caller {
    /// A client at this address that asks for this path.
    #[must_use]
    pub fn new(client: IpAddr, path: &[u8]) -> Self {
        let mut text = format!("{client} ");
        let most = text.len() + MAX_ROUTE_BYTES;
        for piece in percent_encode(path, NOT_SHOWN) {
            let room = most - text.len();
            if piece.len() > room {
                // What is encoded is not cut in two.
                let fits = if piece.starts_with('%') { "" } else { piece.get(..room).unwrap_or_default() };
                text.push_str(fits);
                text.push_str(CUT_OFF);
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

    /// The path in its normal form, in printable ASCII; of a long one the first 100 bytes. A client chooses what stands
    /// in it.
    #[must_use]
    pub fn route(&self) -> &str {
        self.0.split(' ').next_back().unwrap_or_default()
    }
}
