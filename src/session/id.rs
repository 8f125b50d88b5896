//! The session id: shown to people, and the key in the store.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// How tokens become session ids: by SHA-256, or by HMAC-SHA-256 with a secret. With a secret, access to the store or
/// the log alone does not allow guessing tokens.
#[derive(Clone, Default)]
pub struct SessionIds {
    keyed: Option<Arc<Hmac<Sha256>>>,
}

impl SessionIds {
    /// Ids by HMAC-SHA-256 with this secret. All replicas need the same secret. A new secret makes all sessions new.
    #[must_use]
    pub fn keyed(secret: &[u8]) -> Self {
        // HMAC accepts keys of any length (RFC 2104 §2).
        Self { keyed: Hmac::new_from_slice(secret).ok().map(Arc::new) }
    }

    /// A number for this way to make ids: another secret, another number.
    pub(crate) fn fingerprint(&self) -> u64 {
        let SessionId(bytes) = self.of_token(b"idlegate: how ids are made");
        // At most 15 digits: a number that Lua keeps exactly.
        bytes.iter().take(6).fold(0, |number, byte| number << 8 | u64::from(*byte)) % 1_000_000_000_000_000
    }

    /// The session id of the token with these bytes.
    #[must_use]
    pub fn of_token(&self, token: &[u8]) -> SessionId {
        match &self.keyed {
            None => SessionId::of_token(token),
            Some(keyed) => SessionId::first_half_of(&Hmac::clone(keyed).chain_update(token).finalize().into_bytes()),
        }
    }
}

impl fmt::Debug for SessionIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.keyed.is_some() { "SessionIds(keyed)" } else { "SessionIds" })
    }
}

/// The first 128 bits of SHA-256(token): 32 hex digits when shown. A token cannot be computed back from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

/// The number of hexadecimal digits of a session id.
pub const ID_DIGITS: usize = 32;
/// The number of digits that are enough to show a session, if no other id begins with them.
pub const SHOWN_DIGITS: usize = 4;
/// The number of digits that are enough to change a session.
pub const CERTAIN_DIGITS: usize = 8;

impl SessionId {
    /// The session id of the token with these bytes.
    #[must_use]
    pub fn of_token(token: &[u8]) -> Self {
        Self::first_half_of(&Sha256::digest(token))
    }

    fn first_half_of(digest: &[u8]) -> Self {
        let mut id = [0; 16];
        for (byte, digested) in id.iter_mut().zip(digest) {
            *byte = *digested;
        }
        Self(id)
    }

    /// The session id with these bytes, read from a store.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be written to a store.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads a session id as it is shown: 32 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_is_the_first_half_of_sha_256() {
        // echo -n abc | sha256sum | head -c 32
        assert_eq!(SessionId::of_token(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_secret_changes_the_ids() {
        // echo -n abc | openssl dgst -sha256 -hmac 'between us' | cut -c1-32
        let ids = SessionIds::keyed(b"between us");
        assert_eq!(ids.of_token(b"abc").to_string(), "f314fe2d04f3b6fcdd68dc0fb9206185");
        assert_eq!(SessionIds::default().of_token(b"abc"), SessionId::of_token(b"abc"));
        assert_eq!(format!("{ids:?}"), "SessionIds(keyed)");
    }

    #[test]
    fn a_session_id_is_parsed_from_its_hex_digits() {
        let id = SessionId::of_token(b"abc");
        assert_eq!(SessionId::from_hex(&id.to_string()), Some(id));
        for text in ["", "ba7816bf", "+a7816bf8f01cfea414140de5dae2223", "ga7816bf8f01cfea414140de5dae2223"] {
            assert_eq!(SessionId::from_hex(text), None, "{text}");
        }
    }
}
