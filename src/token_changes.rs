//! Whether the app changes a token while its user stays logged in.
//!
//! Each value of a token is a session of its own. Where the app hands out a new value with its responses, as Flask does when it
//! writes to its session cookie, a user who returns after hours brings a value that no session is known for, and is let in.

use crate::session::SessionId;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// How many changes in a row show it. A login changes the token once, and a logout ends the row.
const MIN_CHANGES: u32 = 5;

/// For how many tokens the changes are counted; the oldest is forgotten first.
const MAX_TOKENS: usize = 1024;

/// Follows tokens from one value to the next.
#[derive(Debug, Default)]
pub(crate) struct TokenChanges {
    counts: Mutex<Counts>,
    /// By the number of the rule: whether its token changes.
    rules: Mutex<Vec<(usize, String)>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// How often a token was changed until it became this one.
    changes: HashMap<SessionId, u32>,
    order: VecDeque<SessionId>,
}

impl TokenChanges {
    /// The app has answered a live token with another one. `label` names the rule for people.
    pub(crate) fn changed(&self, rule: usize, label: impl FnOnce() -> String, from: SessionId, to: SessionId) {
        if from == to || self.counts.lock().next(from, to) < MIN_CHANGES {
            return;
        }
        let mut rules = self.rules.lock();
        if rules.iter().any(|(number, _)| *number == rule) {
            return;
        }
        let label = label();
        tracing::warn!(
            rule = label,
            "the app changes this token while its user stays logged in; each value counts as a new session, so an idle user is \
             not logged out; use a token that stays the same, see docs/troubleshooting.md"
        );
        rules.push((rule, label));
    }

    /// The rules whose token changes.
    pub(crate) fn report(&self) -> Vec<String> {
        self.rules.lock().iter().map(|(_, label)| label.clone()).collect()
    }
}

impl Counts {
    /// Counts one change, and returns how many there were in a row.
    fn next(&mut self, from: SessionId, to: SessionId) -> u32 {
        let count = self.changes.get(&from).copied().unwrap_or(0).saturating_add(1);
        if self.changes.insert(to, count).is_none() {
            self.order.push_back(to);
        }
        if self.order.len() > MAX_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.changes.remove(&oldest);
        }
        count
    }
}

/// The sentence for people about these rules.
pub(crate) fn changing_tokens(rules: &[String]) -> String {
    let rules = rules.join(", ");
    format!("The app changes its token while users stay logged in: {rules}. An idle user is not logged out.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> SessionId {
        SessionId::of_token(number.to_string().as_bytes())
    }

    fn change(changes: &TokenChanges, from: usize, to: usize) {
        changes.changed(0, || "token.0".to_owned(), token(from), token(to));
    }

    #[test]
    fn five_changes_in_a_row_are_reported_and_logins_of_many_users_are_not() {
        let changes = TokenChanges::default();
        for user in 0..100 {
            change(&changes, 1000 + user, 2000 + user);
        }
        for number in 0..4 {
            change(&changes, number, number + 1);
        }
        assert!(changes.report().is_empty());
        change(&changes, 4, 4);
        assert!(changes.report().is_empty(), "the same value is no change");
        change(&changes, 4, 5);
        change(&changes, 5, 6);
        assert_eq!(changes.report(), ["token.0"]);
    }

    #[test]
    fn it_remembers_a_bounded_number_of_tokens() {
        let changes = TokenChanges::default();
        for number in 0..10 * MAX_TOKENS {
            change(&changes, 100_000 + number, 200_000 + number);
        }
        let counts = changes.counts.lock();
        assert_eq!((counts.changes.len(), counts.order.len()), (MAX_TOKENS, MAX_TOKENS));
    }
}
