//! The switches of the mode: how they are set, and what a change of the mode does.

use super::Switch;
use super::decisions::Decisions;
use super::services::Services;
use super::switch::Setting;
use super::table::Table;
use crate::clock::milliseconds;
use crate::session::{Mode, Reason};
use crate::store::{Fleet, StoreError};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Sets the switches of the mode.
#[derive(Debug)]
pub struct Modes {
    services: Arc<Services>,
    decisions: Arc<Decisions>,
    table: Arc<Table>,
    fleet: Mutex<SeenFleet>,
    /// The mode was `off`, however briefly, and the store does not know this yet.
    off_unsynced: AtomicBool,
}

/// The fleet's switch, as this replica knows it.
#[derive(Debug, Default)]
struct SeenFleet {
    /// The value seen last.
    latest: Option<Fleet>,
    /// The number of notifications about it. A value read before the latest notification may be older than that.
    notified: u64,
}

impl Modes {
    pub(super) fn new(services: Arc<Services>, decisions: Arc<Decisions>, table: Arc<Table>) -> Self {
        Self { services, decisions, table, fleet: Mutex::default(), off_unsynced: AtomicBool::new(false) }
    }

    /// The setting of each switch, in the order of [`Switch::ALL`].
    #[must_use]
    pub fn settings(&self) -> [Setting; 3] {
        self.services.switches.settings()
    }

    /// The mode that would be in force if this switch were set to `mode`.
    pub(super) fn mode_with(&self, switch: Switch, mode: Mode) -> Mode {
        self.services.switches.mode_with(switch, mode)
    }

    /// Sets a switch of this replica, for the time `lasting` if given. It takes effect at once. Returns the mode in
    /// force afterwards.
    pub fn switch(&self, switch: Switch, mode: Mode, lasting: Option<Duration>) -> Mode {
        let until = lasting.map(|lasting| self.services.clock.now().plus(milliseconds(lasting)));
        self.set(switch, self.services.switches.setting(switch, mode, until))
    }

    /// Sets the switch of the file at startup. This is not recorded as a change of the mode.
    pub fn set_initial(&self, mode: Mode) {
        let switches = &self.services.switches;
        switches.set(Switch::File, switches.setting(Switch::File, mode, None));
        if mode == Mode::Off {
            self.off_unsynced.store(true, Ordering::Release);
        }
        self.services.metrics.mode(switches.mode());
    }

    fn set(&self, switch: Switch, setting: Setting) -> Mode {
        let stood = self.services.switches.of(switch);
        let (before, after) = self.services.switches.set(switch, setting);
        if before == after && stood != setting {
            self.decisions.switch_set(after, switch, setting.mode);
        }
        self.changed((before, after), switch.name())
    }

    /// Sets the fleet's switch, for the time `lasting` if given. Returns the mode in force here afterwards.
    ///
    /// # Errors
    /// If the store does not answer, or is not shared with other replicas.
    pub async fn switch_fleet(&self, mode: Mode, lasting: Option<Duration>) -> Result<Mode, StoreError> {
        let Services { clock, store, switches, .. } = &*self.services;
        let until = lasting.map(|lasting| clock.now().plus(milliseconds(lasting)));
        let setting = switches.setting(Switch::Fleet, mode, until);
        let until = match (setting.until, lasting) {
            (Some((_, then)), Some(lasting)) => {
                let now = store.now().ok_or_else(|| StoreError::Unavailable("its time is not known".to_owned()))?;
                Some((now.saturating_add(milliseconds(lasting)).div_ceil(1000), then))
            }
            _ => None,
        };
        let fleet = Fleet { mode, until };
        let notified = self.fleet_notices();
        store.switch_fleet(fleet).await?;
        let mut seen = self.fleet.lock();
        // If a notification came in between, the order of the two is unknown. Until the switch is read again, the less
        // strict value counts.
        if seen.notified == notified || seen.latest.is_none_or(|latest| fleet.mode <= latest.mode) {
            seen.notified += 1;
            self.apply_fleet(seen, fleet);
        }
        Ok(self.services.mode())
    }

