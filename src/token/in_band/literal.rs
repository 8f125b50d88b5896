//! What a message must contain to be worth parsing.

use crate::token::{Conditions, Scalar};
use memchr::memmem::Finder;
use std::borrow::Cow;

/// How long `\u0061` is.
const ESCAPE: usize = 6;

/// Text that every message meant by some conditions contains: a string in its quotes, as it stands in JSON.
///
/// With its quotes it is not found in a program text that merely contains the word: there the quotes are escaped.
#[derive(Debug)]
pub(super) struct Literal(Option<Finder<'static>>);

impl Literal {
    pub(super) fn of(conditions: &Conditions) -> Self {
        let strings = conditions.0.iter().filter_map(|(_, scalar)| match scalar {
            Scalar::Text(text) => Some(text.as_str()),
            Scalar::Number(_) | Scalar::Bool(_) => None,
        });
        let keys = conditions.0.iter().filter_map(|(pointer, _)| pointer.segments().last().map(String::as_str));
        // Keys come second: `"type"` is in every message. One that is a number may be an array index, without quotes.
        let keys = keys.filter(|key| key.parse::<usize>().is_err());
        let plain = strings.chain(keys).find(|text| text.bytes().all(is_written_plainly));
        Self(plain.map(|text| Finder::new(&format!("\"{text}\"")).into_owned()))
    }

    /// Whether a message, or a piece of one, may be meant. `\u0061` could spell any of the letters.
    pub(super) fn may_be_in(&self, text: &[u8]) -> bool {
        let Some(finder) = &self.0 else { return true };
        let text = without_nul(text);
        finder.find(&text).is_some() || escapes_one_of(finder.needle(), &text, self.characters())
    }

    /// How many bytes it takes at most, in the widest encoding, or an escape of one of its letters does.
    pub(super) fn length(&self) -> usize {
        self.characters() * 4
    }

    fn characters(&self) -> usize {
        self.0.as_ref().map_or(0, |finder| finder.needle().len()).max(ESCAPE)
    }
}

/// Characters that JSON writers do not escape, none of them.
fn is_written_plainly(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'/')
}

/// UTF-16 and UTF-32, which Python's json.loads takes from a binary message, are ASCII with NULs in between.
fn without_nul(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(0, text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.iter().copied().filter(|byte| *byte != 0).collect())
}

/// Whether one of these letters is written as `\u00xx`, which only serves to hide it. Of a piece of a message, at least
/// the first `seen` characters were in the piece before.
fn escapes_one_of(letters: &[u8], text: &[u8], seen: usize) -> bool {
    memchr::memmem::find_iter(text, b"\\u00").any(|at| {
        let digits = text.get(at + 4..at + ESCAPE).and_then(|digits| std::str::from_utf8(digits).ok());
        let letter = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        letter.is_some_and(|byte| letters.contains(&byte)) && is_escape(text, at, seen)
    })
}

/// Whether the backslash at this place begins an escape, and is not escaped itself, as it is where a program text is
/// sent. Where only backslashes stand before it, one more may have stood before the text, and it may be an escape, but
/// for those that were seen in the piece before, with what stood there.
fn is_escape(text: &[u8], at: usize, seen: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let run = before.iter().rev().take_while(|byte| **byte == b'\\').count();
    if run == before.len() { run + ESCAPE > seen } else { run % 2 == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::json::Pointer;

    fn literal(pointer: &str, scalar: Scalar) -> Literal {
        Literal::of(&Conditions(vec![(Pointer::parse(pointer).unwrap(), scalar)]))
    }

    fn authenticate() -> Literal {
        literal("/cmd", Scalar::Text("authenticate".into()))
    }

    #[test]
    fn found_as_it_is_and_in_every_disguise() {
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
    fn not_found_in_the_text_of_a_program() {
        let program =
            serde_json::to_string("def authenticate(): print(\"authenticate\", '\\u0061', '\\\\u0065')").unwrap();
        assert!(!authenticate().may_be_in(program.as_bytes()), "{program}");
        assert!(!authenticate().may_be_in(br#"{"data":"\u001b[0m\u0000"}"#));
        // A piece may begin between two backslashes; how many there were before so many is not known.
        assert!(!authenticate().may_be_in(br"\u0061 and so on"));
        assert!(authenticate().may_be_in(br"\\\\\\\\\\u0061 and so on"));
    }

    #[test]
    fn without_a_word_to_look_for_everything_may_be_meant() {
        assert!(literal("/0", Scalar::Number("7".into())).may_be_in(b"anything"));
        assert!(!literal("/version", Scalar::Number("7".into())).may_be_in(b"anything"));
    }
}
