//! A token while it is in hand.

use crate::session::{SessionId, SessionIds};
use percent_encoding::percent_decode_str;
use std::fmt;

/// A token: printed masked, and of no use but to get its session id.
///
/// It is kept in one canonical form, so that a dead token is not taken for an unknown one because it is spelt in
/// another way that the app would accept: white space around it is no part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `text`; `None` where nothing but white space is there.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // What Python's str.strip() takes off, which is more than Unicode's White_Space.
        let plain = text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c) || c == '\0');
        (!plain.is_empty()).then(|| Self(plain.to_owned()))
    }

    /// The token in a percent-encoded text. `plus_is_space` as in queries.
    #[must_use]
    pub fn percent_encoded(text: &str, plus_is_space: bool) -> Option<Self> {
        let spaced = if plus_is_space { text.replace('+', " ") } else { text.to_owned() };
        Self::new(&percent_decode_str(&spaced).decode_utf8_lossy())
    }

    /// Its session id.
    #[must_use]
    pub fn session_id(&self, ids: &SessionIds) -> SessionId {
        ids.of_token(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_masked() {
        let token = Token::new("hunter2").unwrap();
        assert_eq!(format!("{token} {token:?}"), "*** Token(***)");
    }

    #[test]
    fn padding_is_no_part_of_it() {
        let plain = Token::new("abc").unwrap();
        for padded in [" abc", "abc\t\r\n", "\u{a0}abc\u{2003}", "\x1cabc\x1f", "abc\0"] {
            assert_eq!(Token::new(padded), Some(plain.clone()), "{padded:?}");
        }
        assert_eq!(Token::new(" \t"), None);
        assert_eq!(Token::percent_encoded("%61bc+", true), Some(plain));
    }
}
