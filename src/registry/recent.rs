//! The most recent audit events, kept in memory for the operators' page.

use crate::session::SessionId;
use std::collections::VecDeque;

/// How many events of each kind are kept: refusals, and all others. They are counted separately, so that repeated dead
/// tokens cannot displace the record of an end.
const MAX_KEPT: usize = 50;

/// A recent audit event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Past {
    /// The session, if the event has one.
    pub session: Option<SessionId>,
    /// How many refusals of the same session this event stands for. The event is the latest of them. 0 if it is not a
    /// refusal.
    pub refusals: u64,
    /// The event as JSON.
    pub line: String,
}

/// The most recent events, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Past>);

impl Recent {
    /// Adds an event. A page that reconnects repeatedly with a dead token is refused each time, but listed only once.
    pub(super) fn keep(&mut self, session: Option<SessionId>, is_refusal: bool, line: String) {
        let refusals = if is_refusal { self.take_refusals(session) + 1 } else { 0 };
        let alike = |past: &Past| (past.refusals > 0) == is_refusal;
        if self.0.iter().filter(|past| alike(past)).count() >= MAX_KEPT
            && let Some(oldest) = self.0.iter().position(alike)
        {
            self.0.remove(oldest);
        }
        self.0.push_back(Past { session, refusals, line });
    }

    pub(super) fn latest_first(&self) -> Vec<Past> {
        self.0.iter().rev().cloned().collect()
    }

    /// Removes the refusals of this session. Returns how many there were.
    fn take_refusals(&mut self, session: Option<SessionId>) -> u64 {
        let same = self.0.iter().position(|past| past.refusals > 0 && past.session == session);
        same.and_then(|position| self.0.remove(position)).map_or(0, |past| past.refusals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(recent: &mut Recent, number: usize, is_refusal: bool, line: &str) {
        recent.keep(Some(SessionId::of_token(&number.to_be_bytes())), is_refusal, line.to_owned());
    }

    fn kept(recent: &Recent) -> Vec<&str> {
        recent.0.iter().map(|past| past.line.as_str()).collect()
    }

    #[test]
    fn the_oldest_event_is_dropped_and_refusals_displace_no_end() {
        let mut recent = Recent::default();
        (0..60).for_each(|number| keep(&mut recent, number, false, &format!("end {number}")));
        let ends: Vec<_> = (10..60).map(|number| format!("end {number}")).collect();
        assert_eq!(kept(&recent), ends);
        (0..1000).for_each(|number| keep(&mut recent, number, true, "refusal"));
        assert_eq!(kept(&recent)[..MAX_KEPT], ends);
        assert_eq!(recent.0.len(), 2 * MAX_KEPT);
    }

    #[test]
    fn repeated_refusals_of_a_session_are_counted() {
        let mut recent = Recent::default();
        for (number, is_refusal, line) in [(1, false, "end"), (1, true, "a"), (2, true, "b"), (1, true, "c")] {
            keep(&mut recent, number, is_refusal, line);
        }
        assert_eq!(kept(&recent), ["end", "b", "c"]);
        assert_eq!(recent.0.iter().map(|past| past.refusals).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
