//! Requests and tunnels that are refused for a missing or unknown token.

use crate::audit::Caller;
use crate::clock::Moment;
use crate::metrics::Refused;
use crate::registry::Registry;
use crate::session::SessionId;
use crate::token::{Carrier, TokenMatch, TokenRule};
use parking_lot::Mutex;

/// How many audit events are written in a second. Clients without a token cost nothing to make: they must not fill the
/// disk, nor the queue in which the records of ends wait.
const MAX_EVENTS: u32 = 20;

/// What is refused, and by which rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'r> {
    reason: Refused,
    rule: &'r TokenRule,
    /// The session id of the unknown token.
    token: Option<SessionId>,
}

impl<'r> Refusal<'r> {
    /// There is no token.
    pub(super) fn missing(rule: &'r TokenRule) -> Self {
        Self { reason: Refused::Missing, rule, token: None }
    }

    /// The app was not seen to hand this token out.
    pub(super) fn unknown(token_match: &'r TokenMatch) -> Self {
        let rule = token_match.rules().find(|rule| rule.refuses_unknown).unwrap_or(&token_match.rule);
        Self::unknown_in_message(rule, token_match.id)
    }

    /// The same for a token in a message.
    pub(super) fn unknown_in_message(rule: &'r TokenRule, token: SessionId) -> Self {
        Self { reason: Refused::Unknown, rule, token: Some(token) }
    }
}

/// Records such refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Pace>);

impl Refusals {
    /// What came was refused, or would have been if not `done`.
    pub(super) fn record(
        &self,
        registry: &Registry,
        refusal: Refusal<'_>,
        carrier: Carrier,
        caller: &Caller,
        done: bool,
    ) {
        let Refusal { reason, rule, token } = refusal;
        if done {
            registry.metrics().refused_for(reason, carrier);
        } else {
            registry.metrics().would_refuse(reason, carrier);
        }
        let label = rule.label();
        let outcome = if done { "refused" } else { "would be refused" };
        let what = if token.is_some() { "a token that the app was not seen to hand out" } else { "no token" };
        let session = token.map(|token| token.to_string());
        tracing::debug!(rule = label, session, carrier = carrier.name(), client = caller.client(), "{outcome}: {what}");
        let Some(left_out) = self.0.lock().next(registry.clock().now()) else { return };
        registry.decisions.unadmitted((reason, &label, token), (carrier, caller), done, left_out);
    }
}

/// Bounds the audit events of each second.
#[derive(Debug, Default)]
struct Pace {
    second: u64,
    written: u32,
    left_out: u64,
}

impl Pace {
    /// Whether one more may be written now, and how many were left out since the last one.
    fn next(&mut self, now: Moment) -> Option<u64> {
        let second = now.0 / 1000;
        if second != self.second {
            (self.second, self.written) = (second, 0);
        }
        if self.written >= MAX_EVENTS {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_second_are_bounded_and_those_left_out_are_counted() {
        let mut pace = Pace::default();
        let mut written = |at, count: usize| (0..count).filter_map(|_| pace.next(Moment(at))).collect::<Vec<_>>();
        assert_eq!(written(1000, 100), [0; 20]);
        assert!(written(1999, 7).is_empty());
        assert_eq!(written(2000, 2), [87, 0]);
        assert_eq!(written(9000, 1), [0]);
    }
}
