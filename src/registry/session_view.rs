//! What is known of one session, for those who ask, and the sentence that explains it.

use crate::audit::{Caller, Why};
use crate::counted::when;
use crate::session::{EpochSeconds, Limits, Reason, counts_from, idle_at};
use crate::store::Ended;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not over.
    Live,
    /// Past its timeout, and alive because the mode does not enforce.
    Overdue,
    /// It has ended, and its token is dead.
    Ended,
}

/// What is known of one session. All times are epoch seconds by the store's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionView {
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
    /// When and why it ended, or would have ended if it is overdue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The client that used it last, if one did.
    #[serde(flatten, default)]
    pub last_request: Option<LastRequest>,
    /// How its last WebSocket ended, where one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_close: Option<LastClose>,
}

/// How the last WebSocket of a session ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastClose {
    /// When.
    pub at: EpochSeconds,
    /// Who closed it: `client`, `app` or `idlegate`.
    pub by: String,
    /// The code of the Close, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// Its reason, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl LastClose {
    /// Who closed it, and with what code and reason.
    #[must_use]
    pub fn by_whom(&self) -> String {
        match (self.code, &self.reason) {
            (None, _) => format!("{}, without a Close", self.by),
            (Some(code), None) => format!("{} ({code})", self.by),
            (Some(code), Some(reason)) => format!("{} ({code} {reason})", self.by),
        }
    }
}

/// The last who came with a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastRequest {
    /// The address.
    pub client: String,
    /// The path that was asked for, short and printable.
    pub route: String,
}

impl From<Caller> for LastRequest {
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
    /// The start of counting then, where it is later than the last activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<EpochSeconds>,
}

impl From<&Ended> for End {
    fn from(ended: &Ended) -> Self {
        Self { at: ended.ended, reason: ended.reason.name().to_owned(), counting: ended.counting }
    }
}

/// The clock, limits and start of counting that a view is computed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// The second that it is.
    pub now: EpochSeconds,
    /// The start of unbroken counting: no idle time counts from before it.
    pub counting: EpochSeconds,
    /// What is allowed.
    pub limits: Limits,
}

impl Timing {
    /// For how many seconds a session has been idle that was last active then.
    pub(super) fn idle(&self, last_activity: EpochSeconds) -> u64 {
        idle_at(self.now, last_activity, counts_from(self.counting, last_activity, self.now))
    }

    /// When it is over, if nothing happens until then, and why.
    pub(super) fn due(&self, created: EpochSeconds, last_activity: EpochSeconds) -> (EpochSeconds, Reason) {
        self.limits.due(created, self.idle_since(last_activity))
    }

    fn idle_since(&self, last_activity: EpochSeconds) -> EpochSeconds {
        last_activity.max(self.counting)
    }
}

impl SessionView {
    /// For how many seconds it has been idle, within the time that counts; for an ended session, until its end.
    #[must_use]
    pub fn idle(&self, by: &Timing) -> u64 {
        match self.end.as_ref().filter(|_| self.state == State::Ended) {
            Some(end) => idle_at(end.at, self.last_activity, end.counting),
            None => by.idle(self.last_activity),
        }
    }

    /// How many seconds it has, if nothing happens until then, and what ends it then. No seconds where it is over.
    #[must_use]
    pub fn left(&self, by: &Timing) -> (u64, Reason) {
        let (due, reason) = by.due(self.created, self.last_activity);
        (due.saturating_sub(by.now), reason)
    }

    /// Why it lives or does not, in a sentence: the arithmetic, and what keeps it alive.
    #[must_use]
    pub fn says(&self, by: &Timing) -> String {
        let at = |second| when(second, by.now);
        let closed = self.last_close.as_ref().map_or(String::new(), |close| {
            format!("; its last WebSocket was closed {} by {}", at(close.at), close.by_whom())
        });
        let says = match &self.end {
            Some(end) if self.state == State::Ended => format!("ended {}: {}", at(end.at), self.why(end, by)),
            Some(end) => {
                format!("over since {}, and not ended, since the mode does not: {}", at(end.at), self.why(end, by))
            }
            None => {
                let Self { last_activity, source, .. } = self;
                let others = self.activity.iter().filter(|(other, _)| *other != source).max_by_key(|(_, at)| **at);
                let alone = others.map_or(String::new(), |(other, second)| {
                    format!("; before that, by anything else, {} by {other}", at(*second))
                });
                let again = counts_from(by.counting, *last_activity, by.now).map_or(String::new(), |counting| {
                    format!("; idle time counts from {} on: before that, activity was not counted", at(counting))
                });
                format!(
                    "alive: idle {} s of {} s, last activity {} by {source}{alone}{again}",
                    self.idle(by),
                    by.limits.timeout,
                    at(*last_activity)
                )
            }
        };
        says + &closed
    }

