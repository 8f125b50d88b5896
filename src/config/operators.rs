//! The parts of the configuration that the operators' commands need. They must work while other parts are invalid: a
//! running idlegate continues with the last valid configuration, and the operator needs the switch most then.

use super::document::Document;
use super::section::read_document;
use super::{Config, Problem, Problems, Variables, read};
use crate::address::AdminListen;
use crate::session::SessionIds;
use std::path::Path;

/// As much of the configuration as could be read.
#[derive(Debug)]
pub(crate) struct ForOperators {
    /// `[admin]`.
    admin: Option<AdminListen>,
    /// `store.secret`.
    ids: SessionIds,
    problems: Option<Problems>,
}

impl ForOperators {
    /// Reads the file at `path`; `variables` go before it, also where there is no file.
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

    /// `[admin]`, where it is configured.
    ///
    /// # Errors
    /// What is wrong with it, or may be the reason that it is not seen.
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
    /// What is wrong with the configuration: with the wrong secret, a token would get an id that no replica knows.
    pub(crate) fn ids(&self) -> Result<&SessionIds, Problems> {
        self.problems.as_ref().map_or(Ok(&self.ids), |problems| Err(problems.clone()))
    }
}
