//! Records when each kind of request and message counts, while an operator watches: what comes at even intervals is a timer
//! of the page, not a person. Nothing is recorded otherwise, and never any content.

use super::traffic::Traffic;
use crate::audit::Caller;
use crate::clock::Moment;
use crate::session::SessionId;
use crate::websocket::Side;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest watch.
pub const MAX_WATCH: Duration = Duration::from_secs(24 * 3600);

/// How many kinds of traffic are told apart, over all sessions.
const MAX_KINDS: usize = 2000;

/// How many times of one kind are kept.
const MAX_TIMES: usize = 1000;

/// When one kind of traffic counted, for one session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrafficTimes {
    /// The session id.
    pub session: String,
    /// What came.
    pub what: Traffic,
    /// When it came, in milliseconds since the watch began: the first thousand times.
    pub times: Vec<u64>,
}

/// What was recorded.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Watched {
    /// For how long it has been watched, in milliseconds.
    pub lasted: u64,
    /// How long it goes on, in milliseconds.
    pub left: u64,
    /// How many requests and messages were not recorded, because there were too many.
    pub left_out: u64,
    /// Each kind of traffic of each session.
    pub traffic: Vec<TrafficTimes>,
}

/// The watch.
#[derive(Debug, Default)]
pub struct TrafficWatch {
    /// When it ends; 0 if there was none.
    ends: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    began: Moment,
    times: HashMap<(SessionId, Traffic), Vec<u64>>,
    left_out: u64,
}

impl TrafficWatch {
    /// Begins to record, and forgets what was recorded before.
    pub fn begin(&self, now: Moment, lasting: Duration) {
        *self.seen.lock() = Seen { began: now, ..Seen::default() };
        let lasting = lasting.min(MAX_WATCH);
        self.ends.store(now.plus(crate::clock::milliseconds(lasting)).0, Ordering::Relaxed);
    }

    /// Whether traffic is recorded now.
    fn is_on(&self, now: Moment) -> bool {
        self.ends.load(Ordering::Relaxed) > now.0
    }

    /// Records a request that counts for this session.
    pub fn request(&self, now: Moment, session: SessionId, caller: &Caller) {
        if self.is_on(now) {
            self.record(now, session, Traffic::from(caller));
        }
    }

    /// Records a data frame that counts for this session. The hot path: one atomic operation, but during a watch.
    pub fn message(&self, now: Moment, session: SessionId, (from, size): (Side, u64)) {
        if self.is_on(now) {
            self.record(now, session, Traffic::Message { from, size });
        }
    }

    fn record(&self, now: Moment, session: SessionId, what: Traffic) {
        let mut seen = self.seen.lock();
        let at = now.since(seen.began);
        let (key, is_full) = ((session, what), seen.times.len() >= MAX_KINDS);
        match seen.times.get_mut(&key) {
            Some(times) if times.len() < MAX_TIMES => times.push(at),
            None if !is_full => drop(seen.times.insert(key, vec![at])),
            Some(_) | None => seen.left_out += 1,
        }
    }

    /// What was recorded.
    #[must_use]
    pub fn watched(&self, now: Moment) -> Watched {
        let ends = Moment(self.ends.load(Ordering::Relaxed));
        let seen = self.seen.lock();
        let traffic = seen.times.iter().map(|((session, what), times)| TrafficTimes {
            session: session.to_string(),
            what: what.clone(),
            times: times.clone(),
        });
        let mut traffic: Vec<_> = traffic.collect();
        traffic.sort_by(|one, other| (&one.what, &one.session).cmp(&(&other.what, &other.session)));
        let lasted = now.min(ends).since(seen.began);
        Watched { lasted, left: ends.since(now), left_out: seen.left_out, traffic }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionIds;

    fn session(name: &str) -> SessionId {
        crate::token::Token::new(name).unwrap().session_id(&SessionIds::default())
    }

    #[test]
    fn only_what_comes_during_a_watch_is_recorded() {
        let watch = TrafficWatch::default();
        let message = |now| watch.message(Moment(now), session("ada"), (Side::Client, 13));
        message(500);
        watch.begin(Moment(1000), Duration::from_secs(2));
        for now in [1000, 2000, 2999, 3000] {
            message(now);
        }
        let watched = watch.watched(Moment(4000));
        assert_eq!((watched.lasted, watched.left, watched.left_out), (2000, 0, 0));
        let [kind] = &watched.traffic[..] else { panic!("{watched:?}") };
        assert_eq!(kind.what, Traffic::Message { from: Side::Client, size: 13 });
        assert_eq!((&kind.session, &kind.times[..]), (&session("ada").to_string(), &[0, 1000, 1999][..]));
        watch.begin(Moment(5000), Duration::from_secs(1));
        assert_eq!(watch.watched(Moment(5500)), Watched { lasted: 500, left: 500, ..Watched::default() });
    }

    #[test]
    fn what_is_recorded_is_bounded_and_the_rest_is_counted() {
        let watch = TrafficWatch::default();
        watch.begin(Moment(1), Duration::from_secs(60));
        for size in 0..MAX_KINDS as u64 + 5 {
            watch.message(Moment(2), session("ada"), (Side::Server, size));
        }
        for _ in 0..MAX_TIMES + 6 {
            watch.message(Moment(3), session("ada"), (Side::Server, 0));
        }
        let watched = watch.watched(Moment(4));
        assert_eq!((watched.traffic.len(), watched.left_out), (MAX_KINDS, 5 + 7));
    }
}
