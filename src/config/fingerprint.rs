//! Hashes of all configuration values by key, to find what an edit has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use toml::de::DeValue;

/// The dotted paths of all keys set in the file or by a variable, with a hash of each value. Values themselves are not
/// kept, because some are secrets. The hashes never leave the process.
#[derive(Clone, Default)]
pub(super) struct Fingerprint(BTreeMap<String, u64>);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Fingerprint {
    pub(super) fn note(&mut self, path: String, value: &DeValue<'_>) {
        let mut hasher = DefaultHasher::new();
        hash(value, &mut hasher);
        self.0.insert(path, hasher.finish());
    }

    /// The paths of the keys whose value differs in `other`, or that are set in only one of the two.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let all: BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        all.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect()
    }

    /// Copies the state of these keys from `other`.
    pub(super) fn take_over(&mut self, paths: &[String], other: &Self) {
        for path in paths {
            match other.0.get(path) {
                Some(value) => self.0.insert(path.clone(), *value),
                None => self.0.remove(path),
            };
        }
    }
}

/// Hashes the value only, not its position in the file.
fn hash(value: &DeValue<'_>, hasher: &mut impl Hasher) {
    discriminant(value).hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => (number.radix(), number.as_str()).hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(value) => value.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash(item.get_ref(), hasher));
        }
        DeValue::Table(entries) => {
            entries.len().hash(hasher);
            for (name, value) in entries {
                name.get_ref().hash(hasher);
                hash(value.get_ref(), hasher);
            }
        }
    }
}
