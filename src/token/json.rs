//! Values at JSON pointers, found in text that no single parser has the last word on.

use std::fmt;

/// A JSON pointer (RFC 6901), kept as its unescaped segments. The empty pointer means the whole document.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

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