    /// In the words of its record.
    fn why(&self, end: &End, by: &Timing) -> Why<'_> {
        Why {
            // A reason unknown to this version was recorded by another one.
            reason: Reason::from_name(&end.reason).unwrap_or(Reason::Operator),
            created: self.created,
            last_activity: self.last_activity,
            source: &self.source,
            ended: end.at,
            counting: end.counting,
            limit: by.limits.timeout,
            lifetime: by.limits.lifetime,
            now: Some(by.now),
        }
    }

    /// It is over, by this record. Its seconds are those of the store: here they may be one more or less.
    pub(super) fn close(&mut self, state: State, record: &Ended) {
        (self.state, self.created, self.last_activity) = (state, record.created, record.last_activity);
        record.source.name().clone_into(&mut self.source);
        self.activity.insert(self.source.clone(), record.last_activity);
        self.end = Some(End::from(record));
    }

    /// Takes in what another replica, or the store, knows of the same session.
    pub(super) fn merge(&mut self, other: Self) {
        // The record of an ended session is authoritative; a replica that has not learned of the end is ignored.
        let is_over = |view: &Self| view.state == State::Ended;
        if (is_over(&other), other.last_activity) > (is_over(self), self.last_activity) {
            self.last_request = other.last_request.or(self.last_request.take());
            (self.last_activity, self.source) = (other.last_activity, other.source);
        } else if self.last_request.is_none() {
            self.last_request = other.last_request;
        }
        self.created = self.created.min(other.created);
        for (source, at) in other.activity {
            let known = self.activity.entry(source).or_insert(at);
            *known = (*known).max(at);
        }
        self.connections.extend(other.connections);
        if other.last_close.as_ref().map(|close| close.at) > self.last_close.as_ref().map(|close| close.at) {
            self.last_close = other.last_close;
        }
        if (other.state as u8) > (self.state as u8) {
            (self.state, self.end) = (other.state, other.end);
        }
        // Idle for one replica, and active on another since.
        let is_back = self.end.as_ref().is_some_and(|end| end.reason == "idle" && self.last_activity >= end.at);
        if self.state == State::Overdue && is_back {
            (self.state, self.end) = (State::Live, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { timeout: 60, lifetime: Some(3600), retention: 0 };

    fn view(state: State, last_activity: EpochSeconds, end: Option<(EpochSeconds, &str)>) -> SessionView {
        let source = "client-pong".to_owned();
        SessionView {
            session: String::new(),
            state,
            created: 1_000,
            last_activity,
            activity: BTreeMap::from([(source.clone(), last_activity)]),
            source,
            connections: BTreeMap::new(),
            end: end.map(|(at, reason)| End { at, reason: reason.to_owned(), counting: None }),
            last_request: None,
            last_close: None,
        }
    }

    #[test]
    fn what_is_left_is_the_smaller_of_both() {
        let by = |now, limits| Timing { now, counting: 0, limits };
        let of = |last_activity, now| view(State::Live, last_activity, None).left(&by(now, LIMITS));
        assert_eq!(of(1_000, 1_010), (51, Reason::Idle));
        assert_eq!(of(4_590, 4_591), (10, Reason::Lifetime));
        assert_eq!(of(1_000, 9_000), (0, Reason::Idle));
        let forever = Limits { lifetime: None, ..LIMITS };
        assert_eq!(view(State::Live, 4_590, None).left(&by(4_591, forever)), (60, Reason::Idle));
    }

    #[test]
    fn idle_time_starts_with_counting() {
        let by = Timing { now: 2_000, counting: 1_990, limits: LIMITS };
        let view = view(State::Live, 1_000, None);
        assert_eq!((view.idle(&by), view.left(&by)), (10, (51, Reason::Idle)));
        let says = view.says(&by);
        assert_eq!(
            says,
            "alive: idle 10 s of 60 s, last activity 00:16:40Z (16m 40s ago) by client-pong; idle time counts from \
             00:33:10Z (10 s ago) on: before that, activity was not counted"
        );
    }

    #[test]
    fn who_is_active_on_another_replica_since_is_not_past_the_limit() {
        let overdue = view(State::Overdue, 1_000, Some((1_061, "idle")));
        for (last_activity, state) in [(1_000, State::Overdue), (1_070, State::Live)] {
            let mut merged = view(State::Live, last_activity, None);
            merged.merge(overdue.clone());
            assert_eq!((merged.state, merged.end.is_some()), (state, state == State::Overdue));
        }
        let mut dead = view(State::Ended, 1_000, Some((1_061, "idle")));
        dead.merge(view(State::Live, 1_070, None));
        assert_eq!(dead.state, State::Ended, "dead stays dead");
    }

    #[test]
    fn it_is_explained_by_its_arithmetic() {
        let says = |state, end| view(state, 1_000, end).says(&Timing { now: 1_070, counting: 0, limits: LIMITS });
        let ended = says(State::Ended, Some((1_061, "idle")));
        assert_eq!(
            ended,
            "ended 00:17:41Z (9 s ago): idle 61 s > 60 s, last activity 00:16:40Z (70 s ago) by client-pong"
        );
        let overdue = says(State::Overdue, Some((1_061, "idle")));
        assert!(
            overdue.starts_with("over since 00:17:41Z (9 s ago), and not ended, since the mode does not: idle 61 s")
        );
        assert_eq!(
            says(State::Live, None),
            "alive: idle 70 s of 60 s, last activity 00:16:40Z (70 s ago) by client-pong"
        );
    }
}
