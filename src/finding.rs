//! The findings of `idlegate doctor`, including those of modules that examine themselves.

use serde::Serialize;
use std::fmt;

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// As it should be.
    Good(String),
    /// Not wrong, and worth knowing.
    Note(String),
    /// Wrong, with a fix.
    Wrong {
        /// What was found.
        what: String,
        /// What to do.
        fix: String,
    },
}

impl Finding {
    pub(crate) fn wrong(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Wrong { what: what.into(), fix: fix.into() }
    }

    /// Whether it needs fixing.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        matches!(self, Self::Wrong { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(what) => write!(f, "good   {what}"),
            Self::Note(what) => write!(f, "note   {what}"),
            Self::Wrong { what, fix } => write!(f, "WRONG  {what}; {fix}"),
        }
    }
}
