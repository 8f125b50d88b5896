//! The token itself, before it is converted to a session id.

use super::Pattern;
use crate::session::{SessionId, SessionIds};
use percent_encoding::percent_decode_str;
use std::fmt;

/// A token. It is printed masked, and can only be converted to its session id.
///
/// It is kept in a canonical form without surrounding white space. Otherwise a dead token in another spelling that the
/// app accepts would count as unknown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token in `text`. `None` if the text is only white space.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        // Python's str.strip() removes more than Unicode's White_Space.
        let plain = text.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c) || c == '\0');
        (!plain.is_empty()).then(|| Self(plain.to_owned()))
    }

    /// The token in a percent-encoded text. In queries, `plus_is_space` must be set.
    #[must_use]
    pub fn percent_encoded(text: &str, plus_is_space: bool) -> Option<Self> {
        let spaced = if plus_is_space { text.replace('+', " ") } else { text.to_owned() };
        Self::new(&percent_decode_str(&spaced).decode_utf8_lossy())
    }

    /// Whether it has this format.
    pub(super) fn has(&self, format: &Pattern) -> bool {
        format.matches(self.0.as_bytes())
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
    fn a_token_is_printed_masked() {
        let token = Token::new("hunter2").unwrap();
        assert_eq!(format!("{token} {token:?}"), "*** Token(***)");
    }

    #[test]
    fn surrounding_white_space_is_removed() {
        let plain = Token::new("abc").unwrap();
        for padded in [" abc", "abc\t\r\n", "\u{a0}abc\u{2003}", "\x1cabc\x1f", "abc\0"] {
            assert_eq!(Token::new(padded), Some(plain.clone()), "{padded:?}");
        }
        assert_eq!(Token::new(" \t"), None);
        assert_eq!(Token::percent_encoded("%61bc+", true), Some(plain));
    }
}
