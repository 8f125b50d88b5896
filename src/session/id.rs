//! What may be shown of a session, and its key in the store.

use sha2::{Digest, Sha256};
use std::fmt;

/// The first 128 bits of SHA-256(token): 32 hex digits when shown. A token cannot be computed back from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// The session id of the token with these bytes.
    #[must_use]
    pub fn of_token(token: &[u8]) -> Self {
        let digest = Sha256::digest(token);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    /// The session id with these bytes, as a store keeps it.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, for a store to keep.
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
    fn it_is_the_first_half_of_sha_256() {
        // echo -n abc | sha256sum | head -c 32
        assert_eq!(SessionId::of_token(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn it_is_read_as_it_is_shown() {
        let id = SessionId::of_token(b"abc");
        assert_eq!(SessionId::from_hex(&id.to_string()), Some(id));
        for text in ["", "ba7816bf", "+a7816bf8f01cfea414140de5dae2223", "ga7816bf8f01cfea414140de5dae2223"] {
            assert_eq!(SessionId::from_hex(text), None, "{text}");
        }
    }
}
