//! The view of one session for operators, and the sentence that explains its state.

use crate::audit::{Caller, Why, missing};
use crate::counted::{counted, when};
use crate::session::{EpochSeconds, Limits, Reason, Times, counts_from, idle_at};
use crate::store::Ended;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Within its limits.
    Live,
    /// Past a limit, and alive because the mode does not enforce.
    Overdue,
    /// It has ended, and its token is dead.
    Ended,
}

/// What is known of one session. All times are epoch seconds by the store's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// The session id.
    pub session: String,
    /// Its state.
    pub state: State,
    /// When it began.
    pub created: EpochSeconds,
    /// When it was last active.
    pub last_activity: EpochSeconds,
    /// The source of its last activity.
    pub source: String,
    /// The last activity of each source, as seen by any replica.
    pub activity: BTreeMap<String, EpochSeconds>,
    /// The number of its connections, by replica.
    pub connections: BTreeMap<String, usize>,
    /// When and why it ended, or, if it is overdue, when and why it would have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// The last request, if one was seen.
    #[serde(flatten, default)]
    pub last_request: Option<LastRequest>,
    /// The length of the last message that counted, in bytes, by source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lengths: BTreeMap<String, u32>,
    /// What an `[[ignore]]` rule kept from counting last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ignored: Option<LastIgnored>,
    /// How its last WebSocket ended, if one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_close: Option<LastClose>,
}

/// What was ignored last of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastIgnored {
    /// When.
    pub at: EpochSeconds,
    /// The name of the rule.
    pub rule: String,
    /// How many requests and messages were ignored on the replica that saw this one.
    pub count: u64,
    /// What it was: method and path of a request, side and length of a message. Never its content.
    pub what: String,
}

/// How the last WebSocket of a session ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastClose {
    /// When it ended.
    pub at: EpochSeconds,
    /// Who closed it: `client`, `app` or `idlegate`.
    pub by: String,
    /// The code of the Close frame, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The reason of the Close frame, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl LastClose {
    /// Who closed it, and with what code and reason.
    #[must_use]
    pub fn closed_by(&self) -> String {
        match (self.code, &self.reason) {
            (None, _) => format!("{}, without a Close", self.by),
            (Some(code), None) => format!("{} ({code})", self.by),
            (Some(code), Some(reason)) => format!("{} ({code} {reason})", self.by),
        }
    }
}

/// The last client that used a session, and the path it requested.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastRequest {
    /// The client's address.
    pub client: String,
    /// The method.
    #[serde(default)]
    pub method: String,
    /// The requested path, short and printable.
    pub route: String,
}

impl From<Caller> for LastRequest {
    fn from(caller: Caller) -> Self {
        Self {
            client: caller.client().to_owned(),
            method: caller.method().to_owned(),
            route: caller.route().to_owned(),
        }
    }
}

/// When and why a session ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    /// When it ended.
    pub at: EpochSeconds,
    /// Why it ended.
    pub reason: String,
    /// The start of unbroken counting at that time, if later than the last activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<EpochSeconds>,
    /// The replicas that were struck off within one idle timeout before it: what their clients did since is not in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub struck_off: Vec<String>,
}

impl End {
    pub(super) fn of(ended: &Ended, struck_off: Vec<String>) -> Self {
        Self { at: ended.ended, reason: ended.reason.name().to_owned(), counting: ended.counting, struck_off }
    }
}

/// The clock, limits and start of counting that a view is computed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// The current second.
    pub now: EpochSeconds,
    /// The start of unbroken counting: no idle time counts from before it.
    pub counting: EpochSeconds,
    /// The limits on sessions.
    pub limits: Limits,
}

impl Timing {
    /// How many seconds a session that was last active at `last_activity` has been idle.
    pub(super) fn idle(&self, last_activity: EpochSeconds) -> u64 {
        idle_at(self.now, last_activity, counts_from(self.counting, last_activity, self.now))
    }

