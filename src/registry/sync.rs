//! The exchange with the store, about once a second: report activity, judge sessions that are due, forget those past
//! retention.

use super::{Registry, TrackedSession};
use crate::clock::{Moment, milliseconds};
use crate::session::{Mode, SessionId};
use crate::store::{Ended, Known, REPORTED_AFTER_THE_TURN};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long after it was not taken the last report is tried again.
const LAST_ROUND_PAUSE: Duration = Duration::from_millis(200);

/// How long a round waits for the next at least. Deadlines that lie close together are of one round.
const ROUND_PAUSE: u64 = 50;

/// How soon a session is judged again that is over by its own time, but not yet by that of all replicas.
const ASKED_AGAIN: u64 = 100;

/// How many sessions are judged, or ends reported, at once.
const AT_ONCE: usize = 64;

/// How late a round may come, in milliseconds, before it is taken that the whole process stood still.
const LATE: u64 = 500;

/// How long the other tasks then get to read what waits in the sockets.
const CATCH_UP: u64 = 500;

/// How often in a row. A process that is late for ever must still cut.
const CATCH_UPS: usize = 2;

impl Registry {
    /// Runs rounds until `enough`, checked between rounds, so that every decision requested from the store is recorded.
    pub async fn keep(&self, enough: &CancellationToken) {
        while !enough.is_cancelled() {
            let next = self.round().await;
            tokio::select! {
                () = enough.cancelled() => {}
                () = self.wait(next) => {}
            }
        }
    }

    /// Waits for the next round. A late round means that the process was stopped, the machine suspended or overloaded,
    /// and client data lies unread: it must count before any session is judged.
    async fn wait(&self, mut next: Moment) {
        for _ in 0..=CATCH_UPS {
            let begun = self.clock.now();
            // Timers stand still while the machine is suspended; the clock of the deadlines does not.
            let wait = next.since(begun).clamp(ROUND_PAUSE, ROUND_PAUSE.max(self.flush_interval() * 3 / 2));
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let now = self.clock.now();
            if now.since(begun.plus(wait)) < LATE {
                return;
            }
            tracing::debug!(late = now.since(next), "a round came late; what waits is read first");
            next = now.plus(CATCH_UP);
        }
    }

    /// The last round: unsynced activity and ends. Where the store does not accept it, it is retried: a failover takes
    /// a while.
    pub async fn last_round(&self) {
        let mut is_said = false;
        while !(self.flush().await && self.report_ends().await) {
            if !std::mem::replace(&mut is_said, true) {
                tracing::warn!(
                    "waiting for the store to accept the last report, until grace_period is over; a second signal \
                    ends idlegate at once and loses that report"
                );
            }
            tokio::time::sleep(LAST_ROUND_PAUSE).await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store was not closed properly");
        }
    }

    /// How far the rounds have got: more after each step of them, whether the store answered or not.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// One round. Returns when the next is to come: with the next report, or the next deadline before it.
    pub async fn round(&self) -> Moment {
        let begun = self.clock.now();
        self.expire_switches();
        self.flush().await;
        self.step();
        self.report_ends().await;
        let now = self.clock.now();
        let (ended, live): (Vec<_>, Vec<_>) = self.due(now).into_iter().partition(|session| session.ended().is_some());
        for session in ended {
            self.forget(session.id(), now);
        }
        for some in live.chunks(AT_ONCE) {
            join_all(some.iter().map(|session| self.judge(session))).await;
            self.step();
            if self.is_due_to_report(begun) {
                // The remaining sessions stay due. Other replicas wait for this one's mark, however many verdicts a
                // slow store has to give.
                break;
            }
        }
        let report = self.next_report(begun);
        let deadline = self.sessions.read().deadlines.first().map_or(report, |(deadline, _)| *deadline);
        // What falls due just before a report waits for it: one round does both.
        if deadline.plus(ROUND_PAUSE) < report { deadline } else { report }
    }

    /// When to report after a round at `begun`: all replicas together, right after the turn of an interval of the store's
    /// time, since a second is over for all only when each of them has reported up to it. A round for a deadline does not
    /// replace that report, however shortly it goes before: all ends that fall due with the turn would wait for the next.
    fn next_report(&self, begun: Moment) -> Moment {
        let interval = self.flush_interval();
        let pause = ROUND_PAUSE.min(interval / 2);
        let earliest = begun.plus(pause);
        let Some(stored) = self.store.now() else { return begun.plus(interval) };
        let at_earliest = stored.saturating_add(pause).saturating_sub(self.clock.now().since(begun));
        let after_the_turn = at_earliest.saturating_sub(REPORTED_AFTER_THE_TURN) % interval;
        earliest.plus(if after_the_turn == 0 { 0 } else { interval - after_the_turn })
    }

