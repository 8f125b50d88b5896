//! The path patterns of the configuration.

use super::NormalPath;
use std::fmt;

/// A path pattern of the configuration: `/api/login`, or `/api/admin/*` for `/api/admin` and everything below it. A `*` before
/// that stands for any part of one segment, as in `/api/*/status` and `/static/*.js`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathPattern {
    path: NormalPath,
    below: bool,
    /// Whether it has a `*` that stands for part of a segment.
    glob: bool,
}

/// Why a text is not a valid path pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It contains `**`.
    DoubleStar,
    /// It contains a `?` or `#`. Queries are not matched.
    Query,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "a path begins with \"/\"",
            Self::DoubleStar => {
                "\"**\" has no meaning: a final \"/*\" is everything below, any other \"*\" a part of one segment"
            }
            Self::Query => "a path has no query: leave out \"?\", \"#\" and what follows",
        })
    }
}

impl std::error::Error for PatternError {}

impl PathPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// If it does not begin with `/`, or has a `**`, a `?` or a `#`.
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
        if text.contains("**") {
            return Err(PatternError::DoubleStar);
        }
        Ok(Self { path: NormalPath::of(path), below, glob: path.contains('*') })
    }

    /// The pattern that matches this path alone.
    #[must_use]
    pub fn exact(path: &str) -> Self {
        Self { path: NormalPath::of(path), below: false, glob: false }
    }

    /// Whether this pattern matches `path`.
    #[must_use]
    pub fn matches(&self, path: &NormalPath) -> bool {
        path.any || path.readings().any(|reading| self.matches_reading(reading))
    }

    fn matches_reading(&self, reading: &[u8]) -> bool {
        let own = self.path.normal.as_slice();
        if self.glob {
            return glob_matches(own, reading, self.below);
        }
        own == reading
            || self.below && (own == b"/" || reading.strip_prefix(own).is_some_and(|rest| rest.first() == Some(&b'/')))
    }

    /// Whether this pattern matches every path that `other` matches. A `*` in `other` is compared as a character: what
    /// matches it, matches all that it stands for.
    fn covers(&self, other: &Self) -> bool {
        self.matches_reading(&other.path.normal) && (self.below || !other.below)
    }
}

/// Whether a path matches a pattern, segment by segment. With `below`, it may have more segments.
fn glob_matches(pattern: &[u8], path: &[u8], below: bool) -> bool {
    let mut segments = path.split(|byte| *byte == b'/');
    pattern
        .split(|byte| *byte == b'/')
        .all(|wanted| segments.next().is_some_and(|segment| segment_matches(wanted, segment)))
        && (below || segments.next().is_none())
}

/// Whether a segment matches a pattern in which each `*` stands for any bytes. Parts between two stars match at their first
/// place, which leaves the most for those after them.
fn segment_matches(pattern: &[u8], segment: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| segment.strip_prefix(first)) else { return false };
    let mut last: Option<&[u8]> = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = memchr::memmem::find(rest, middle) else { return false };
            rest = rest.get(at + middle.len()..).unwrap_or_default();
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
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
        Self(vec![PathPattern { path: NormalPath::of("/"), below: true, glob: false }])
    }
}

impl FromIterator<PathPattern> for PathSet {
    fn from_iter<I: IntoIterator<Item = PathPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}
