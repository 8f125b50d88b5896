//! The `IDLEGATE_` environment variables.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

/// The `IDLEGATE_` variables by name. Other variables are ignored.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The variables of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        // A variable that is not UTF-8 must not end the program. If it is ours, its key's validation reports it.
        std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect()
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(all: I) -> Self {
        Self(all.into_iter().filter(|(name, _)| name.starts_with("IDLEGATE_")).collect())
    }
}

impl Deref for Variables {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Shows names only: the values may be secrets.
impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The environment variable of a key: `IDLEGATE_IDLE_TIMEOUT` for `idle.timeout`.
pub(crate) fn variable_of(path: &str) -> String {
    format!("IDLEGATE_{}", path.replace('.', "_").to_ascii_uppercase())
}
