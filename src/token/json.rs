//! Finds values at JSON pointers, as leniently as any common parser would.

mod encoding;
mod scan;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use super::Scalar;
use scan::{Scanner, ValueStart};
use std::fmt;

/// A JSON pointer (RFC 6901), kept as its unescaped segments. The empty pointer means the whole document.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{}", escape(segment)))
    }
}

impl Pointer {
    /// Reads a pointer such as `/session_id` or `/user/token`; `~0` stands for `~` and `~1` for `/`.
    /// `None` if it is not empty and does not begin with `/`, or if `~` is followed by another character.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Vec::new()));
        }
        text.strip_prefix('/')?.split('/').map(unescape).collect::<Option<_>>().map(Self)
    }

    /// The unescaped segments.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

/// A name as a segment of a pointer (RFC 6901 §3).
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn unescape(segment: &str) -> Option<String> {
    let mut plain = String::with_capacity(segment.len());
    let mut rest = segment.chars();
    while let Some(character) = rest.next() {
        plain.push(match character {
            '~' => match rest.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

impl fmt::Debug for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value at a pointer.
#[derive(Clone, PartialEq, Eq)]
pub enum JsonValue {
    /// A string, unescaped. Invalid UTF-8 and lone surrogates become U+FFFD.
    Text(String),
    /// A number, with its digits as written, or `NaN`, `Infinity` or `-Infinity`.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// `null`, an object or an array.
    Other,
}

impl From<ValueStart<'_>> for JsonValue {
    fn from(start: ValueStart<'_>) -> Self {
        match start {
            ValueStart::Text(quoted) => Self::Text(quoted.unescaped().into_owned()),
            ValueStart::Number(digits) => Self::Number(String::from_utf8_lossy(digits).into_owned()),
            ValueStart::Bool(value) => Self::Bool(value),
            ValueStart::Null | ValueStart::Object | ValueStart::Array => Self::Other,
        }
    }
}

/// Texts and numbers are not shown: they may be tokens.
impl fmt::Debug for JsonValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text(<{} bytes>)", text.len()),
            Self::Number(digits) => write!(f, "Number(<{} bytes>)", digits.len()),
            Self::Bool(value) => write!(f, "Bool({value})"),
            Self::Other => f.write_str("Other"),
        }
    }
}

/// No common parser accepts the document as JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not JSON")
    }
}

impl std::error::Error for NotJson {}

/// Finds all values at each of the pointers, in the order of the document (RFC 8259, RFC 6901).
///
/// The proxy must find every token that the app could find, whichever parser the app uses. For duplicate keys, all
/// values are returned, because parsers differ in which one they use. Extensions of common parsers, above all Python's,
/// are accepted: `NaN` and the infinities, control characters and invalid UTF-8 in strings, escaped lone surrogates, a
/// byte order mark, UTF-16 and UTF-32.
///
/// The time is linear in the size of the document. Deep nesting uses no stack.
///
/// # Errors
/// If the document is not JSON even by these lenient rules. An empty document is not JSON.
pub fn find(document: &[u8], wanted: &[&Pointer]) -> Result<Vec<Vec<JsonValue>>, NotJson> {
    let text = encoding::to_utf8(document);
    walk::walk(&mut Scanner { rest: &text }, wanted).ok_or(NotJson)
}

fn value_of(number: &str) -> Option<f64> {
    number.parse().ok()
}

/// Whether any of the values equals `scalar`. Numbers are compared by value: `7.0` and `70e-1` equal `7`.
#[must_use]
pub fn matches(found: &[JsonValue], scalar: &Scalar) -> bool {
    found.iter().any(|value| match (value, scalar) {
        (JsonValue::Text(a), Scalar::Text(b)) => a == b,
        (JsonValue::Number(a), Scalar::Number(b)) => a == b || value_of(a).is_some_and(|a| value_of(b) == Some(a)),
        (JsonValue::Bool(a), Scalar::Bool(b)) => a == b,
        _ => false,
    })
}
