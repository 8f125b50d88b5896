//! The parts of the configuration that the operators' commands need. They must work while other parts are invalid: a
//! running idlegate continues with the last valid configuration, and the operator needs the switch most then.

use super::document::Document;
use super::section::read_document;
use super::{Config, Problem, Problems, Variables, read};
use crate::address::AdminListen;
use crate::session::SessionIds;
use std::path::Path;

/// The valid part of the configuration.
#[derive(Debug)]
pub(crate) struct ForOperators {
    /// `[admin]`.
    admin: Option<AdminListen>,
    /// `store.secret`.
    ids: SessionIds,
    problems: Option<Problems>,
}

impl ForOperators {
    /// Reads the file at `path`. `variables` override it, and are used even if there is no file.
    pub(crate) fn load(path: &Path, variables: &Variables) -> Self {
        let (text, unreadable) = match Config::read(path) {
            Ok(text) => (text, None),
            Err(problems) => (String::new(), Some(problems)),
        };
        let name = path.display().to_string();
        let mut document = Document::new(&name, &text, variables);
        let Config { admin, ids, .. } = read_document(&mut document, read::config);
        Self { admin, ids, problems: unreadable.or(document.finish()) }
    }

    /// `[admin]`, if it is configured.
    ///
    /// # Errors
    /// If `[admin]` has problems, or is missing while other parts have problems that may hide it.
    pub(crate) fn admin(&self) -> Result<Option<&AdminListen>, Problems> {
        let is_ours = |problem: &Problem| problem.key.as_ref().is_some_and(|key| key.starts_with("admin"));
        match &self.problems {
            Some(problems) if self.admin.is_none() || problems.iter().any(is_ours) => Err(problems.clone()),
            _ => Ok(self.admin.as_ref()),
        }
    }

    /// How tokens become session ids.
    ///
    /// # Errors
    /// If the configuration has any problem: with a wrong secret, a token would get an id that no replica knows.
    pub(crate) fn ids(&self) -> Result<&SessionIds, Problems> {
        self.problems.as_ref().map_or(Ok(&self.ids), |problems| Err(problems.clone()))
    }
}
