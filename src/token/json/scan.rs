//! Scans the smallest parts of JSON text (RFC 8259), leniently.

use memchr::memchr2;

/// The beginning of a value.
#[derive(Clone, Copy)]
pub(super) enum ValueStart<'text> {
    /// `{`
    Object,
    /// `[`
    Array,
    Text(Quoted<'text>),
    /// A number as written. `NaN` and the infinities count as numbers.
    Number(&'text [u8]),
    Bool(bool),
    Null,
}

/// The text between two quotation marks. Its escapes are validated but not decoded.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'text> {
    pub(super) raw: &'text [u8],
    pub(super) escapes: bool,
}

/// Scans JSON text from its beginning. Its methods return `None` if the text is not JSON.
pub(super) struct Scanner<'text> {
    pub(super) rest: &'text [u8],
}

const WORDS: [(&[u8], ValueStart<'static>); 6] = [
    (b"true", ValueStart::Bool(true)),
    (b"false", ValueStart::Bool(false)),
    (b"null", ValueStart::Null),
    (b"NaN", ValueStart::Number(b"NaN")),
    (b"Infinity", ValueStart::Number(b"Infinity")),
    (b"-Infinity", ValueStart::Number(b"-Infinity")),
];

impl<'text> Scanner<'text> {
    /// The next value: complete, unless it is an object or an array.
    pub(super) fn start(&mut self) -> Option<ValueStart<'text>> {
        self.skip_space();
        match self.rest.first()? {
            b'{' => self.take(b'{').then_some(ValueStart::Object),
            b'[' => self.take(b'[').then_some(ValueStart::Array),
            b'"' => self.quoted().map(ValueStart::Text),
            _ => self.word().or_else(|| self.number().map(ValueStart::Number)),
        }
    }

    /// A key and the colon after it.
    pub(super) fn key(&mut self) -> Option<Quoted<'text>> {
        self.skip_space();
        let key = self.quoted()?;
        self.skip_space();
        self.take(b':').then_some(key)
    }

    pub(super) fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\n' | b'\r', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// Consumes `byte` if it is next. Returns whether it was.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn quoted(&mut self) -> Option<Quoted<'text>> {
        if !self.take(b'"') {
            return None;
        }
        let begin = self.rest;
        let mut escapes = false;
        loop {
            self.rest = self.rest.get(memchr2(b'"', b'\\', self.rest)?..)?;
            if self.rest.first() == Some(&b'"') {
                let raw = begin.get(..begin.len() - self.rest.len())?;
                self.take(b'"');
                return Some(Quoted { raw, escapes });
            }
            self.rest = after_escape(self.rest)?;
            escapes = true;
        }
    }

    fn word(&mut self) -> Option<ValueStart<'text>> {
        let (word, start) = WORDS.iter().find(|(word, _)| self.rest.starts_with(word))?;
        self.rest = self.rest.get(word.len()..)?;
        Some(*start)
    }

    /// The longest number here (RFC 8259 §6). The caller checks what follows it.
    fn number(&mut self) -> Option<&'text [u8]> {
        let begin = self.rest;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        begin.get(..begin.len() - self.rest.len())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = self.rest.get(count..)?;
        (count > 0).then_some(())
    }
}

fn after_escape(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => Some(rest),
        [b'\\', b'u', a, b, c, d, rest @ ..] => {
            [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()).then_some(rest)
        }
        _ => None,
    }
}
