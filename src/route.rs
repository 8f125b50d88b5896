//! Where a request goes: its path in one normal form, and the patterns it is held against.
//!
//! Doors that should be shut are only shut when every spelling of their path is. So a path is compared in a
//! normal form that undoes what applications and the servers in front of them undo; the request itself is
//! forwarded as it was written.

use std::fmt;

/// A path in normal form: percent-decoded, `//`, `.` and `..` resolved, `;parameters` and a trailing `/` taken off.
///
/// Not every app undoes all of that, nor in this order: to one that resolves nothing `/admin/../x` is below `/admin`, to
/// another it is `/x`. So beside its normal form, which it is compared by, a path has all its other readings, and is
/// matched by a pattern that means any of them.
#[derive(Clone)]
pub struct NormalPath {
    normal: Vec<u8>,
    others: Vec<Vec<u8>>,
    /// Its readings are too many to be tried: it may be any path, and every pattern matches it.
    any: bool,
}

impl PartialEq for NormalPath {
    fn eq(&self, other: &Self) -> bool {
        self.normal == other.normal
    }
}

impl Eq for NormalPath {}

impl fmt::Debug for NormalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NormalPath").field(&self.normal).finish()
    }
}

/// How often a path is decoded at most: `%252e` is `.` to an application that decodes twice.
const DECODE_ROUNDS: usize = 4;

/// The longest path that is read in several ways, in bytes.
const MAX_SEVERAL_BYTES: usize = 8 * 1024;

/// How many bytes all readings of one path may take to read. It bounds the cost of a path before any authentication: 8 KB can
/// be written so that 120 readings differ.
const MAX_READ_BYTES: usize = 64 * 1024;

/// What makes a path have readings that its normal form does not show, in lower case.
const DOUBTFUL: [&str; 8] = [";", "\\", "/.", "%2e", "%2f", "%3b", "%5c", "%25"];

/// How much is kept of a reading that is not the normal form: patterns are shorter.
const MAX_READING_BYTES: usize = 1024;

impl NormalPath {
    /// Brings the path of a request target (without its query) into normal form.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let mut bytes = path.as_bytes().to_vec();
        for _ in 0..DECODE_ROUNDS {
            let decoded = decoded(&bytes);
            if decoded == bytes {
                break;
            }
            bytes = decoded;
        }
        let normal = PathReader { backslashes: true, parameters: true, dots: Dots::Resolved }.read(&bytes);
        let mut others = Vec::new();
        let plain = !path.contains(['%', ';', '\\']) && !path.contains("/.");
        if path.len() > MAX_SEVERAL_BYTES {
            let path = if plain { String::new() } else { path.to_ascii_lowercase() };
            let any = DOUBTFUL.iter().any(|mark| path.contains(mark));
            return Self { normal, others, any };
        }
        if !plain {
            let mut read_bytes = 0;
            let mut with = path.as_bytes().to_vec();
            let mut without = with.clone();
            for _ in 0..=DECODE_ROUNDS {
                without = without_parameters(&without);
                // Where nothing was taken off, both are one text.
                for text in [&with, &without].into_iter().take(if with == without { 1 } else { 2 }) {
                    for reader in PathReader::differing_on(text) {
                        read_bytes += text.len();
                        if read_bytes > MAX_READ_BYTES {
                            return Self { normal, others: Vec::new(), any: true };
                        }
                        let mut reading = reader.read(text);
                        reading.truncate(MAX_READING_BYTES);
                        if reading != normal && !others.contains(&reading) {
                            others.push(reading);
                        }
                    }
                }
                let next = (decoded(&with), decoded(&without));
                if next == (with.clone(), without.clone()) {
                    break;
                }
                (with, without) = next;
            }
        }
        Self { normal, others, any: false }
    }

    /// Its normal form, to be shown: it may hold any byte.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.normal
    }

    fn readings(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.normal).chain(&self.others).map(Vec::as_slice)
    }
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    percent_encoding::percent_decode(bytes).collect()
}

/// Takes `;parameters` off each segment.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').map(name_of);
    names.collect::<Vec<_>>().join(&b'/')
}

/// `;parameters` belong to one segment; the name before them is what servers route by.
fn name_of(segment: &[u8]) -> &[u8] {
    segment.split(|byte| *byte == b';').next().unwrap_or_default()
}

/// One of the ways in which a path is taken apart.
#[derive(Clone, Copy)]
struct PathReader {
    /// Whether `\` separates like `/`.
    backslashes: bool,
    /// Whether `;parameters` are taken off.
    parameters: bool,
    dots: Dots,
}

/// What becomes of `.` and `..`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Kept,
    /// `..` takes back the last segment that is not empty.
    Resolved,
    /// `..` takes back the last segment, if only the empty one of `//`.
    ResolvedAmongEmpty,
}

impl PathReader {
    fn all() -> impl Iterator<Item = Self> {
        let dots = [Dots::Kept, Dots::Resolved, Dots::ResolvedAmongEmpty];
        dots.into_iter().flat_map(|dots| {
            [(false, false), (false, true), (true, false), (true, true)].map(|(backslashes, parameters)| Self {
                backslashes,
                parameters,
                dots,
            })
        })
    }

    /// Those that may read this text each in another way: what it does not contain, no two of them differ in. So a path costs
    /// as many readings as it is doubtful, and most cost two or three.
    fn differing_on(text: &[u8]) -> impl Iterator<Item = Self> {
        let has = |byte| memchr::memchr(byte, text).is_some();
        // A dot may be spelled `%2e`.
        let (backslashes, parameters, dots) = (has(b'\\'), has(b';'), has(b'.') || has(b'%'));
        Self::all().filter(move |reader| {
            (backslashes || !reader.backslashes)
                && (parameters || !reader.parameters)
                && (dots || reader.dots == Dots::Kept)
        })
    }

    fn read(self, path: &[u8]) -> Vec<u8> {
        let mut segments: Vec<&[u8]> = Vec::new();
        for segment in path.split(|byte| *byte == b'/' || (self.backslashes && *byte == b'\\')) {
            let name = if self.parameters { name_of(segment) } else { segment };
            match (self.dots, dots_in(name)) {
                (Dots::Resolved | Dots::ResolvedAmongEmpty, Some(1)) => {}
                (Dots::Resolved | Dots::ResolvedAmongEmpty, Some(_)) => {
                    segments.pop();
                }
                (Dots::Kept | Dots::Resolved, None) if name.is_empty() => {}
                _ => segments.push(name),
            }
        }
        segments.retain(|name| !name.is_empty());
        let mut path = vec![b'/'];
        path.extend(segments.join(&b'/'));
        path
    }
}

/// How many dots a segment is, where it is `.` or `..`, or spells them `%2e`.
fn dots_in(segment: &[u8]) -> Option<usize> {
    match segment {
        b"." => Some(1),
        b".." => Some(2),
        [b'.' | b'%', ..] if segment.len() <= 6 => {
            let plain = decoded(segment);
            matches!(plain.as_slice(), b"." | b"..").then_some(plain.len())
        }
        _ => None,
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
        let own = self.path.normal.as_slice();
        path.any
            || path.readings().any(|other| {
                own == other
                    || self.below
                        && (own == b"/" || other.strip_prefix(own).is_some_and(|rest| rest.first() == Some(&b'/')))
            })
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
mod tests;
