//! Configuration errors: where the problem is, what is wrong, and how to fix it.

use std::fmt;

/// All problems of a configuration, in the order of the file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts `found`. Returns `None` if it is empty.
    pub(super) fn of(mut found: Vec<Problem>) -> Option<Self> {
        found.sort_by(|one, other| one.origin.cmp(&other.origin));
        (!found.is_empty()).then_some(Self(found))
    }

    /// The problems, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// One problem per line, without a trailing newline.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// One problem of a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where the problem is.
    pub origin: Origin,
    /// The key as a dotted path such as `idle.timeout`, if the problem belongs to one. List elements count from 0.
    pub key: Option<String>,
    /// What is wrong, and how to fix it.
    pub fault: ValueError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        self.fault.fmt(f)
    }
}

/// Where a value of the configuration comes from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A line of the file, counted from 1.
    Line {
        /// The file's name.
        file: String,
        /// The line.
        line: usize,
    },
    /// The file as a whole.
    File {
        /// The file's name.
        file: String,
    },
    /// The environment variable of this name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::File { file } => f.write_str(file),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// What is wrong with a value, and the fix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValueError {
    /// What is wrong.
    pub what: String,
    /// How to fix it.
    pub fix: String,
}

impl ValueError {
    /// A problem and its fix.
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.fix)
    }
}

impl std::error::Error for ValueError {}

/// Formats an invalid value for an error message: quoted, on one line, and shortened to 60 characters.
pub(super) fn echo(value: &str) -> String {
    const SHOWN: usize = 60;
    if value.chars().count() <= SHOWN {
        return format!("{value:?}");
    }
    let start: String = value.chars().take(SHOWN).collect();
    format!("{start:?}…")
}
