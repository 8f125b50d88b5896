//! A cheap search that decides whether a message needs to be parsed.

use crate::token::{Conditions, Expected};
use memchr::memmem::Finder;
use std::borrow::Cow;

/// The length of an escape such as `\u0061`.
const ESCAPE: usize = 6;

/// A text that every message matching some conditions contains: a quoted string, as in JSON.
///
/// The quotes prevent matches in source code sent as a JSON string, since quotes are escaped there.
#[derive(Debug)]
pub(super) struct Literal(Option<Finder<'static>>);

impl Literal {
    pub(super) fn of(conditions: &Conditions) -> Self {
        let strings = conditions.0.iter().filter_map(|(_, expected)| expected.text());
        // A message without the key may match as well where it must not be there.
        let present = conditions.0.iter().filter(|(_, expected)| *expected != Expected::Exists(false));
        let keys = present.filter_map(|(pointer, _)| pointer.segments().last().map(String::as_str));
        // Prefer strings to keys: `"type"` is in every message. A numeric key may be an array index, which has no
        // quotes.
        let keys = keys.filter(|key| key.parse::<usize>().is_err());
        let plain = strings.chain(keys).find(|text| text.bytes().all(is_written_plainly));
        Self(plain.map(|text| Finder::new(&format!("\"{text}\"")).into_owned()))
    }

    /// Whether a message, or a piece of one, may match. Any letter may be escaped, as in `\u0061`.
    pub(super) fn may_be_in(&self, text: &[u8]) -> bool {
        let Some(finder) = &self.0 else { return true };
        let text = without_nul(text);
        finder.find(&text).is_some() || escapes_one_of(finder.needle(), &text, self.characters())
    }

    /// The maximum length in bytes, in the widest encoding, of the text or of an escaped letter.
    pub(super) fn length(&self) -> usize {
        self.characters() * 4
    }

    fn characters(&self) -> usize {
        self.0.as_ref().map_or(0, |finder| finder.needle().len()).max(ESCAPE)
    }
}

/// Whether no JSON writer escapes this character.
fn is_written_plainly(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'/')
}

/// Removes NULs. Python's json.loads accepts UTF-16 and UTF-32, in which ASCII text is padded with NULs.
fn without_nul(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(0, text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.iter().copied().filter(|byte| *byte != 0).collect())
}

/// Whether one of these letters is escaped as `\u00xx`. The only purpose of that is to hide it. In a piece of a
/// message, at least the first `seen` characters were also in the previous piece.
fn escapes_one_of(letters: &[u8], text: &[u8], seen: usize) -> bool {
    memchr::memmem::find_iter(text, b"\\u00").any(|at| {
        let digits = text.get(at + 4..at + ESCAPE).and_then(|digits| std::str::from_utf8(digits).ok());
        let letter = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        letter.is_some_and(|byte| letters.contains(&byte)) && is_escape(text, at, seen)
    })
}

/// Whether the backslash at `at` begins an escape, and is not itself escaped as in source code. If there are only
/// backslashes before it, the previous piece may have ended with another one, so it counts as an escape. This does not
/// apply within the first `seen` bytes: they were examined with the previous piece.
fn is_escape(text: &[u8], at: usize, seen: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let run = before.iter().rev().take_while(|byte| **byte == b'\\').count();
    if run == before.len() { run + ESCAPE > seen } else { run % 2 == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Scalar;
    use crate::token::json::Pointer;

    fn literal(pointer: &str, scalar: Scalar) -> Literal {
        Literal::of(&Conditions(vec![(Pointer::parse(pointer).unwrap(), Expected::Equal(scalar))]))
    }

    fn authenticate() -> Literal {
        literal("/cmd", Scalar::Text("authenticate".into()))
    }

    #[test]
    fn a_word_is_found_verbatim_escaped_and_in_wide_encodings() {
        let wide: Vec<u8> = "\"authenticate\"".bytes().flat_map(|byte| [byte, 0, 0, 0]).collect();
        let texts: [&[u8]; 5] = [
            b"{\"cmd\":\"authenticate\"}",
            b"{\"cmd\":\"\\u0061uthenticate\"}",
            b"{\"cmd\":\"authenticat\\u0065\"}",
            b"{\"x\":\"\\\\\\u0061\"}",
            &wide,
        ];
        for text in texts {
            assert!(authenticate().may_be_in(text), "{}", String::from_utf8_lossy(text));
        }
        assert!(wide.len() <= authenticate().length());
    }

    #[test]
    fn a_word_in_source_code_is_not_found() {
        let program =
            serde_json::to_string("def authenticate(): print(\"authenticate\", '\\u0061', '\\\\u0065')").unwrap();
        assert!(!authenticate().may_be_in(program.as_bytes()), "{program}");
        assert!(!authenticate().may_be_in(br#"{"data":"\u001b[0m\u0000"}"#));
        // A piece may begin between two backslashes, so the number of backslashes before it is unknown.
        assert!(!authenticate().may_be_in(br"\u0061 and so on"));
        assert!(authenticate().may_be_in(br"\\\\\\\\\\u0061 and so on"));
    }

    #[test]
    fn without_a_word_to_search_for_every_message_may_match() {
        assert!(literal("/0", Scalar::Number("7".into())).may_be_in(b"anything"));
        assert!(!literal("/version", Scalar::Number("7".into())).may_be_in(b"anything"));
    }

    #[test]
    fn a_key_that_must_be_absent_is_not_searched_for() {
        let of = |expected| Literal::of(&Conditions(vec![(Pointer::parse("/reply").unwrap(), expected)]));
        assert!(of(Expected::Exists(false)).may_be_in(b"{}"));
        assert!(!of(Expected::Exists(true)).may_be_in(b"{}"));
    }
}
