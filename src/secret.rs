//! Texts that must not be shown, such as passwords.

use crate::small_file;
use std::path::Path;
use std::{fmt, io};

/// The minimum length in bytes. A shorter secret could be guessed.
pub(crate) const MIN_BYTES: usize = 16;

/// A text with a password in it. Printed masked.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The content of a file without surrounding white space: an editor, or `openssl rand`, ends it with a line break.
    ///
    /// # Errors
    /// The file cannot be read as text. The error does not contain the file's name.
    pub(crate) fn in_file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(small_file::read_text(path)?.trim()))
    }

    /// Whether it is short enough to be guessed.
    pub(crate) fn is_short(&self) -> bool {
        self.0.len() < MIN_BYTES
    }

    /// The text itself, for its recipient only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
