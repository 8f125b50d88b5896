//! Rounds: when to exchange with the store, and when to forget a session.

use super::exchange::Exchanged;
use super::{Registry, TrackedSession};
use crate::clock::{Moment, milliseconds};
use crate::session::SessionId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The pause before the last report is retried, if the store did not accept it.
const LAST_ROUND_PAUSE: Duration = Duration::from_millis(200);

/// The minimum pause between two rounds, in milliseconds. Deadlines that are close together are handled in one round.
const ROUND_PAUSE: u64 = 50;

/// How long after a hint of the store the round begins.
const HINT_PAUSE: Duration = Duration::from_millis(20);

/// A round that is later than this, in milliseconds, means that the whole process stood still.
const LATE: u64 = 500;

/// How long, in milliseconds, the other tasks then get to read the data that waits in the sockets.
const CATCH_UP: u64 = 500;

/// How often in a row this is granted. A process that is always late must still cut sessions.
const CATCH_UPS: usize = 2;

impl Registry {
    /// Runs rounds until `stop` is cancelled. It is checked only between rounds, so that every decision requested
    /// from the store is recorded.
    pub async fn run_rounds(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let next = self.round().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wait(next) => {}
                // Not at once: what is hinted at several times in a row takes one round.
                () = self.hinted.notified() => tokio::time::sleep(HINT_PAUSE).await,
            }
        }
    }

    /// Waits for the next round. A late round means that the process was stopped, or the machine suspended or
    /// overloaded. Client data then waits unread in the sockets, and must count before any session is judged.
    async fn wait(&self, mut next: Moment) {
        for _ in 0..=CATCH_UPS {
            let begun = self.clock.now();
            // Timers stand still while the machine is suspended; the clock of the deadlines does not. So each wait is
            // bounded.
            let wait = next.since(begun).clamp(ROUND_PAUSE, ROUND_PAUSE.max(self.flush_interval() * 3 / 2));
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let now = self.clock.now();
            if now.since(begun.plus(wait)) < LATE {
                return;
            }
            tracing::debug!(late = now.since(next), "a round is late; waiting data is read before sessions are judged");
            next = now.plus(CATCH_UP);
        }
    }

    /// The last round: reports unsynced activity and ends. It is retried until the store accepts it: a failover takes a
    /// while.
    pub async fn last_round(&self) {
        let mut is_warned = false;
        while !self.exchange(Exchanged::Everything).await {
            if !std::mem::replace(&mut is_warned, true) {
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

    /// A counter of the rounds' progress: it grows with each step, whether the store answered or not.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one round. Returns when the next is due: at the next report, or at the next deadline before it.
    pub async fn round(&self) -> Moment {
        let begun = self.clock.now();
        self.expire_switches();
        self.exchange(Exchanged::WhatMatters).await;
        let now = self.clock.now();
        for session in self.due(now).into_iter().filter(|session| session.ended().is_some()) {
            self.forget(session.id(), now);
        }
        let report = self.next_report(begun);
        let deadline = self.sessions.read().deadlines.first().map_or(report, |(deadline, _)| *deadline);
        // A deadline just before a report waits for the report: one round does both.
        if deadline.plus(ROUND_PAUSE) < report { deadline } else { report }
    }

    /// When to report after a round that began at `begun`. All replicas report soon after the turn of an interval of the
    /// store's time: the watermark passes a second only when each of them has reported up to it. A round for a deadline
    /// just before the turn does not replace that report, or all ends due at the turn would wait for the next one.
    fn next_report(&self, begun: Moment) -> Moment {
        let interval = self.flush_interval();
        let pause = ROUND_PAUSE.min(interval / 2);
        let earliest = begun.plus(pause);
        let Some(stored) = self.store.now() else { return begun.plus(interval) };
        let at_earliest = stored.saturating_add(pause).saturating_sub(self.clock.now().since(begun));
        let after_the_turn = at_earliest.saturating_sub(self.store.report_phase()) % interval;
        earliest.plus(if after_the_turn == 0 { 0 } else { interval - after_the_turn })
    }

    pub(super) fn flush_interval(&self) -> u64 {
        milliseconds(self.exchange.flush_interval).max(1)
    }

    pub(super) fn all(&self) -> Vec<Arc<TrackedSession>> {
        self.all_that(|_| true)
    }

    /// The sessions that are wanted, without a copy of the others.
    pub(super) fn all_that(&self, is_wanted: impl Fn(&TrackedSession) -> bool) -> Vec<Arc<TrackedSession>> {
        let sessions = self.sessions.read();
        let all = sessions.by_id.values().map(|entry| &entry.session);
        all.filter(|session| is_wanted(session)).map(Arc::clone).collect()
    }

    pub(super) fn due(&self, now: Moment) -> Vec<Arc<TrackedSession>> {
        let sessions = self.sessions.read();
        let due = sessions.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| sessions.by_id.get(id)).map(|entry| Arc::clone(&entry.session)).collect()
    }

    /// Sets when a live session is judged again. A session that ended while the store was asked keeps its deadline:
    /// otherwise it would be forgotten too early, and its token accepted again.
    pub(super) fn judge_at(&self, session: &TrackedSession, deadline: Moment) {
        let mut sessions = self.sessions.write();
        if session.ended().is_none() {
            sessions.arm(session.id(), deadline);
        }
    }

    /// Forgets a session that the mode lets live on, once it has been idle for timeout and retention and nothing holds it:
    /// no connection, and no request. Returns whether it is forgotten.
    pub(super) fn forget_unused(&self, session: &Arc<TrackedSession>, idle: u64) -> bool {
        /// The table's own, and that of the round.
        const OWN_REFERENCES: usize = 2;
        let kept = self.limits.timeout.saturating_add(self.limits.retention).saturating_mul(1000);
        let mut sessions = self.sessions.write();
        let is_unused = session.connections() == 0 && Arc::strong_count(session) <= OWN_REFERENCES;
        if idle <= kept || !is_unused || session.ended().is_some() {
            return false;
        }
        if sessions.remove(session.id()).is_some() {
            self.count_one_less(&mut sessions);
        }
        true
    }

    /// Forgets an ended session, unless its deadline has moved since it was found to be due.
    fn forget(&self, id: SessionId, now: Moment) {
        let mut sessions = self.sessions.write();
        if sessions.by_id.get(&id).is_some_and(|entry| entry.deadline <= now) {
            sessions.remove(id);
        }
    }
}
