//! Where a request goes: its path in one normal form, and the patterns it is held against.
//!
//! Doors that should be shut are only shut when every spelling of their path is. So a path is compared in a
//! normal form that undoes what applications and the servers in front of them undo; the request itself is
//! forwarded as it was written.

use std::fmt;

/// A path in normal form: percent-decoded, `//`, `.` and `..` resolved, `;parameters` and a trailing `/` taken off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NormalPath(Vec<u8>);

/// How often a path is decoded at most: `%252e` is `.` to an application that decodes twice.
const DECODE_ROUNDS: usize = 4;

impl NormalPath {
    /// Brings the path of a request target (without its query) into normal form.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..DECODE_ROUNDS {
            let decoded: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
            if decoded == bytes {
                break;
            }
            bytes = decoded;
        }
        let mut segments: Vec<&[u8]> = Vec::new();
        for segment in bytes.split(|byte| matches!(byte, b'/' | b'\\')) {
            // `;parameters` belong to one segment; the name before them is what servers route by.
            let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            match name {
                b"" | b"." => {}
                b".." => {
                    segments.pop();
                }
                name => segments.push(name),
            }
        }
        let mut normal = vec![b'/'];
        normal.extend(segments.join(&b'/'));
        Self(normal)
    }
}

/// A path as the configuration names it: `/api/login`, or `/api/admin/*` for `/api/admin` and all below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathPattern {
    path: NormalPath,
    below: bool,
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It has a `*` elsewhere than in a last `/*`.
    StarInside,
    /// It has a `?` or `#`: queries are not matched.
    Query,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "a path begins with \"/\"",
            Self::StarInside => "\"*\" stands only at the end, as in \"/api/admin/*\"",
            Self::Query => "a path has no query: leave out \"?\", \"#\" and what follows",
        })
    }
}

impl std::error::Error for PatternError {}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Where it does not begin with `/`, or has a `*` before its end, a `?` or a `#`.
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

    /// Whether `path` is meant by this pattern.
    #[must_use]
    pub fn matches(&self, path: &NormalPath) -> bool {
        let (own, other) = (&self.path.0, &path.0);
        if own == other {
            return true;
        }
        self.below && (own == b"/" || (other.starts_with(own) && other.get(own.len()) == Some(&b'/')))
    }
}

/// Path patterns of one key of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PathSet(Vec<PathPattern>);

impl PathSet {
    /// Whether one of the patterns means `path`. An empty set means no path.
    #[must_use]
    pub fn contains(&self, path: &NormalPath) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path))
    }
}

impl FromIterator<PathPattern> for PathSet {
    fn from_iter<I: IntoIterator<Item = PathPattern>>(patterns: I) -> Self {
        Self(patterns.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shut(pattern: &str, path: &str) -> bool {
        PathPattern::parse(pattern).unwrap().matches(&NormalPath::of(path))
    }

    #[test]
    fn every_spelling_of_a_path_is_the_same_path() {
        for path in [
            "/ws-legacy",
            "/ws-legacy/",
            "//ws-legacy",
            "/./ws-legacy",
            "/x/../ws-legacy",
            "/%77s-legacy",
            "/ws%2Dlegacy",
            "/ws%2dlegacy",
            "/ws-legacy;a=b",
            "/ws-legacy/;a",
            "/%2e/ws-legacy",
            "/%2E%2e/ws-legacy",
            "/x/..;/ws-legacy",
            "/%252e/ws%252Dlegacy",
            "\\ws-legacy",
            "/../../ws-legacy",
            "/%2fws-legacy",
        ] {
            assert!(shut("/ws-legacy", path), "{path}");
        }
        for path in ["/ws-legacy2", "/WS-LEGACY", "/ws-legacy/x", "/", "/x/ws-legacy", "/ws"] {
            assert!(!shut("/ws-legacy", path), "{path}");
        }
    }

    #[test]
    fn a_star_means_the_path_and_all_below_it() {
        for path in ["/api/admin", "/api/admin/", "/api/admin/users", "/api/admin/a/b", "/api//admin/%2e/x"] {
            assert!(shut("/api/admin/*", path), "{path}");
        }
        for path in ["/api/administrator", "/api", "/api/admin/../x"] {
            assert!(!shut("/api/admin/*", path), "{path}");
        }
        assert!(shut("/*", "/anything") && shut("/*", "/"));
    }

    #[test]
    fn patterns_that_could_never_match_are_refused() {
        assert_eq!(PathPattern::parse("api"), Err(PatternError::NotAbsolute));
        assert_eq!(PathPattern::parse("/a/*/b"), Err(PatternError::StarInside));
        assert_eq!(PathPattern::parse("/a*"), Err(PatternError::StarInside));
        assert_eq!(PathPattern::parse("/a?x=1"), Err(PatternError::Query));
    }
}
