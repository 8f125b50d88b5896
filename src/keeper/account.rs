//! What is known of one session, for those who ask, and the sentence that explains it.

use crate::audit::{Caller, Why};
use crate::session::{EpochSeconds, Limits, Reason};
use crate::store::Ended;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not over.
    Live,
    /// It is over, and lives on since the mode cuts nobody.
    Lapsed,
    /// It has ended, and its token is dead.
    Ended,
}

/// What is known of one session. All times are epoch seconds by the store's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The session id.
    pub session: String,
    /// How it stands.
    pub state: State,
    /// When it began.
    pub created: EpochSeconds,
    /// Its last activity.
    pub last_activity: EpochSeconds,
    /// What that was.
    pub source: String,
    /// The last activity of each source that any replica has seen.
    pub activity: BTreeMap<String, EpochSeconds>,
    /// How many connections it has, by replica.
    pub connections: BTreeMap<String, usize>,
    /// When and why it ended, where it has; or would have, where it has lapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Who came with it last, where anybody did.
    #[serde(flatten, default)]
    pub visit: Option<Visit>,
}

/// The last who came with a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Visit {
    /// The address.
    pub client: String,
    /// The path that was asked for, short and printable.
    pub route: String,
}

impl From<Caller> for Visit {
    fn from(caller: Caller) -> Self {
        Self { client: caller.client().to_owned(), route: caller.route().to_owned() }
    }
}

/// An end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: EpochSeconds,
    /// Why.
    pub reason: String,
}

/// What an account is reckoned by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reckoning {
    /// The second that it is.
    pub now: EpochSeconds,
    /// Since when counting is unbroken: nobody is idle from before.
    pub counting: EpochSeconds,
    /// What is allowed.
    pub limits: Limits,
}

impl Reckoning {
    /// For how many seconds a session has been idle that was last active then.
    pub(super) fn idle(&self, last_activity: EpochSeconds) -> u64 {
        self.now.saturating_sub(self.idle_since(last_activity))
    }

    /// When it is over, if nothing happens until then, and why.
    pub(super) fn due(&self, created: EpochSeconds, last_activity: EpochSeconds) -> (EpochSeconds, Reason) {
        self.limits.due(created, self.idle_since(last_activity))
    }

    fn idle_since(&self, last_activity: EpochSeconds) -> EpochSeconds {
        last_activity.max(self.counting)
    }
}

impl Account {
    /// For how many seconds it has been idle, as far as somebody counted; an ended one for as long as until its end.
    #[must_use]
    pub fn idle(&self, by: &Reckoning) -> u64 {
        match self.end.as_ref().filter(|_| self.state == State::Ended) {
            Some(end) => end.at.saturating_sub(self.last_activity),
            None => by.idle(self.last_activity),
        }
    }

    /// How many seconds it has, if nothing happens until then, and what ends it then. No seconds where it is over.
    #[must_use]
    pub fn left(&self, by: &Reckoning) -> (u64, Reason) {
        let (due, reason) = by.due(self.created, self.last_activity);
        (due.saturating_sub(by.now), reason)
    }

    /// Why it lives or does not, in a sentence: the arithmetic, and what keeps it alive.
    #[must_use]
    pub fn says(&self, by: &Reckoning) -> String {
        let limits = &by.limits;
        match &self.end {
            Some(end) if self.state == State::Ended => {
                format!("ended {} ({}): {}", end.at, clock_time(end.at), self.why(end, limits))
            }
            Some(end) => format!(
                "over since {} ({}), and not cut, since the mode does not cut: {}",
                end.at,
                clock_time(end.at),
                self.why(end, limits)
            ),
            None => {
                let Self { last_activity, source, .. } = self;
                let others = self.activity.iter().filter(|(other, _)| *other != source).max_by_key(|(_, at)| **at);
                let alone = others.map_or(String::new(), |(other, at)| {
                    format!("; before that, by anything else, {at} ({}) by {other}", clock_time(*at))
                });
                let anew = if by.counting > *last_activity {
                    format!(
                        "; idle time counts from {} ({}) on, before that nobody counted",
                        by.counting,
                        clock_time(by.counting)
                    )
                } else {
                    String::new()
                };
                format!(
                    "alive: idle {} s of {} s, last activity {last_activity} ({}) by {source}{alone}{anew}",
                    self.idle(by),
                    limits.timeout,
                    clock_time(*last_activity)
                )
            }
        }
    }

