//! The path patterns of the configuration.

use super::NormalPath;
use std::fmt;

/// A path pattern of the configuration: `/api/login`, or `/api/admin/*` for `/api/admin` and everything below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathPattern {
    path: NormalPath,
    below: bool,
}

/// Why a text is not a valid path pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It contains a `*` that is not part of a final `/*`.
    StarInside,
    /// It contains a `?` or `#`. Queries are not matched.
    Query,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "a path begins with \"/\"",
            Self::StarInside => "\"*\" is allowed only at the end, as in \"/api/admin/*\"",
            Self::Query => "a path has no query: leave out \"?\", \"#\" and what follows",
        })
    }
}

impl std::error::Error for PatternError {}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// If it does not begin with `/`, or has a `*` before its end, a `?` or a `#`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NotAbsolute);
        }
        if text.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains('*') {
            return Err(PatternError::StarInside);
        }
        Ok(Self { path: NormalPath::of(path), below })
    }

    /// The pattern that matches this path alone.
    #[must_use]
    pub fn exact(path: &str) -> Self {
        Self { path: NormalPath::of(path), below: false }
    }

    /// Whether this pattern matches `path`.
    #[must_use]
    pub fn matches(&self, path: &NormalPath) -> bool {
        path.any || path.readings().any(|reading| self.matches_reading(reading))
    }

    fn matches_reading(&self, reading: &[u8]) -> bool {
        let own = self.path.normal.as_slice();
        own == reading
            || self.below && (own == b"/" || reading.strip_prefix(own).is_some_and(|rest| rest.first() == Some(&b'/')))
    }

    /// Whether this pattern matches every path that `other` matches.
    fn covers(&self, other: &Self) -> bool {
        self.matches_reading(&other.path.normal) && (self.below || !other.below)
    }
}

/// The path patterns of one configuration key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathSet(Vec<PathPattern>);

impl PathSet {
    /// Whether any pattern matches `path`. An empty set matches no path.
    #[must_use]
    pub fn contains(&self, path: &NormalPath) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether every reading of `path` matches a pattern. This is the question for an exception: a path that an app may
    /// read as another one is not excepted.
    #[must_use]
    pub fn contains_every_reading(&self, path: &NormalPath) -> bool {
        !path.any && path.readings().all(|reading| self.0.iter().any(|pattern| pattern.matches_reading(reading)))
    }

    /// Whether this set contains every path of `other`. Patterns that only together cover one of `other` are not
    /// recognised.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|wanted| self.0.iter().any(|pattern| pattern.covers(wanted)))
    }

    /// Whether it has no pattern.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every path.
    #[must_use]
    pub fn everywhere() -> Self {
        Self(vec![PathPattern { path: NormalPath::of("/"), below: true }])
    }
}

impl FromIterator<PathPattern> for PathSet {
    fn from_iter<I: IntoIterator<Item = PathPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}
