//! One table of the document. Its keys are read one by one.
//!
//! Every lookup goes through [`Section::find`]. This gives each key an environment variable, marks it as known (all
//! other keys are reported), and attaches its path and position to each problem.

use super::document::{Document, ValueSource};
use super::error::{Origin, Problem, ValueError, echo};
use super::value::{Form, integer, not_a, of_variable, syntax_fault};
use super::variables::variable_of;
use std::collections::BTreeSet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How many syntax errors are reported.
const MAX_SYNTAX_ERRORS: usize = 100;

/// One table of the document.
pub(super) struct Section<'d, 'a> {
    document: &'d mut Document<'a>,
    /// Its dotted path, empty for the top level.
    path: String,
    table: DeTable<'a>,
    source: ValueSource,
    /// The position of its header in the file, if it has one.
    start: Option<usize>,
    /// The keys that were looked up in this table. These are not dotted paths: `"idle.timeout" = "1h"` at the top level
    /// is a different key from `timeout` in `[idle]`.
    asked: BTreeSet<String>,
}

/// Where a key stands.
#[derive(Clone)]
pub(super) struct Place {
    origin: Origin,
    path: String,
}

/// A value and its source.
struct RawValue<'a> {
    value: DeValue<'a>,
    source: ValueSource,
    start: Option<usize>,
}

/// Reads the whole document. `read` gets its top level.
pub(super) fn read_document<'a, T>(document: &mut Document<'a>, read: impl FnOnce(&mut Section<'_, 'a>) -> T) -> T {
    let (table, errors) = DeTable::parse_recoverable(document.text);
    // A file that is not TOML at all produces an unlimited number of errors.
    for error in errors.into_iter().take(MAX_SYNTAX_ERRORS) {
        let start = error.span().map_or(0, |span| span.start);
        let fault = syntax_fault(error.message());
        document.syntax.push(Problem { origin: document.origin(&ValueSource::File, Some(start)), key: None, fault });
    }
    // One typo often causes several errors. The first one on a line is the most accurate.
    document.syntax.sort_by(|one, other| one.origin.cmp(&other.origin));
    document.syntax.dedup_by(|next, first| next.origin == first.origin);
    Section::read_with(document, String::new(), table.into_inner(), ValueSource::File, None, read)
}

