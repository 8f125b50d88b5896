//! Formats the fields of a line as logfmt: `key=value`, with quotes around the value if it needs them.

use std::fmt::{self, Debug};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::{MakeVisitor, VisitFmt, VisitOutput};
use tracing_subscriber::fmt::format::Writer;

/// Writes fields in this form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logfmt;

impl<'w> MakeVisitor<Writer<'w>> for Logfmt {
    type Visitor = Fields<'w>;

    fn make_visitor(&self, target: Writer<'w>) -> Fields<'w> {
        Fields { target, is_first: true, written: Ok(()) }
    }
}

/// The fields of one line.
#[derive(Debug)]
pub(super) struct Fields<'w> {
    target: Writer<'w>,
    is_first: bool,
    written: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: &str) {
        let space = if std::mem::take(&mut self.is_first) { "" } else { " " };
        let written = if field.name() == "message" {
            // A message must not break the line.
            write!(self.target, "{space}{}", value.replace('\n', "; "))
        } else {
            write!(self.target, "{space}{}={}", field.name(), LogfmtValue(value))
        };
        self.written = self.written.and(written);
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

impl VisitOutput<fmt::Result> for Fields<'_> {
    fn finish(self) -> fmt::Result {
        self.written
    }
}

impl VisitFmt for Fields<'_> {
    fn writer(&mut self) -> &mut dyn fmt::Write {
        &mut self.target
    }
}

/// A value. It is quoted if it is empty or has spaces, quotes, backslashes, `=` or control characters, and escaped as
/// in JSON.
struct LogfmtValue<'v>(&'v str);

impl fmt::Display for LogfmtValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let needs_quotes = |character: char| {
            character.is_whitespace() || character.is_control() || matches!(character, '"' | '=' | '\\' | '\u{fffd}')
        };
        if !self.0.is_empty() && !self.0.contains(needs_quotes) {
            return f.write_str(self.0);
        }
        f.write_str(&serde_json::Value::from(self.0).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_only_if_it_needs_quotes() {
        for (value, written) in [
            ("plain", "plain"),
            ("http://127.0.0.1:1/a?b", "http://127.0.0.1:1/a?b"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("say \"no\"", r#""say \"no\"""#),
            ("line\nend\u{1b}", r#""line\nend\u001b""#),
        ] {
            assert_eq!(LogfmtValue(value).to_string(), written);
        }
    }
}
