//! The keeper's report to the store: what was seen, as ages; and what comes back.

use super::{Registry, TrackedSession};
use crate::clock::{Moment, epoch_milliseconds};
use crate::session::{Activity, EpochSeconds, Mode, Source};
use crate::store::{Flushed, Touch};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a start waits for the store.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// What came of telling the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    takes: bool,
    since: Moment,
    unsynced: usize,
}

/// How the store stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreStatus {
    /// It takes what it is told, and keeps it where it should.
    pub takes: bool,
    /// Since when.
    pub since: EpochSeconds,
    /// Sessions with activity that it could not be told.
    pub unsynced: usize,
    /// Whether no session ends meanwhile.
    pub holds_ends: bool,
}

impl Registry {
    /// How the store stands, once it was told anything.
    #[must_use]
    pub fn store_status(&self) -> Option<StoreStatus> {
        let told = *self.standing.lock();
        told.map(|Reported { takes, since, unsynced }| StoreStatus {
            takes,
            since: self.second_of(since),
            unsynced,
            holds_ends: !takes && self.store.holds_ends(),
        })
    }

    /// Since when no session ends because the store is out, if that is so.
    #[must_use]
    pub fn held_since(&self) -> Option<EpochSeconds> {
        self.store_status().filter(|standing| standing.holds_ends).map(|standing| standing.since)
    }

    /// The store's kind: `memory`, `file` or `redis`.
    #[must_use]
    pub fn store_kind(&self) -> &'static str {
        self.store.kind()
    }

    /// The first word with the store, before anybody is served: how the switch of all replicas stands, which must not be
    /// stricter here for the first who come. Where the store does not answer, it is not waited for.
    pub async fn meet_the_store(&self) {
        if tokio::time::timeout(FIRST_WORD, self.flush()).await.is_err() {
            tracing::debug!("the store did not answer in time; clients are served all the same");
        }
    }

    /// Tells the store the activity it has not been told of: at most one touch per session, as an age. Also where
    /// there is none: the store's other replicas wait for this one's word that it has told all.
    ///
    /// Whether the store knows now what was to be told.
    pub(super) async fn flush(&self) -> bool {
        // Before anything is collected: what happens from here on is not told yet.
        let told = self.clock.now();
        let mode = self.counting_mode();
        // Whoever is off only says so: all others have to know it.
        let unsynced = if mode == Mode::Off { Vec::new() } else { self.unsynced(told) };
        let now = self.clock.now();
        let touches: Vec<Touch> = unsynced.iter().map(|(session, _)| session.touch_for_store(now)).collect();
        let heard = self.fleet_notices();
        let flushed = self.store.flush(&touches, told, mode).await;
        self.show_store(&touches, flushed.as_ref().ok());
        match flushed {
            Ok(flushed) => {
                if self.mode() != Mode::Off {
                    self.off_unsynced.fetch_and(mode != Mode::Off, Ordering::AcqRel);
                }
                for (session, beat) in unsynced {
                    session.activity_record().told(beat);
                }
                for (id, ended) in flushed.ended {
                    if let Some(session) = self.known(id) {
                        self.over(&session, ended);
                    }
                }
                if flushed.resync {
                    self.resync();
                }
                match flushed.fleet {
                    Some(fleet) => self.read_fleet(fleet, heard),
                    None => self.miss_fleet().await,
                }
                !flushed.resync
            }
            Err(error) => {
                tracing::debug!(%error, sessions = touches.len(), "activity is kept here until the store answers");
                // Whoever was off has collected nothing, and has still to say that.
                mode != Mode::Off && touches.is_empty()
            }
        }
    }

    /// The mode, as far as counting goes: whoever was off, however briefly, is off until the store knows it, and lets idle
    /// time start anew for everybody.
    pub(super) fn counting_mode(&self) -> Mode {
        if self.off_unsynced.load(Ordering::Acquire) { Mode::Off } else { self.mode() }
    }

    fn show_store(&self, touches: &[Touch], flushed: Option<&Flushed>) {
        let takes = flushed.is_some_and(|flushed| !flushed.unkept);
        let unsynced = if flushed.is_some() { 0 } else { touches.len() };
        let mut standing = self.standing.lock();
        let since = standing.filter(|before| before.takes == takes).map_or(self.clock.now(), |before| before.since);
        *standing = Some(Reported { takes, since, unsynced });
        drop(standing);
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
        // An end that is not told yet may be told late: what came before it is vouched for by the mark of this report.
        let told = |session: &&Arc<TrackedSession>| session.ended().is_none() || session.is_end_unsynced();
        let sessions = sessions.by_id.values().map(|entry| &entry.session).filter(told);
        sessions
            .filter_map(|session| {
                // An answer that has not begun is activity that lasts.
                if session.activity_record().is_awaiting() && session.ended().is_none() {
                    session.touch(now, Source::Request);
                }
                Some((Arc::clone(session), session.activity_record().unsynced()?))
            })
            .collect()
    }

    /// The store has lost what it was told. The living are told of with the next flush; the dead at once.
    fn resync(&self) {
        let all: Vec<Arc<TrackedSession>> = self.all();
        tracing::info!(sessions = all.len(), "the store is told again what is known here");
        for session in all {
            if session.ended().is_some() {
                session.set_end_unsynced(true);
            } else {
                session.activity_record().mark_unsynced();
            }
        }
    }
}
