//! How a rule reads a value: as a token, as one that only a lenient app reads there, or as none.

use super::rule::TokenRule;
use super::secret::Token;

/// A value as a rule reads it.
pub(super) struct Reading {
    pub(super) token: Token,
    /// Whether the value itself does not have the format of the rule, but the token in it does. Only a lenient app reads
    /// it as the token.
    pub(super) loose: bool,
}

impl TokenRule {
    /// The reading of `value`, in which `token` was found. `None` if neither has the format of the rule.
    pub(super) fn reading(&self, value: &[u8], token: Option<Token>) -> Option<Reading> {
        let token = token?;
        let Some(format) = &self.format else { return Some(Reading { token, loose: false }) };
        let loose = !format.matches(value);
        (!loose || token.has(format)).then_some(Reading { token, loose })
    }
}
