//! Rounds: when to exchange with the store, and when to forget a session.

use super::exchange::{Exchange, Exchanged};
use crate::clock::{Moment, milliseconds};
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

impl Exchange {
    /// Runs rounds until `stop` is cancelled. It is checked only between rounds, so that every decision requested
    /// from the store is recorded.
    pub async fn run_rounds(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let next = self.round().await;
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wait(next) => {}
                // Not at once: what is hinted at several times in a row takes one round.
                () = self.table.hinted.notified() => tokio::time::sleep(HINT_PAUSE).await,
            }
        }
    }

    /// Waits for the next round. A late round means that the process was stopped, or the machine suspended or
    /// overloaded. Client data then waits unread in the sockets, and must count before any session is judged.
    async fn wait(&self, mut next: Moment) {
        for _ in 0..=CATCH_UPS {
            let begun = self.services.clock.now();
            // Timers stand still while the machine is suspended; the clock of the deadlines does not. So each wait is
            // bounded.
            let wait = next.since(begun).clamp(ROUND_PAUSE, ROUND_PAUSE.max(self.flush_interval() * 3 / 2));
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let now = self.services.clock.now();
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
        while !self.run(Exchanged::Everything).await {
            if !std::mem::replace(&mut is_warned, true) {
                tracing::warn!(
                    "waiting for the store to accept the last report, until grace_period is over; a second signal \
                    ends idlegate at once and loses that report"
                );
            }
            tokio::time::sleep(LAST_ROUND_PAUSE).await;
        }
        if let Err(error) = self.services.store.close().await {
            tracing::error!(%error, "the store was not closed properly");
        }
    }

    /// Runs one round. Returns when the next is due: at the next report, or at the next deadline before it.
    pub async fn round(&self) -> Moment {
        let begun = self.services.clock.now();
        self.modes.expire();
        self.run(Exchanged::WhatMatters).await;
        self.issues.review();
        self.table.forget_ended(self.services.clock.now());
        let report = self.next_report(begun);
        let deadline = self.table.sessions.next_deadline().unwrap_or(report);
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
        let Some(stored) = self.services.store.now() else { return begun.plus(interval) };
        let at_earliest = stored.saturating_add(pause).saturating_sub(self.services.clock.now().since(begun));
        let after_the_turn = at_earliest.saturating_sub(self.services.store.report_phase()) % interval;
        earliest.plus(if after_the_turn == 0 { 0 } else { interval - after_the_turn })
    }

    pub(super) fn flush_interval(&self) -> u64 {
        milliseconds(self.services.exchange.flush_interval).max(1)
    }
}
