//! The state of the store, as the reports find it.

use super::Registry;
use crate::clock::{Moment, epoch_milliseconds};
use crate::session::EpochSeconds;
use crate::store::{Reply, Touch};

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

    pub(super) fn update_store_state(&self, touches: &[Touch], reply: &Reply) {
        let is_up = reply.failed.is_none();
        let takes = is_up && !reply.unkept;
        let unsynced = touches.get(reply.activity..).unwrap_or_default();
        let mut state = self.store_state.lock();
        let since = state.filter(|before| before.takes == takes).map_or(self.clock.now(), |before| before.since);
        *state = Some(Reported { takes, since, unsynced: if is_up { 0 } else { unsynced.len() } });
        drop(state);
        let metrics = &self.metrics.store;
        if is_up {
            metrics.synced(!reply.unkept);
        } else {
            metrics.unsynced(unsynced.len(), unsynced.iter().map(|touch| touch.age).max().unwrap_or(0));
        }
        if let Some(now) = self.store.now() {
            metrics.clocks(now, epoch_milliseconds());
        }
    }
}
