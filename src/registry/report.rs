//! The report to the store: activity as ages, and the reply.

use super::{Registry, TrackedSession};
use crate::clock::{Moment, epoch_milliseconds};
use crate::session::{Activity, EpochSeconds, Mode, Source};
use crate::store::{Flushed, Touch};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long startup waits for the store.
const STARTUP_WAIT: Duration = Duration::from_secs(1);

/// The outcome of a report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    takes: bool,
    since: Moment,
    unsynced: usize,
}

/// The state of the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreStatus {
    /// The store accepts reports and keeps what they contain.
    pub takes: bool,
    /// When this state began.
    pub since: EpochSeconds,
    /// The number of sessions whose activity is not reported yet.
    pub unsynced: usize,
    /// Whether no session ends until the store is back.
    pub holds_ends: bool,
}

impl Registry {
    /// The state of the store; `None` before the first report.
    #[must_use]
    pub fn store_status(&self) -> Option<StoreStatus> {
        let reported = *self.store_state.lock();
        reported.map(|Reported { takes, since, unsynced }| StoreStatus {
            takes,
            since: self.second_of(since),
            unsynced,
            holds_ends: !takes && self.store.holds_ends(),
        })
    }

    /// Since when no session ends because the store is unavailable; `None` if sessions do end.
    #[must_use]
    pub fn held_since(&self) -> Option<EpochSeconds> {
        self.store_status().filter(|status| status.holds_ends).map(|status| status.since)
    }

    /// The store's kind: `memory`, `file` or `redis`.
    #[must_use]
    pub fn store_kind(&self) -> &'static str {
        self.store.kind()
    }

    /// The first exchange with the store, before any client is served. It reads the fleet's switch: the first clients
    /// must not meet a stricter mode here. If the store does not answer in time, startup continues without it.
    pub async fn first_report(&self) {
        if tokio::time::timeout(STARTUP_WAIT, self.flush()).await.is_err() {
            tracing::debug!("the store did not answer in time; startup continues without it");
        }
    }

    /// Reports unsynced activity to the store: one touch per session, as an age. The report is sent even without
    /// activity, because other replicas wait for this replica's mark.
    ///
    /// Returns whether the store now knows everything.
    pub(super) async fn flush(&self) -> bool {
        // Read before activity is collected: activity after this moment belongs to the next report.
        let synced_to = self.clock.now();
        let mode = self.counting_mode();
        // In `off` a replica reports only its mode, which all others need to know.
        let unsynced = if mode == Mode::Off { Vec::new() } else { self.unsynced(synced_to) };
        let now = self.clock.now();
        let touches: Vec<Touch> = unsynced.iter().map(|(session, _)| session.touch_for_store(now)).collect();
        let notified = self.fleet_notices();
        let flushed = self.store.flush(&touches, synced_to, mode).await;
        self.update_store_state(&touches, flushed.as_ref().ok());
        match flushed {
            Ok(flushed) => {
                if self.mode() != Mode::Off {
                    self.off_unsynced.fetch_and(mode != Mode::Off, Ordering::AcqRel);
                }
                for (session, latest) in unsynced {
                    session.activity_record().acknowledged(latest);
                }
                for (id, ended) in flushed.ended {
                    if let Some(session) = self.known(id) {
                        self.end_if_enforced(&session, ended);
                    }
                }
                if flushed.resync {
                    self.resync();
                }
                match flushed.fleet {
                    Some(fleet) => self.read_fleet(fleet, notified),
                    None => self.restore_fleet().await,
                }
                !flushed.resync
            }
            Err(error) => {
                tracing::debug!(%error, sessions = touches.len(), "activity not reported; retried later");
                // A replica that was off has no activity to report, but must still report that it was off.
                mode != Mode::Off && touches.is_empty()
            }
        }
    }

    /// The mode to report and to judge by. A replica that was off, however briefly, counts as off until the store knows
    /// it. Then idle time starts again for every session.
    pub(super) fn counting_mode(&self) -> Mode {
        if self.off_unsynced.load(Ordering::Acquire) { Mode::Off } else { self.mode() }
    }

    fn update_store_state(&self, touches: &[Touch], flushed: Option<&Flushed>) {
        let takes = flushed.is_some_and(|flushed| !flushed.unkept);
        let unsynced = if flushed.is_some() { 0 } else { touches.len() };
        let mut state = self.store_state.lock();
        let since = state.filter(|before| before.takes == takes).map_or(self.clock.now(), |before| before.since);
        *state = Some(Reported { takes, since, unsynced });
        drop(state);
        let metrics = &self.metrics.store;
        match flushed {
            Some(flushed) => metrics.synced(!flushed.unkept),
            None => metrics.unsynced(touches.len(), touches.iter().map(|touch| touch.age).max().unwrap_or(0)),
        }
        if let Some(now) = self.store.now() {
            metrics.clocks(now, epoch_milliseconds());
        }
    }

    fn unsynced(&self, now: Moment) -> Vec<(Arc<TrackedSession>, Activity)> {
        let sessions = self.sessions.read();
        // An unsynced end may be reported after this report, but the mark of this report covers the activity before
        // that end. So that activity must be in it.
        let is_reported = |session: &&Arc<TrackedSession>| session.ended().is_none() || session.is_end_unsynced();
        let sessions = sessions.by_id.values().map(|entry| &entry.session).filter(is_reported);
        sessions
            .filter_map(|session| {
                // While a response has not begun, the session counts as active.
                if session.activity_record().is_awaiting() && session.ended().is_none() {
                    session.touch(now, Source::Request);
                }
                Some((Arc::clone(session), session.activity_record().unsynced()?))
            })
            .collect()
    }

    /// The store has lost data. Live sessions are written back by the next report, ended ones at once.
    fn resync(&self) {
        let all: Vec<Arc<TrackedSession>> = self.all();
        tracing::info!(sessions = all.len(), "the store has lost data; known sessions are reported again");
        for session in all {
            if session.ended().is_some() {
                session.set_end_unsynced(true);
            } else {
                session.activity_record().mark_unsynced();
            }
        }
    }
}
