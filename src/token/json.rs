//! Values at JSON pointers, found in text that no single parser has the last word on.

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
        self.0.iter().try_for_each(|segment| write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1")))
    }
}

impl Pointer {
    /// Reads a pointer such as `/session_id` or `/user/token`; `~0` stands for `~` and `~1` for `/`.
    /// `None` where it neither is empty nor begins with `/`, or a `~` is followed by something else.
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
        for segment in &self.0 {
            write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// A value that stands at a pointer.
#[derive(Clone, PartialEq, Eq)]
pub enum JsonValue {
    /// A string, unescaped. Bytes that are not UTF-8, and halves of surrogate pairs that stand alone, are U+FFFD.
    Text(String),
    /// A number, by its digits as they are written, or `NaN`, `Infinity`, `-Infinity`.
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

/// A text or a number may be a token, and is not shown.
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

/// The document is not JSON to any parser in common use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotJson;

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not JSON")
    }
}

impl std::error::Error for NotJson {}

/// Every value that stands at each of the pointers, in the order of the document (RFC 8259, RFC 6901).
///
/// The proxy must see every token that the app behind it could see, whatever parser it uses. So of equal keys all
/// values are given, since parsers differ in which one counts; and what common parsers accept beyond the standard is
/// accepted, above all Python's: `NaN` and the infinities, control characters and broken UTF-8 in strings, escapes of
/// lone surrogates, a byte order mark, UTF-16 and UTF-32.
///
/// It takes time in proportion to the document, and needs no stack, however deep the document is nested.
///
/// # Errors
/// Where the document is not JSON, even by those lenient rules; an empty one is not.
pub fn find(document: &[u8], wanted: &[&Pointer]) -> Result<Vec<Vec<JsonValue>>, NotJson> {
    let text = encoding::to_utf8(document);
    walk::walk(&mut Scanner { rest: &text }, wanted).ok_or(NotJson)
}

fn value_of(number: &str) -> Option<f64> {
    number.parse().ok()
}

/// Whether any of the values is `scalar`. `7.0` and `70e-1` are `7`.
#[must_use]
pub fn matches(found: &[JsonValue], scalar: &Scalar) -> bool {
    found.iter().any(|value| match (value, scalar) {
        (JsonValue::Text(a), Scalar::Text(b)) => a == b,
        (JsonValue::Number(a), Scalar::Number(b)) => a == b || value_of(a).is_some_and(|a| value_of(b) == Some(a)),
        (JsonValue::Bool(a), Scalar::Bool(b)) => a == b,
        _ => false,
    })
}
