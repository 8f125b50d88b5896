//! The state of the store, as the reports find it.

use super::services::Services;
use crate::clock::{Moment, epoch_milliseconds};
use crate::session::EpochSeconds;
use crate::store::{Reply, Touch};
use parking_lot::Mutex;
use std::sync::Arc;

/// The outcome of a report.
#[derive(Clone, Copy, Debug)]
struct Reported {
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

/// Keeps the state of the store.
#[derive(Debug)]
pub struct StoreState {
    services: Arc<Services>,
    /// After the first report.
    last: Mutex<Option<Reported>>,
}

impl StoreState {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, last: Mutex::default() }
    }

    /// The state of the store; `None` before the first report.
    #[must_use]
    pub fn status(&self) -> Option<StoreStatus> {
        let reported = *self.last.lock();
        reported.map(|Reported { takes, since, unsynced }| StoreStatus {
            takes,
            since: self.services.second_of(since),
            unsynced,
            holds_ends: !takes && self.services.store.holds_ends(),
        })
    }

    /// Since when no session ends because the store is unavailable; `None` if sessions do end.
    #[must_use]
    pub fn held_since(&self) -> Option<EpochSeconds> {
        self.status().filter(|status| status.holds_ends).map(|status| status.since)
    }

    pub(super) fn update(&self, touches: &[Touch], reply: &Reply) {
        let is_up = reply.failed.is_none();
        let takes = is_up && !reply.unkept;
        let unsynced = touches.get(reply.activity..).unwrap_or_default();
        let mut state = self.last.lock();
        let since =
            state.filter(|before| before.takes == takes).map_or(self.services.clock.now(), |before| before.since);
        *state = Some(Reported { takes, since, unsynced: if is_up { 0 } else { unsynced.len() } });
        drop(state);
        let metrics = &self.services.metrics.store;
        if is_up {
            metrics.synced(!reply.unkept);
        } else {
            metrics.unsynced(unsynced.len(), unsynced.iter().map(|touch| touch.age).max().unwrap_or(0));
        }
        if let Some(now) = self.services.store.now() {
            metrics.clocks(now, epoch_milliseconds());
        }
    }
}