    /// Whether a round that began at `begun` must make room for the next report.
    fn is_due_to_report(&self, begun: Moment) -> bool {
        self.clock.now().since(begun) >= self.flush_interval()
    }

    fn flush_interval(&self) -> u64 {
        milliseconds(self.exchange.flush_interval).max(1)
    }

    /// Reports ends that the store does not know. Returns whether it now knows all of them.
    async fn report_ends(&self) -> bool {
        let begun = self.clock.now();
        let end_unsynced: Vec<_> = self.all().into_iter().filter(|session| session.is_end_unsynced()).collect();
        for some in end_unsynced.chunks(AT_ONCE) {
            join_all(some.iter().map(|session| self.report_end(session))).await;
            self.step();
            if self.is_due_to_report(begun) {
                break;
            }
        }
        !end_unsynced.iter().any(|session| session.is_end_unsynced())
    }

    async fn report_end(&self, session: &TrackedSession) {
        let Some(ended) = session.ended() else { return };
        let now = self.clock.now();
        match self.store.report_ends(session.touch_for_store(now), ended.reason, session.ended_for(now)).await {
            Ok(_) => session.set_end_unsynced(false),
            Err(error) => {
                tracing::debug!(session = %session.id(), %error, "an end is kept here until the store answers");
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<TrackedSession>> {
        self.sessions.read().by_id.values().map(|entry| Arc::clone(&entry.session)).collect()
    }

    fn due(&self, now: Moment) -> Vec<Arc<TrackedSession>> {
        let sessions = self.sessions.read();
        let due = sessions.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| sessions.by_id.get(id)).map(|entry| Arc::clone(&entry.session)).collect()
    }

    /// Asks the store about a session whose deadline fell due.
    async fn judge(&self, session: &Arc<TrackedSession>) {
        let (now, mode) = (self.clock.now(), self.counting_mode());
        if mode == Mode::Off {
            // Idle time does not count in this mode. It starts again when the mode counts; the lifetime is checked as
            // soon as possible.
            let is_off = self.mode() == Mode::Off;
            return self.judge_at(session, now.plus(if is_off { self.limit_ms() } else { self.flush_interval() }));
        }
        let (touch, seen_idle) = (session.touch_for_store(now), session.seen_idle(now));
        match self.store.judge(touch, seen_idle, mode).await {
            Ok(Known::Ended(ended)) => drop(self.judged(session, ended)),
            Ok(Known::Overdue(live, record)) => {
                session.touch(now.minus(live.age), live.source);
                self.judged(session, record);
            }
            Ok(Known::Live(live)) => {
                session.touch(now.minus(live.age), live.source);
                self.judge_at(session, now.plus(live.due_in.max(ASKED_AGAIN)));
            }
            Ok(Known::Unknown) => {
                // Lost between two steps. The next report begins it again.
                session.activity_record().mark_unsynced();
                self.judge_at(session, now.plus(self.flush_interval()));
            }
            Err(error) => {
                if let Some(ended) = self.store.decide_alone(touch, seen_idle) {
                    let ends = self.judged(session, ended);
                    return session.set_end_unsynced(ends);
                }
                tracing::debug!(session = %session.id(), %error, "no verdict; the session stays until the store \
                answers");
                self.judge_at(session, now.plus(self.flush_interval()));
            }
        }
    }

    /// A session is over. Where it lives on, it can be over again only a limit later. Returns whether it ends.
    fn judged(&self, session: &TrackedSession, ended: Ended) -> bool {
        let ends = self.over(session, ended);
        self.judge_at(session, self.clock.now().plus(self.limit_ms()));
        ends
    }

    /// When a live session is judged again. One that has ended while it was asked about keeps its own deadline: with this
    /// one it would be forgotten, and its token revived.
    pub(super) fn judge_at(&self, session: &TrackedSession, deadline: Moment) {
        let mut sessions = self.sessions.write();
        if session.ended().is_none() {
            sessions.arm(session.id(), deadline);
        }
    }

    /// Forgets an ended session, unless it ended only after it was found to be due.
    fn forget(&self, id: SessionId, now: Moment) {
        let mut sessions = self.sessions.write();
        if sessions.by_id.get(&id).is_some_and(|entry| entry.deadline <= now)
            && let Some(entry) = sessions.by_id.remove(&id)
        {
            sessions.deadlines.remove(&(entry.deadline, id));
        }
    }
}
