//! Numbers in sentences.

use std::fmt::Display;

/// `1 session`, `2 sessions`: a whole number of what takes an s.
#[must_use]
pub fn counted(count: impl Display, what: &str) -> String {
    let number = count.to_string();
    let s = if number == "1" { "" } else { "s" };
    format!("{number} {what}{s}")
}