    /// The number of notifications about the fleet's switch so far.
    pub(super) fn fleet_notices(&self) -> u64 {
        self.fleet.lock().notified
    }

    /// A replica has set the fleet's switch.
    pub(super) fn fleet_switched(&self, fleet: Fleet) {
        let mut seen = self.fleet.lock();
        seen.notified += 1;
        self.apply_fleet(seen, fleet);
    }

    /// Takes over the fleet's switch as read from the store by a request sent after `notified` notifications. If more
    /// have come since, the value read may be older, and is ignored: the mode must not flip back and forth.
    pub(super) fn read_fleet(&self, fleet: Fleet, notified: u64) {
        let seen = self.fleet.lock();
        if seen.notified == notified {
            self.apply_fleet(seen, fleet);
        }
    }

    /// Holds the lock until the value is in force: of two concurrent changes, the later one must win.
    fn apply_fleet(&self, mut seen: MutexGuard<'_, SeenFleet>, fleet: Fleet) {
        let Services { clock, store, .. } = &*self.services;
        let fleet = store.now().map_or(fleet, |now| fleet.at(now));
        if seen.latest.replace(fleet) == Some(fleet) {
            return;
        }
        let until = fleet.until.map(|(second, then)| {
            let left = store.now().map_or(0, |now| second.saturating_mul(1000).saturating_sub(now));
            (clock.now().plus(left), then)
        });
        // Still under the lock: of two concurrent changes, the later one must be published last.
        self.set(Switch::Fleet, Setting { mode: fleet.mode, until });
        drop(seen);
    }

    /// The store has no value for the fleet's switch: it was never set, or the store has lost it. The value seen last
    /// stays in force and is written back.
    pub(super) async fn restore_fleet(&self) {
        let (seen, store) = (self.fleet.lock().latest, &self.services.store);
        if let Some(fleet) = seen.map(|fleet| store.now().map_or(fleet, |now| fleet.at(now)))
            && let Err(error) = store.restore_fleet(fleet).await
        {
            tracing::debug!(%error, "could not write the mode of the fleet back to the store");
        }
    }

    /// Ends temporary settings whose time is over.
    pub(super) fn expire(&self) {
        self.changed(self.services.switches.expire(self.services.clock.now()), "time");
    }

    /// The mode to report and to judge by. A replica that was off, however briefly, counts as off until the store knows
    /// it. Then idle time starts again for every session.
    pub(super) fn to_report(&self) -> Mode {
        if self.off_unsynced.load(Ordering::Acquire) { Mode::Off } else { self.services.mode() }
    }

    /// The store has accepted a report of this mode.
    pub(super) fn reported(&self, mode: Mode) {
        if self.services.mode() != Mode::Off {
            self.off_unsynced.fetch_and(mode != Mode::Off, Ordering::AcqRel);
        }
    }

    fn changed(&self, (before, after): (Mode, Mode), by: &str) -> Mode {
        if before == after {
            return after;
        }
        if after == Mode::Off {
            // First, so that every later decision sees it.
            self.off_unsynced.store(true, Ordering::Release);
        }
        let overdue = self.table.overdue();
        self.decisions.mode_changed(before, after, by, overdue.len());
        if after == Mode::Off {
            // From now on no replica counts idle time, and it starts again after `off`. The lifetime goes on.
            for session in overdue.iter().filter(|session| session.is_overdue_by(Reason::Idle)) {
                session.clear_overdue();
            }
        }
        self.table.end_tolerations(after);
        if after == Mode::Enforce {
            // The next round judges the overdue sessions again, and ends them.
            let now = self.services.clock.now();
            for session in overdue {
                session.clear_overdue();
                self.table.sessions.judge_at(&session, now);
            }
        }
        if before == Mode::Off {
            // What began meanwhile is reported at once.
            self.table.hinted.notify_one();
        }
        after
    }
}
