//! `format`: what a token looks like.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// The longest pattern that is accepted, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;

/// How large a compiled pattern may be, in bytes, and as much again the cache of each thread that matches it. It bounds
/// counted repetitions such as `(a{100}){100}`.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

/// A pattern that a whole token must match. It is compiled once, and matches bytes in linear time.
#[derive(Clone)]
pub struct TokenFormat {
    pattern: String,
    whole: Regex,
}

impl TokenFormat {
    /// Compiles a regular expression in the syntax of Rust's `regex` crate. Classes such as `\w` and `\d` are ASCII.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("{} bytes are too many; {MAX_PATTERN_BYTES} are allowed", pattern.len()));
        }
        // By itself first: `a)|(b` would be valid only between the parentheses added here.
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .size_limit(MAX_COMPILED_BYTES)
                .dfa_size_limit(MAX_COMPILED_BYTES)
                .build()
                .map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
        };
        compile(pattern)?;
        let whole = compile(&format!("\\A(?:{pattern})\\z"))?;
        Ok(Self { pattern: pattern.to_owned(), whole })
    }

    /// Whether the whole value is a token.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }
}

impl fmt::Debug for TokenFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenFormat({:?})", self.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_value_matches_and_no_part_of_one() {
        let format = TokenFormat::parse("[a-z]{3}|[0-9]{4}").unwrap();
        for value in ["abc", "1234"] {
            assert!(format.matches(value.as_bytes()), "{value}");
        }
        for value in ["", "abcd", "abc\n", "\nabc", "\"abc\"", " abc", "abc,1234", "ABC", "123"] {
            assert!(!format.matches(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn classes_are_ascii_and_bytes_need_not_be_text() {
        assert!(!TokenFormat::parse(r"\d+").unwrap().matches("\u{661}".as_bytes()));
        assert!(!TokenFormat::parse(r"\w+").unwrap().matches(b"caf\xe9"));
        assert!(TokenFormat::parse(r"[^;]+").unwrap().matches(b"caf\xe9"));
    }

    #[test]
    fn a_pattern_is_bounded_and_stands_by_itself() {
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        for pattern in ["(", "a)|(b", "[z-a]", "((a{100}){100}){100}", r"\pL", &long] {
            assert!(TokenFormat::parse(pattern).is_err(), "{pattern}");
        }
    }
}
