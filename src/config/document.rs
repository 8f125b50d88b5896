//! The file and the environment, read as one document.
//!
//! Its tables are [`Section`](super::section::Section)s; here is what they share, and how all problems are collected.

use super::error::{Origin, Problem, Problems};
use super::fingerprint::Fingerprint;
use super::unknown;
use super::variables::{Variables, variable_of};
use std::collections::BTreeSet;

/// A file's text and the `IDLEGATE_` variables, with what is wrong in them so far.
pub(super) struct Document<'a> {
    file: &'a str,
    pub(super) text: &'a str,
    pub(super) variables: &'a Variables,
    pub(super) problems: Vec<Problem>,
    pub(super) syntax: Vec<Problem>,
    /// Required things that are not there. They may only seem so while the syntax is broken.
    pub(super) absent: Vec<Problem>,
    /// The dotted paths of all keys asked for, whether present or not.
    pub(super) known: BTreeSet<String>,
    pub(super) unknown: Vec<(Origin, String)>,
    pub(super) written: Fingerprint,
    /// What stands in the file for keys that a variable sets.
    pub(super) shadowed: Fingerprint,
    pub(super) used_variables: BTreeSet<String>,
}

/// Where a value was read.
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

    /// Every problem, unknown keys and variables included.
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
            // Further problems that follow from broken TOML are dropped: those on the same line, and all of the file
            // once the head of a table is broken, since its keys then seem to stand in other tables.
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

    /// The dotted paths of all keys that were asked for.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Whether a variable sets a key of the table `path`.
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