    /// When and why it expires if there is no more activity.
    pub(super) fn due(&self, created: EpochSeconds, last_activity: EpochSeconds) -> (EpochSeconds, Reason) {
        self.limits.due(Times { created, last_activity, counting: self.counting })
    }
}

impl SessionView {
    /// Its idle time in seconds, without time that does not count. For an ended session, its idle time at the end.
    #[must_use]
    pub fn idle(&self, by: &Timing) -> u64 {
        match self.end.as_ref().filter(|_| self.state == State::Ended) {
            Some(end) => idle_at(end.at, self.last_activity, end.counting),
            None => by.idle(self.last_activity),
        }
    }

    /// How many seconds it has left without more activity, and the reason it then expires. 0 if it is past its limit.
    #[must_use]
    pub fn left(&self, by: &Timing) -> (u64, Reason) {
        let (due, reason) = by.due(self.created, self.last_activity);
        (due.saturating_sub(by.now), reason)
    }

    /// Explains in one sentence why it is alive or not: the arithmetic, and what keeps it alive.
    #[must_use]
    pub fn says(&self, by: &Timing) -> String {
        let at = |second| when(second, by.now);
        let closed = self.last_close.as_ref().map_or(String::new(), |close| {
            format!("; its last WebSocket was closed {} by {}", at(close.at), close.closed_by())
        });
        let says = match &self.end {
            Some(end) if self.state == State::Ended => {
                format!("ended {}: {}{}", at(end.at), self.why(end, by), missing(&end.struck_off))
            }
            Some(end) => {
                format!(
                    "overdue since {}; not ended, because the mode does not enforce: {}",
                    at(end.at),
                    self.why(end, by)
                )
            }
            None => {
                let Self { last_activity, source, .. } = self;
                let others = self.activity.iter().filter(|(other, _)| *other != source).max_by_key(|(_, at)| **at);
                let alone = others.map_or(String::new(), |(other, second)| {
                    format!("; last other activity {} by {other}", at(*second))
                });
                let what = self.what_counted();
                let ignored = self.last_ignored.as_ref().map_or(String::new(), |ignored| {
                    let LastIgnored { at: second, rule, what, count } = ignored;
                    format!("; ignored {} by rule {rule}: {what}, {} in all", at(*second), counted(*count, "time"))
                });
                let again = counts_from(by.counting, *last_activity, by.now).map_or(String::new(), |counting| {
                    format!("; idle time counts from {}, because activity before then was not counted", at(counting))
                });
                format!(
                    "alive: idle {} s of {} s, last activity {} by {source}{what}{alone}{ignored}{again}",
                    self.idle(by),
                    by.limits.timeout,
                    at(*last_activity)
                )
            }
        };
        says + &closed
    }

    /// The request or message that was its last activity, in parentheses.
    fn what_counted(&self) -> String {
        match (self.source.as_str(), &self.last_request, self.lengths.get(&self.source)) {
            ("request" | "transfer" | "accepted", Some(LastRequest { method, route, .. }), _) if !method.is_empty() => {
                format!(" ({method} {route})")
            }
            (_, _, Some(length)) => format!(" ({})", counted(length, "byte")),
            _ => String::new(),
        }
    }

    /// The reason and arithmetic of its end, as its audit record words them.
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

    /// Takes over state, times and source from this record. The record has the store's seconds: those computed here may
    /// differ by one.
    pub(super) fn close(&mut self, state: State, record: &Ended, struck_off: Vec<String>) {
        (self.state, self.created, self.last_activity) = (state, record.created, record.last_activity);
        record.source.name().clone_into(&mut self.source);
        self.activity.insert(self.source.clone(), record.last_activity);
        self.end = Some(End::of(record, struck_off));
    }