impl<'a> Section<'_, 'a> {
    pub(super) fn read_with<T>(
        document: &mut Document<'a>,
        path: String,
        table: DeTable<'a>,
        source: ValueSource,
        start: Option<usize>,
        read: impl FnOnce(&mut Section<'_, 'a>) -> T,
    ) -> T {
        let mut section = Section { document, path, table, source, start, asked: BTreeSet::new() };
        let outcome = read(&mut section);
        let Section { document, path, table, source, asked, .. } = section;
        for key in table.keys().filter(|key| !asked.contains(key.get_ref().as_ref())) {
            let origin = document.origin(&source, Some(key.span().start));
            document.unknown.push((origin, join(&path, &as_written(key.get_ref()))));
        }
        outcome
    }

    /// The value of `key`, from its environment variable if set, otherwise from the table.
    fn find(&mut self, key: &str, form: Form) -> Option<RawValue<'a>> {
        let path = join(&self.path, key);
        let variable = variable_of(&path);
        self.asked.insert(key.to_owned());
        self.document.known.insert(path);
        let variables = self.document.variables;
        if let Some(raw) = variables.get(&variable) {
            self.document.used_variables.insert(variable.clone());
            let source = ValueSource::Variable(variable);
            return match of_variable(raw, form) {
                Ok(value) => Some(RawValue { value, source, start: None }),
                Err(fault) => {
                    let origin = self.document.origin(&source, None);
                    self.report(origin, key, fault);
                    None
                }
            };
        }
        let value = self.table.get(key)?;
        let start = Some(value.span().start);
        Some(RawValue { value: value.get_ref().clone(), source: self.source.clone(), start })
    }

    /// The value of a `key` that is not a table of other keys. Records it, so that a reload can find what has changed.
    fn read(&mut self, key: &str, form: Form) -> Option<RawValue<'a>> {
        let found = self.find(key, form)?;
        let path = join(&self.path, key);
        if let (ValueSource::Variable(_), Some(value)) = (&found.source, self.table.get(key)) {
            self.document.shadowed.note(path.clone(), value.get_ref());
        }
        self.document.written.note(path, &found.value);
        Some(found)
    }

    /// Whether `key` has a value, valid or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key) || self.document.variables.contains_key(&variable_of(&join(&self.path, key)))
    }

    /// Records a problem with the value of `key`. The value may be valid in itself but not allowed here.
    pub(super) fn fault(&mut self, key: &str, fault: ValueError) {
        let origin = self.origin_of(key);
        self.report(origin, key, fault);
    }

    /// Whether no problem was found in these tables so far.
    pub(super) fn is_faultless(&self, tables: &[&str]) -> bool {
        let keys =
            self.document.problems.iter().chain(&self.document.absent).filter_map(|problem| problem.key.as_ref());
        keys.into_iter().all(|key| !tables.contains(&key.split('.').next().unwrap_or_default()))
    }

    /// Where `key` stands, for a problem that is found only later.
    pub(super) fn place_of(&mut self, key: &str) -> Place {
        Place { origin: self.origin_of(key), path: join(&self.path, key) }
    }

    /// Records a problem with a key of another table.
    pub(super) fn fault_at(&mut self, place: &Place, fault: ValueError) {
        let problem = Problem { origin: place.origin.clone(), key: Some(place.path.clone()), fault };
        self.document.problems.push(problem);
    }

    /// Records that the required `key` is missing. `fix` shows how to write it.
    pub(super) fn absent(&mut self, key: &str, what: &str, fix: &str) {
        let origin = self.origin_of(key);
        let problem = Problem { origin, key: Some(join(&self.path, key)), fault: ValueError::new(what, fix) };
        self.document.absent.push(problem);
    }

    /// The position of `key`, or of the table it belongs in.
    fn origin_of(&mut self, key: &str) -> Origin {
        match self.find(key, Form::Text) {
            Some(found) => self.document.origin(&found.source, found.start),
            None => self.document.origin(&self.source, self.start),
        }
    }

    fn report(&mut self, origin: Origin, key: &str, fault: ValueError) {
        self.document.problems.push(Problem { origin, key: Some(join(&self.path, key)), fault });
    }

    fn check<T>(
        &mut self,
        key: &str,
        form: Form,
        check: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<T> {
        let found = self.read(key, form)?;
        match check(&found.value) {
            Ok(value) => Some(value),
            Err(fault) => {
                let origin = self.document.origin(&found.source, found.start);
                self.report(origin, key, fault);
                None
            }
        }
    }

    /// Reads a text key. Returns `None` if it is missing or invalid. An invalid value is recorded.
    pub(super) fn text<T>(&mut self, key: &str, check: impl FnOnce(&str) -> Result<T, ValueError>) -> Option<T> {
        self.check(key, Form::Text, |value| match value {
            DeValue::String(text) => check(text),
            other => Err(not_a(other, "text", "write it in quotes")),
        })
    }

    /// Reads a duration. A bare number is passed to `check` as text, so that the error can name the missing unit.
    pub(super) fn duration<T>(&mut self, key: &str, check: impl FnOnce(&str) -> Result<T, ValueError>) -> Option<T> {
        self.check(key, Form::Text, |value| match value {
            DeValue::String(text) => check(text),
            DeValue::Integer(_) => check(&integer(value)?.to_string()),
            other => Err(not_a(other, "a duration", "write it in quotes, like \"1h\" or \"45s\"")),
        })
    }

    /// Reads a key whose value is any other scalar.
    pub(super) fn scalar<T>(
        &mut self,
        key: &str,
        check: impl FnOnce(&DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<T> {
        self.check(key, Form::Toml, check)
    }

    /// Reads a key whose value is a list of texts; each wrong one is recorded.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        mut check: impl FnMut(&str) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let found = self.read(key, Form::List)?;
        let DeValue::Array(items) = &found.value else {
            self.fault(key, not_a(&found.value, "a list", "write it like [\"one\", \"two\"], or [] for none"));
            return None;
        };
        let checked = items.iter().map(|item| match item.get_ref() {
            DeValue::String(text) => check(text),
            other => Err(not_a(other, "text", "write every element of the list in quotes")),
        });
        self.collect(key, &found.source, items.iter().zip(checked))
    }

    /// Reads a key whose value is a table of free names; each wrong entry is recorded.
    pub(super) fn entries<T>(
        &mut self,
        key: &str,
        mut check: impl FnMut(&str, &DeValue<'_>) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let found = self.read(key, Form::Toml)?;
        let DeValue::Table(entries) = &found.value else {
            self.fault(key, not_a(&found.value, "a table", "write it like { \"name\" = \"value\" }"));
            return None;
        };
        let checked = entries.iter().map(|(name, value)| (value, check(name.get_ref(), value.get_ref())));
        self.collect(key, &found.source, checked)
    }

    /// Returns all values if every one is valid. Otherwise records a problem for each invalid one.
    fn collect<'v, T>(
        &mut self,
        key: &str,
        source: &ValueSource,
        checked: impl Iterator<Item = (&'v Spanned<DeValue<'a>>, Result<T, ValueError>)>,
    ) -> Option<Vec<T>>
    where
        'a: 'v,
    {
        let mut right = Vec::new();
        let mut all_right = true;
        for (value, outcome) in checked {
            match outcome {
                Ok(one) => right.push(one),
                Err(fault) => {
                    let origin = self.document.origin(source, Some(value.span().start));
                    self.report(origin, key, fault);
                    all_right = false;
                }
            }
        }
        all_right.then_some(right)
    }

    /// Reads the table `key`. A missing table is read as an empty one.
    pub(super) fn table<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_, 'a>) -> T) -> T {
        let path = join(&self.path, key);
        let (table, source, start) = match self.find(key, Form::Toml) {
            Some(RawValue { value: DeValue::Table(table), source, start }) => (table, source, start),
            Some(RawValue { value, .. }) => {
                self.fault(key, not_a(&value, "a table", &format!("write it as [{path}], its keys below")));
                (DeTable::new(), ValueSource::File, None)
            }
            None => (DeTable::new(), ValueSource::File, None),
        };
        Section::read_with(self.document, path, table, source, start, read)
    }

    /// Reads the list of tables `key`, including tables that only environment variables define. Returns `None` if an
    /// element is not a table, and records that.
    pub(super) fn tables<T>(&mut self, key: &str, mut read: impl FnMut(&mut Section<'_, 'a>) -> T) -> Option<Vec<T>> {
        let path = join(&self.path, key);
        let fix = format!("write each of them as [[{path}]], its keys below");
        let (items, source) = match self.find(key, Form::List) {
            Some(RawValue { value: DeValue::Array(items), source, .. }) => (items, source),
            Some(RawValue { value, .. }) => {
                self.fault(key, not_a(&value, "a list of tables", &fix));
                return None;
            }
            // The value exists but could not be read. The problem is recorded.
            None if self.has(key) => return None,
            None => (std::iter::empty().collect(), ValueSource::File),
        };
        let mut outcomes = Some(Vec::new());
        let mut items = items.into_iter();
        for index in 0_usize.. {
            let path = join(&path, &index.to_string());
            let (start, table) = match items.next().map(|item| (Some(item.span().start), item.into_inner())) {
                Some((start, DeValue::Table(table))) => (start, table),
                Some((start, other)) => {
                    let origin = self.document.origin(&source, start);
                    let fault = not_a(&other, "a table", &fix);
                    self.document.problems.push(Problem { origin, key: Some(path), fault });
                    outcomes = None;
                    continue;
                }
                None if self.document.has_variables_below(&path) => (None, DeTable::new()),
                None => break,
            };
            let outcome = Section::read_with(self.document, path, table, source.clone(), start, &mut read);
            if let Some(outcomes) = &mut outcomes {
                outcomes.push(outcome);
            }
        }
        outcomes
    }
}

/// A key as part of a dotted path. It is quoted if it contains a dot, a line break or other special characters.
fn as_written(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { key.to_owned() } else { echo(key) }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
