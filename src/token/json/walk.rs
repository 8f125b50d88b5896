//! Walks over a document once and collects the values at the wanted pointers.

use super::scan::{Quoted, Scanner, ValueStart};
use super::{JsonValue, Pointer};

/// A container that is open around a value. The stack of containers is on the heap, because a document may be nested
/// too deep for the stack of a thread.
enum Container {
    Object,
    /// With the index of the current element.
    Array(u32),
}

/// All values found at the pointers. `None` if the document is not JSON.
pub(super) fn walk(scanner: &mut Scanner<'_>, wanted: &[&Pointer]) -> Option<Vec<Vec<JsonValue>>> {
    let mut places = Places::new(wanted);
    let mut open = Vec::new();
    loop {
        let start = scanner.start()?;
        places.note(open.len(), start);
        scanner.skip_space();
        match start {
            ValueStart::Object if !scanner.take(b'}') => {
                places.enter_key(open.len(), scanner.key()?);
                open.push(Container::Object);
                continue;
            }
            ValueStart::Array if !scanner.take(b']') => {
                places.enter_index(open.len(), 0);
                open.push(Container::Array(0));
                continue;
            }
            _ => {}
        }
        if !advance(scanner, &mut places, &mut open)? {
            return Some(places.found);
        }
    }
}

/// Moves from the end of a value to the next value, closing containers that end before it. Returns `false` at the end
/// of the document.
fn advance(scanner: &mut Scanner<'_>, places: &mut Places<'_>, open: &mut Vec<Container>) -> Option<bool> {
    loop {
        scanner.skip_space();
        let more = scanner.take(b',');
        let around = open.len().saturating_sub(1);
        match open.last_mut() {
            None => return (!more && scanner.rest.is_empty()).then_some(false),
            Some(Container::Object) if more => {
                places.enter_key(around, scanner.key()?);
                return Some(true);
            }
            Some(Container::Array(index)) if more => {
                *index = index.checked_add(1)?;
                places.enter_index(around, *index);
                return Some(true);
            }
            Some(Container::Object) if scanner.take(b'}') => {}
            Some(Container::Array(_)) if scanner.take(b']') => {}
            Some(_) => return None,
        }
        open.pop();
    }
}

/// How far each pointer matches the path to the current value, and the values found at its end.
struct Places<'wanted> {
    wanted: &'wanted [&'wanted Pointer],
    /// How many segments of each pointer match the current path. Reduced to the depth of a container when the walk
    /// enters its next member, so that leaving a value costs nothing.
    matched: Vec<usize>,
    found: Vec<Vec<JsonValue>>,
}

impl<'wanted> Places<'wanted> {
    fn new(wanted: &'wanted [&'wanted Pointer]) -> Self {
        Self { wanted, matched: vec![0; wanted.len()], found: wanted.iter().map(|_| Vec::new()).collect() }
    }

    /// A value begins, with `depth` containers around it.
    fn note(&mut self, depth: usize, start: ValueStart<'_>) {
        for ((pointer, matched), found) in self.wanted.iter().zip(&self.matched).zip(&mut self.found) {
            if *matched == depth && pointer.0.len() == depth {
                found.push(JsonValue::from(start));
            }
        }
    }

    /// The next value is a member of the object that has `depth` containers around it.
    fn enter_key(&mut self, depth: usize, key: Quoted<'_>) {
        let mut text = None;
        self.enter(depth, |segment| text.get_or_insert_with(|| key.unescaped()) == segment);
    }

    /// The next value is an element of the array that has `depth` containers around it.
    fn enter_index(&mut self, depth: usize, index: u32) {
        self.enter(depth, |segment| array_index(segment) == Some(index));
    }

    fn enter(&mut self, depth: usize, mut is_here: impl FnMut(&str) -> bool) {
        for (pointer, matched) in self.wanted.iter().zip(&mut self.matched) {
            *matched = (*matched).min(depth);
            if *matched == depth && pointer.0.get(depth).is_some_and(|segment| is_here(segment)) {
                *matched += 1;
            }
        }
    }
}

/// RFC 6901 §4: digits without a leading zero.
fn array_index(segment: &str) -> Option<u32> {
    let canonical = segment == "0" || segment.starts_with(|first: char| first.is_ascii_digit() && first != '0');
    if canonical { segment.parse().ok() } else { None }
}