    /// Merges what another replica or the store knows of the same session.
    pub(super) fn merge(&mut self, mut other: Self) {
        // The record of an ended session is authoritative; a replica that has not learned of the end is ignored.
        let is_over = |view: &Self| view.state == State::Ended;
        if other.last_ignored.as_ref().map(|ignored| ignored.at) > self.last_ignored.as_ref().map(|ignored| ignored.at)
        {
            self.last_ignored = other.last_ignored.take();
        }
        if (is_over(&other), other.last_activity) > (is_over(self), self.last_activity) {
            self.lengths = other.lengths;
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
        // The store has the same end without this.
        if let (Some(end), Some(other)) = (&mut self.end, &mut other.end)
            && end.at == other.at
        {
            let names = [std::mem::take(&mut end.struck_off), std::mem::take(&mut other.struck_off)].concat();
            end.struck_off = names.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            other.struck_off.clone_from(&end.struck_off);
        }
        if (other.state as u8) > (self.state as u8) {
            (self.state, self.end) = (other.state, other.end);
        }
        // One replica saw it idle, but another has seen activity since.
        let is_back = self.end.as_ref().is_some_and(|end| end.reason == "idle" && self.last_activity >= end.at);
        if self.state == State::Overdue && is_back {
            (self.state, self.end) = (State::Live, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Case, cases};

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
            end: end.map(|(at, reason)| End { at, reason: reason.to_owned(), counting: None, struck_off: Vec::new() }),
            last_request: None,
            lengths: BTreeMap::new(),
            last_ignored: None,
            last_close: None,
        }
    }

    #[test]
    fn time_left_is_the_smaller_of_idle_and_lifetime() {
        let by = |now, limits| Timing { now, counting: 0, limits };
        let of = |last_activity, now| view(State::Live, last_activity, None).left(&by(now, LIMITS));
        assert_eq!(of(1_000, 1_010), (51, Reason::Idle));
        assert_eq!(of(4_590, 4_591), (10, Reason::Lifetime));
        assert_eq!(of(1_000, 9_000), (0, Reason::Idle));
        let forever = Limits { lifetime: None, ..LIMITS };
        assert_eq!(view(State::Live, 4_590, None).left(&by(4_591, forever)), (60, Reason::Idle));
    }

    #[test]
    fn what_is_shown_follows_the_table_of_cases_of_the_idle_rule() {
        for case in cases() {
            let Case { limits, times, now, verdict } = case;
            let view = SessionView { created: times.created, ..view(State::Live, times.last_activity, None) };
            let (left, reason) = view.left(&Timing { now, counting: times.counting, limits });
            assert_eq!(left == 0, verdict.is_some(), "{case:?}");
            assert!(verdict.is_none_or(|verdict| verdict == reason || verdict == Reason::Idle), "{case:?}");
        }
    }

    #[test]
    fn idle_time_counts_from_the_start_of_counting() {
        let by = Timing { now: 2_000, counting: 1_990, limits: LIMITS };
        let view = view(State::Live, 1_000, None);
        assert_eq!((view.idle(&by), view.left(&by)), (10, (51, Reason::Idle)));
        let says = view.says(&by);
        assert_eq!(
            says,
            "alive: idle 10 s of 60 s, last activity 00:16:40Z (16m 40s ago) by client-pong; idle time counts from \
             00:33:10Z (10 s ago), because activity before then was not counted"
        );
    }

    #[test]
    fn later_activity_on_another_replica_clears_overdue() {
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
    fn the_explanation_shows_the_arithmetic() {
        let says = |state, end| view(state, 1_000, end).says(&Timing { now: 1_070, counting: 0, limits: LIMITS });
        let ended = says(State::Ended, Some((1_061, "idle")));
        assert_eq!(
            ended,
            "ended 00:17:41Z (9 s ago): idle 61 s > 60 s, last activity 00:16:40Z (70 s ago) by client-pong"
        );
        let overdue = says(State::Overdue, Some((1_061, "idle")));
        assert!(
            overdue.starts_with(
                "overdue since 00:17:41Z (9 s ago); not ended, because the mode does not enforce: idle 61 s"
            )
        );
        assert_eq!(
            says(State::Live, None),
            "alive: idle 70 s of 60 s, last activity 00:16:40Z (70 s ago) by client-pong"
        );
    }
}
