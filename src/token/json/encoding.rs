//! The encoding of a document, detected from its first bytes as in Python's `json.loads(bytes)`. Otherwise an app that
//! reads UTF-16 would find a token that the proxy does not see.

use std::borrow::Cow;

/// The document as UTF-8 without a byte order mark. Invalid UTF-8 is kept unchanged. In UTF-16 and UTF-32, invalid
/// units become U+FFFD.
pub(super) fn to_utf8(document: &[u8]) -> Cow<'_, [u8]> {
    match document {
        [0x00, 0x00, 0xFE, 0xFF, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xFF, 0xFE, 0x00, 0x00, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => Cow::Borrowed(rest),
        // In UTF-8, JSON has a NUL here only if the whole document is a string.
        [0, 0, _, _, ..] => utf32(document, u32::from_be_bytes),
        [0, _, _, _, ..] | [0, _] => utf16(document, u16::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(document, u32::from_le_bytes),
        [_, 0, _, _, ..] | [_, 0] => utf16(document, u16::from_le_bytes),
        _ => Cow::Borrowed(document),
    }
}

fn utf16(text: &[u8], read: fn([u8; 2]) -> u16) -> Cow<'_, [u8]> {
    let (units, rest) = text.as_chunks::<2>();
    let characters = char::decode_utf16(units.iter().map(|unit| read(*unit)));
    collect(characters.map(Result::ok), rest)
}

fn utf32(text: &[u8], read: fn([u8; 4]) -> u32) -> Cow<'_, [u8]> {
    let (units, rest) = text.as_chunks::<4>();
    collect(units.iter().map(|unit| char::from_u32(read(*unit))), rest)
}

fn collect(characters: impl Iterator<Item = Option<char>>, rest: &[u8]) -> Cow<'static, [u8]> {
    let cut_off = if rest.is_empty() { None } else { Some(char::REPLACEMENT_CHARACTER) };
    let text: String =
        characters.map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER)).chain(cut_off).collect();
    Cow::Owned(text.into_bytes())
}
