//! Request paths: their normal form, and the patterns that match them.
//!
//! A denied path must be denied in every spelling. Paths are therefore compared in a normal form that reverses the
//! encodings that apps and servers reverse. The request itself is forwarded unchanged.

mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::{PathPattern, PathSet, PatternError};

use ::http::{Method, request};
use std::fmt;

/// A path in normal form: percent-decoded, `//`, `.` and `..` resolved, `;parameters` and a trailing `/` removed.
///
/// Apps do not all normalise a path in this way or in this order. To an app that resolves nothing, `/admin/../x` is
/// below `/admin`; to another it is `/x`. So a `NormalPath` also holds all other readings of the path. A pattern
/// matches the path if it matches any reading. Equality compares the normal form only.
#[derive(Clone)]
pub struct NormalPath {
    normal: Vec<u8>,
    others: Vec<Vec<u8>>,
    /// There are too many readings to try. The path may be any path, so every pattern matches it.
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

/// What a rule is compared with: the method and the path of a request.
#[derive(Clone, Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: NormalPath,
}

impl Route {
    /// The route of a request.
    #[must_use]
    pub fn of(head: &request::Parts) -> Self {
        Self { method: head.method.clone(), path: NormalPath::of(head.uri.path()) }
    }

    /// The route of a GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: NormalPath::of(path) }
    }
}

/// Whether one of these methods is meant. Apps answer HEAD as they answer GET.
pub(crate) fn includes(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || *method == Method::HEAD && methods.contains(&Method::GET)
}

/// How many times a path is decoded. `%252e` is `.` to an app that decodes twice.
const DECODE_ROUNDS: usize = 4;

/// The maximum length of a path that is read in several ways, in bytes.
const MAX_SEVERAL_BYTES: usize = 8 * 1024;

/// The maximum total number of bytes processed for all readings of one path. It bounds the cost of an unauthenticated
/// request: a path of 8 KB can have 120 different readings.
const MAX_READ_BYTES: usize = 64 * 1024;

/// Substrings, in lower case, that can give a path readings other than its normal form.
const AMBIGUOUS: [&str; 8] = [";", "\\", "/.", "%2e", "%2f", "%3b", "%5c", "%25"];

/// How many bytes are kept of a reading other than the normal form. Patterns are shorter than this.
const MAX_READING_BYTES: usize = 1024;

impl NormalPath {
    /// Normalises the path of a request target, without its query.
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
            let any = AMBIGUOUS.iter().any(|mark| path.contains(mark));
            return Self { normal, others, any };
        }
        if !plain {
            let mut read_bytes = 0;
            let mut with = path.as_bytes().to_vec();
            let mut without = with.clone();
            for _ in 0..=DECODE_ROUNDS {
                without = without_parameters(&without);
                // If nothing was removed, both texts are the same.
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

    /// The normal form, for display. It may contain any byte.
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

/// Removes `;parameters` from each segment.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let names = path.split(|byte| *byte == b'/').map(name_of);
    names.collect::<Vec<_>>().join(&b'/')
}

/// The segment without its `;parameters`. Servers route by this name.
fn name_of(segment: &[u8]) -> &[u8] {
    segment.split(|byte| *byte == b';').next().unwrap_or_default()
}

/// One way to split a path into segments.
#[derive(Clone, Copy)]
struct PathReader {
    /// Whether `\` is a separator like `/`.
    backslashes: bool,
    /// Whether `;parameters` are removed.
    parameters: bool,
    dots: Dots,
}

/// How `.` and `..` are handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Kept,
    /// `..` removes the last non-empty segment.
    Resolved,
    /// `..` removes the last segment, even an empty one from `//`.
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

    /// The readers that may read this text differently. Readers that differ only in a feature missing from the text are
    /// left out, so most paths need only two or three readings.
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

/// The number of dots if the segment is `.` or `..`, also if percent-encoded. Otherwise `None`.
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
