//! The file and the environment, read as one document.
//!
//! Its tables are [`Section`](super::section::Section)s. This module holds what they share and collects problems.

use super::error::{Origin, Problem, Problems};
use super::fingerprint::Fingerprint;
use super::unknown;
use super::variables::{Variables, variable_of};
use std::collections::BTreeSet;

/// The text of the file and the `IDLEGATE_` variables, with the problems found so far.
pub(super) struct Document<'a> {
    file: &'a str,
    pub(super) text: &'a str,
    pub(super) variables: &'a Variables,
    pub(super) problems: Vec<Problem>,
    pub(super) syntax: Vec<Problem>,
    /// Missing required keys. Not reported if there are syntax errors, since the keys may exist but not be parsed.
    pub(super) absent: Vec<Problem>,
    /// The dotted paths of all keys that were looked up, present or not.
    pub(super) known: BTreeSet<String>,
    pub(super) unknown: Vec<(Origin, String)>,
    pub(super) written: Fingerprint,
    /// The file's values of keys that a variable overrides.
    pub(super) shadowed: Fingerprint,
    pub(super) used_variables: BTreeSet<String>,
}

/// The source of a value.
#[derive(Clone, Debug)]
pub(super) enum ValueSource {
    File,
    Variable(String),
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, variables: &'a Variables) -> Self {
        Self {
            file,
            text,
            variables,
            problems: Vec::new(),
            syntax: Vec::new(),
            absent: Vec::new(),
            known: BTreeSet::new(),
            unknown: Vec::new(),
            written: Fingerprint::default(),
            shadowed: Fingerprint::default(),
            used_variables: BTreeSet::new(),
        }
    }

    /// All problems, including unknown keys and variables.
    pub(super) fn finish(mut self) -> Option<Problems> {
        for (origin, path) in std::mem::take(&mut self.unknown) {
            let fault = unknown::unknown_key(&path, &self.known);
            self.problems.push(Problem { origin, key: Some(path), fault });
        }
        for name in self.variables.keys().filter(|name| !self.used_variables.contains(*name)) {
            if !unknown::is_not_ours(name) {
                let fault = unknown::unknown_variable(name, &self.known);
                self.problems.push(Problem { origin: Origin::Variable(name.clone()), key: None, fault });
            }
        }
        if self.syntax.is_empty() {
            self.problems.append(&mut self.absent);
        } else {
            // Drop problems that syntax errors may have caused: those on the same line, and all problems of the file if
            // a table header is broken, because its keys then seem to belong to another table.
            let headless = self.syntax.iter().any(|problem| self.is_head(&problem.origin));
            self.problems.retain(|problem| match &problem.origin {
                Origin::Variable(_) => true,
                Origin::Line { .. } | Origin::File { .. } => {
                    !headless && self.syntax.iter().all(|error| error.origin != problem.origin)
                }
            });
            self.problems.append(&mut self.syntax);
        }
        Problems::of(self.problems)
    }

    /// The dotted paths of all keys that were looked up.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Whether a variable sets a key in the table `path`.
    pub(super) fn has_variables_below(&self, path: &str) -> bool {
        let prefix = variable_of(path) + "_";
        self.variables.keys().any(|name| name.starts_with(&prefix) && !unknown::is_not_ours(name))
    }

    fn is_head(&self, origin: &Origin) -> bool {
        let Origin::Line { line, .. } = origin else { return false };
        self.text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with('['))
    }

    pub(super) fn origin(&self, source: &ValueSource, start: Option<usize>) -> Origin {
        match (source, start) {
            (ValueSource::Variable(name), _) => Origin::Variable(name.clone()),
            (ValueSource::File, None) => Origin::File { file: self.file.to_owned() },
            (ValueSource::File, Some(start)) => {
                let line = 1 + self.text.bytes().take(start).filter(|byte| *byte == b'\n').count();
                Origin::Line { file: self.file.to_owned(), line }
            }
        }
    }
}
