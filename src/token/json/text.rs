//! Decodes JSON strings (RFC 8259 §7).

use super::scan::Quoted;
use memchr::memchr;
use std::borrow::Cow;

impl<'text> Quoted<'text> {
    /// The decoded text. Invalid UTF-8 and lone surrogates become U+FFFD.
    pub(super) fn unescaped(self) -> Cow<'text, str> {
        if self.escapes { Cow::Owned(unescape(self.raw)) } else { String::from_utf8_lossy(self.raw) }
    }
}

fn unescape(raw: &[u8]) -> String {
    let mut plain = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, escape)) = memchr(b'\\', rest).and_then(|place| rest.split_at_checked(place)) {
        plain.push_str(&String::from_utf8_lossy(before));
        let (character, after) = unescape_one(escape);
        plain.push(character);
        rest = after;
    }
    plain.push_str(&String::from_utf8_lossy(rest));
    plain
}

/// Decodes the escape at the beginning of `text`. Returns its character and the rest. The scanner has validated it.
fn unescape_one(text: &[u8]) -> (char, &[u8]) {
    let Some((unit, after)) = unicode(text) else {
        return match text {
            [_, letter, rest @ ..] => (simple(*letter), rest),
            _ => (char::REPLACEMENT_CHARACTER, &[]),
        };
    };
    if let Some((next, after_both)) = unicode(after)
        && let Some(Ok(character)) = char::decode_utf16([unit, next]).next()
        && character.len_utf16() == 2
    {
        return (character, after_both);
    }
    (char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER), after)
}

fn simple(letter: u8) -> char {
    match letter {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        itself => char::from(itself),
    }
}

/// The code unit of a `\uXXXX` at the beginning of `text`, and the rest.
fn unicode(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\u")?.split_at_checked(4)?;
    let unit = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((unit, rest))
}