    /// In the words of its record.
    fn why(&self, end: &End, limits: &Limits) -> Why<'_> {
        Why {
            // A reason that is not known here is one that somebody had.
            reason: Reason::from_name(&end.reason).unwrap_or(Reason::Operator),
            created: self.created,
            last_activity: self.last_activity,
            source: &self.source,
            ended: end.at,
            counting: None,
            limit: limits.timeout,
            lifetime: limits.lifetime,
        }
    }

    /// It is over, by this record. Its seconds are those of the store: here they may be one more or less.
    pub(super) fn close(&mut self, state: State, record: &Ended) {
        (self.state, self.created, self.last_activity) = (state, record.created, record.last_activity);
        record.source.name().clone_into(&mut self.source);
        self.activity.insert(self.source.clone(), record.last_activity);
        self.end = Some(End { at: record.ended, reason: record.reason.name().to_owned() });
    }

    /// Takes in what another replica, or the store, knows of the same session.
    pub(super) fn merge(&mut self, other: Self) {
        // Of one that has ended its record tells, and nobody who has not heard of that.
        let is_over = |account: &Self| account.state == State::Ended;
        if (is_over(&other), other.last_activity) > (is_over(self), self.last_activity) {
            self.visit = other.visit.or(self.visit.take());
            (self.last_activity, self.source) = (other.last_activity, other.source);
        } else if self.visit.is_none() {
            self.visit = other.visit;
        }
        self.created = self.created.min(other.created);
        for (source, at) in other.activity {
            let known = self.activity.entry(source).or_insert(at);
            *known = (*known).max(at);
        }
        self.connections.extend(other.connections);
        if (other.state as u8) > (self.state as u8) {
            (self.state, self.end) = (other.state, other.end);
        }
        // Idle for one replica, and active on another since.
        let is_back = self.end.as_ref().is_some_and(|end| end.reason == "idle" && self.last_activity >= end.at);
        if self.state == State::Lapsed && is_back {
            (self.state, self.end) = (State::Live, None);
        }
    }
}

/// The last second that can be written with a year of four digits. Another replica may say anything.
const LAST_SECOND: EpochSeconds = 253_402_300_799;

/// A second as people write it.
pub(crate) fn clock_time(second: EpochSeconds) -> humantime::Rfc3339Timestamp {
    let since = std::time::Duration::from_secs(second.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { timeout: 60, lifetime: Some(3600), retention: 0 };

    fn account(state: State, last_activity: EpochSeconds, end: Option<(EpochSeconds, &str)>) -> Account {
        let source = "client-pong".to_owned();
        Account {
            session: String::new(),
            state,
            created: 1_000,
            last_activity,
            activity: BTreeMap::from([(source.clone(), last_activity)]),
            source,
            connections: BTreeMap::new(),
            end: end.map(|(at, reason)| End { at, reason: reason.to_owned() }),
            visit: None,
        }
    }

    #[test]
    fn what_is_left_is_the_smaller_of_both() {
        let by = |now, limits| Reckoning { now, counting: 0, limits };
        let of = |last_activity, now| account(State::Live, last_activity, None).left(&by(now, LIMITS));
        assert_eq!(of(1_000, 1_010), (51, Reason::Idle));
        assert_eq!(of(4_590, 4_591), (10, Reason::Lifetime));
        assert_eq!(of(1_000, 9_000), (0, Reason::Idle));
        let forever = Limits { lifetime: None, ..LIMITS };
        assert_eq!(account(State::Live, 4_590, None).left(&by(4_591, forever)), (60, Reason::Idle));
    }

    #[test]
    fn nobody_is_idle_from_when_nobody_counted() {
        let by = Reckoning { now: 2_000, counting: 1_990, limits: LIMITS };
        let account = account(State::Live, 1_000, None);
        assert_eq!((account.idle(&by), account.left(&by)), (10, (51, Reason::Idle)));
        let says = account.says(&by);
        assert!(says.starts_with("alive: idle 10 s of 60 s, last activity 1000 "), "{says}");
        assert!(
            says.ends_with("; idle time counts from 1990 (1970-01-01T00:33:10Z) on, before that nobody counted"),
            "{says}"
        );
    }

    #[test]
    fn who_is_active_on_another_replica_since_is_not_past_the_limit() {
        let lapsed = account(State::Lapsed, 1_000, Some((1_061, "idle")));
        for (last_activity, state) in [(1_000, State::Lapsed), (1_070, State::Live)] {
            let mut merged = account(State::Live, last_activity, None);
            merged.merge(lapsed.clone());
            assert_eq!((merged.state, merged.end.is_some()), (state, state == State::Lapsed));
        }
        let mut dead = account(State::Ended, 1_000, Some((1_061, "idle")));
        dead.merge(account(State::Live, 1_070, None));
        assert_eq!(dead.state, State::Ended, "dead stays dead");
    }

    #[test]
    fn it_is_explained_by_its_arithmetic() {
        let says = |state, end| account(state, 1_000, end).says(&Reckoning { now: 1_010, counting: 0, limits: LIMITS });
        let ended = says(State::Ended, Some((1_061, "idle")));
        assert_eq!(ended, "ended 1061 (1970-01-01T00:17:41Z): idle 61 s > 60 s, last activity 1000 by client-pong");
        let lapsed = says(State::Lapsed, Some((1_061, "idle")));
        assert!(lapsed.ends_with(", since the mode does not cut: idle 61 s > 60 s, last activity 1000 by client-pong"));
        assert_eq!(
            says(State::Live, None),
            "alive: idle 10 s of 60 s, last activity 1000 (1970-01-01T00:16:40Z) by client-pong"
        );
    }
}
