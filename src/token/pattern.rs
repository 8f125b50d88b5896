//! Regular expressions of the configuration.

use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// The longest pattern that is accepted, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;

/// How large a compiled pattern may be, in bytes, and as much again the cache of each thread that matches it. It bounds
/// counted repetitions such as `(a{100}){100}`.
const MAX_COMPILED_BYTES: usize = 256 * 1024;

/// A regular expression in the syntax of Rust's `regex` crate. It is compiled once, and matches bytes in linear time. Classes
/// such as `\w` and `\d` are ASCII.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Regex,
}

impl Pattern {
    /// A pattern that matches whole values only.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn whole(text: &str) -> Result<Self, String> {
        check_length(text)?;
        // By itself first: `a)|(b` would be valid only between the parentheses added here.
        compile(text)?;
        let compiled = compile(&format!("\\A(?:{text})\\z"))?;
        Ok(Self { text: text.to_owned(), compiled })
    }

    /// A pattern that matches values which contain a match anywhere.
    ///
    /// # Errors
    /// What is wrong with the pattern, in words.
    pub fn anywhere(text: &str) -> Result<Self, String> {
        check_length(text)?;
        Ok(Self { text: text.to_owned(), compiled: compile(text)? })
    }

    /// Whether it matches this value.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.compiled.is_match(value)
    }
}

fn check_length(text: &str) -> Result<(), String> {
    if text.len() > MAX_PATTERN_BYTES {
        return Err(format!("{} bytes are too many; {MAX_PATTERN_BYTES} are allowed", text.len()));
    }
    Ok(())
}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.compiled.as_str() == other.compiled.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_value_matches_and_no_part_of_one() {
        let format = Pattern::whole("[a-z]{3}|[0-9]{4}").unwrap();
        for value in ["abc", "1234"] {
            assert!(format.matches(value.as_bytes()), "{value}");
        }
        for value in ["", "abcd", "abc\n", "\nabc", "\"abc\"", " abc", "abc,1234", "ABC", "123"] {
            assert!(!format.matches(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn a_pattern_may_match_anywhere_or_where_it_is_anchored() {
        assert!(Pattern::anywhere("b").unwrap().matches(b"abc"));
        assert!(!Pattern::anywhere("^b").unwrap().matches(b"abc"));
    }

    #[test]
    fn classes_are_ascii_and_bytes_need_not_be_text() {
        assert!(!Pattern::whole(r"\d+").unwrap().matches("\u{661}".as_bytes()));
        assert!(!Pattern::whole(r"\w+").unwrap().matches(b"caf\xe9"));
        assert!(Pattern::whole(r"[^;]+").unwrap().matches(b"caf\xe9"));
    }

    #[test]
    fn a_pattern_is_bounded_and_stands_by_itself() {
        let long = "a".repeat(MAX_PATTERN_BYTES + 1);
        for pattern in ["(", "a)|(b", "[z-a]", "((a{100}){100}){100}", r"\pL", &long] {
            assert!(Pattern::whole(pattern).is_err(), "{pattern}");
        }
    }
}
