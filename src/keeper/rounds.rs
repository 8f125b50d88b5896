//! The keeper's round, about once a second: tell the store what was seen, judge who is due, forget who may be forgotten.

use super::{Keeper, Session};
use crate::clock::Moment;
use crate::session::{Beat, SessionId, Source};
use crate::store::{Known, Touch};
use std::sync::Arc;
use std::time::Duration;

/// How long a round waits for the next at most, in milliseconds. Also the longest that a timer can oversleep when the
/// machine was suspended: timers stand still then, the clock of the deadlines does not.
const ROUND_EVERY: u64 = 1000;

/// How late a round may come, in milliseconds, before it is taken that the whole process stood still.
const LATE: u64 = 500;

/// How long everybody else is given then to read what waits in the sockets.
const CATCH_UP: u64 = 500;

/// How often in a row. A process that is late for ever must still cut.
const CATCH_UPS: usize = 2;

impl Keeper {
    /// Goes its rounds, for ever.
    pub async fn keep(&self) {
        loop {
            let next = self.round().await;
            self.wait(next).await;
        }
    }

    /// Waits for the next round. Where it comes late, the process was stopped, the machine suspended, or overloaded,
    /// and what clients said meanwhile lies unread: that is to count before anybody is judged.
    async fn wait(&self, mut next: Moment) {
        for _ in 0..=CATCH_UPS {
            let begun = self.clock.now();
            let wait = next.since(begun).min(ROUND_EVERY);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let now = self.clock.now();
            if now.since(begun.plus(wait)) < LATE {
                return;
            }
            tracing::debug!(late = now.since(next), "a round came late; what waits is read first");
            next = now.plus(CATCH_UP);
        }
    }

    /// The last round: what the store has not been told, and what must outlive this process.
    pub async fn last_round(&self) {
        self.flush().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store was not closed properly");
        }
    }

    /// One round. Returns when the next deadline falls due, [`ROUND_EVERY`] from now at most.
    pub async fn round(&self) -> Moment {
        self.flush().await;
        let now = self.clock.now();
        for session in self.due(now) {
            match session.ended() {
                Some(_) => self.forget(session.id()),
                None => self.judge(&session).await,
            }
        }
        let horizon = now.plus(ROUND_EVERY);
        self.sessions.read().deadlines.first().map_or(horizon, |(deadline, _)| horizon.min(*deadline))
    }

    /// Tells the store the activity it has not been told of: at most one touch per session, as an age.
    async fn flush(&self) {
        let untold: Vec<(Arc<Session>, Beat)> = self
            .sessions
            .read()
            .by_id
            .values()
            .filter_map(|entry| Some((Arc::clone(&entry.session), entry.session.pulse().untold()?)))
            .collect();
        if untold.is_empty() {
            return;
        }
        let now = self.clock.now();
        let touches: Vec<Touch> = untold.iter().map(|(session, beat)| touch(session.id(), *beat, now)).collect();
        match self.store.flush(&touches).await {
            Ok(()) => untold.iter().for_each(|(session, beat)| session.pulse().told(*beat)),
            Err(error) => {
                tracing::warn!(%error, sessions = touches.len(), "activity is kept here until the store answers");
            }
        }
    }

    fn due(&self, now: Moment) -> Vec<Arc<Session>> {
        let sessions = self.sessions.read();
        let due = sessions.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| sessions.by_id.get(id)).map(|entry| Arc::clone(&entry.session)).collect()
    }

    /// Asks the store about a session whose deadline fell due.
    async fn judge(&self, session: &Arc<Session>) {
        let now = self.clock.now();
        // An answer that has not begun is activity that lasts.
        if session.pulse().is_awaiting() {
            session.touch(now, Source::Request);
        }
        let verdict = self.store.judge(touch(session.id(), session.pulse().last(), now)).await;
        match verdict {
            Ok(Known::Ended(ended)) => self.close(session, ended),
            Ok(Known::Live(live)) => {
                session.touch(now.minus(live.age), live.source);
                self.sessions.write().arm(session.id(), now.plus(live.due_in.max(1)));
            }
            Ok(Known::Unknown) => self.restore(session, now).await,
            Err(error) => {
                tracing::warn!(session = %session.id(), %error, "no verdict; the session stays until the store answers");
                self.sessions.write().arm(session.id(), now.plus(ROUND_EVERY));
            }
        }
    }

    /// The store lost a session that is known here: write it back.
    async fn restore(&self, session: &Arc<Session>, now: Moment) {
        if let Err(error) = self.store.begin(touch(session.id(), session.pulse().last(), now)).await {
            tracing::warn!(session = %session.id(), %error, "the session could not be written back");
        }
        self.sessions.write().arm(session.id(), now.plus(ROUND_EVERY));
    }

    fn forget(&self, id: SessionId) {
        let mut sessions = self.sessions.write();
        if let Some(entry) = sessions.by_id.remove(&id) {
            sessions.deadlines.remove(&(entry.deadline, id));
        }
    }
}

fn touch(id: SessionId, beat: Beat, now: Moment) -> Touch {
    Touch { id, age: now.since(beat.at), source: beat.source }
}
