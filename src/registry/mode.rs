//! What the mode does with expired sessions, and what happens when the mode changes.

use super::switch::Setting;
use super::{Registry, Resolved, SeenFleet, Switch, Tolerated, TrackedSession};
use crate::clock::milliseconds;
use crate::session::{Mode, Reason, SessionId};
use crate::store::{Ended, Fleet, StoreError};
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Registry {
    /// The mode in force: that of the least strict switch.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.switches.mode()
    }

    /// The mode that would be in force if this switch were set to `mode`.
    #[must_use]
    pub(super) fn mode_with(&self, switch: Switch, mode: Mode) -> Mode {
        self.switches.mode_with(switch, mode)
    }

    /// The setting of each switch, in the order of [`Switch::ALL`].
    #[must_use]
    pub fn switches(&self) -> [Setting; 3] {
        self.switches.settings()
    }

    /// Sets a switch of this replica, for the time `lasting` if given. It takes effect at once. Returns the mode in
    /// force afterwards.
    pub fn switch(&self, switch: Switch, mode: Mode, lasting: Option<Duration>) -> Mode {
        let until = lasting.map(|lasting| self.clock.now().plus(milliseconds(lasting)));
        self.set(switch, self.switches.setting(switch, mode, until))
    }

    /// Sets the switch of the file at startup. This is not recorded as a change of the mode.
    pub fn set_initial_mode(&self, mode: Mode) {
        self.switches.set(Switch::File, self.switches.setting(Switch::File, mode, None));
        if mode == Mode::Off {
            self.off_unsynced.store(true, Ordering::Release);
        }
        self.metrics.mode(self.mode());
    }

    fn set(&self, switch: Switch, setting: Setting) -> Mode {
        let stood = self.switches.of(switch);
        let (before, after) = self.switches.set(switch, setting);
        if before == after && stood != setting {
            self.record_setting(after, switch, setting.mode);
        }
        self.mode_changed((before, after), switch.name())
    }

    /// Sets the fleet's switch, for the time `lasting` if given. Returns the mode in force here afterwards.
    ///
    /// # Errors
    /// If the store does not answer, or is not shared with other replicas.
    pub async fn switch_fleet(&self, mode: Mode, lasting: Option<Duration>) -> Result<Mode, StoreError> {
        let until = lasting.map(|lasting| self.clock.now().plus(milliseconds(lasting)));
        let setting = self.switches.setting(Switch::Fleet, mode, until);
        let until = match (setting.until, lasting) {
            (Some((_, then)), Some(lasting)) => {
                let now =
                    self.store.now().ok_or_else(|| StoreError::Unavailable("its time is not known".to_owned()))?;
                Some((now.saturating_add(milliseconds(lasting)).div_ceil(1000), then))
            }
            _ => None,
        };
        let fleet = Fleet { mode, until };
        let notified = self.fleet_notices();
        self.store.switch_fleet(fleet).await?;
        let mut seen = self.fleet.lock();
        // If a notification came in between, the order of the two is unknown. Until the switch is read again, the less
        // strict value counts.
        if seen.notified == notified || seen.latest.is_none_or(|latest| fleet.mode <= latest.mode) {
            seen.notified += 1;
            self.apply_fleet(seen, fleet);
        }
        Ok(self.mode())
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
        let fleet = self.store.now().map_or(fleet, |now| fleet.at(now));
        if seen.latest.replace(fleet) == Some(fleet) {
            return;
        }
        let until = fleet.until.map(|(second, then)| {
            let left = self.store.now().map_or(0, |now| second.saturating_mul(1000).saturating_sub(now));
            (self.clock.now().plus(left), then)
        });
        // Still under the lock: of two concurrent changes, the later one must be published last.
        self.set(Switch::Fleet, Setting { mode: fleet.mode, until });
        drop(seen);
    }

    /// The store has no value for the fleet's switch: it was never set, or the store has lost it. The value seen last
    /// stays in force and is written back.
    pub(super) async fn restore_fleet(&self) {
        let seen = self.fleet.lock().latest;
        if let Some(fleet) = seen.map(|fleet| self.store.now().map_or(fleet, |now| fleet.at(now)))
            && let Err(error) = self.store.restore_fleet(fleet).await
        {
            tracing::debug!(%error, "could not write the mode of the fleet back to the store");
        }
    }

    /// Ends temporary settings whose time is over.
    pub(super) fn expire_switches(&self) {
        self.mode_changed(self.switches.expire(self.clock.now()), "time");
    }

    fn mode_changed(&self, (before, after): (Mode, Mode), by: &str) -> Mode {
        if before == after {
            return after;
        }
        if after == Mode::Off {
            // First, so that every later decision sees it.
            self.off_unsynced.store(true, Ordering::Release);
        }
        let overdue: Vec<_> = self.overdue();
        self.record_mode(before, after, by, overdue.len());
        if after == Mode::Off {
            // From now on no replica counts idle time, and it starts again after `off`. The lifetime goes on.
            for session in overdue.iter().filter(|session| session.is_overdue_by(Reason::Idle)) {
                session.clear_overdue();
            }
        }
        if after == Mode::Enforce {
            std::mem::take(&mut *self.tolerated.lock()).cancel();
            self.enforces_since.store(self.now() / 1000, Ordering::Relaxed);
            // The next round judges the overdue sessions again, and ends them.
            let now = self.clock.now();
            for session in overdue {
                session.clear_overdue();
                self.judge_at(&session, now);
            }
        }
        after
    }

    /// The overdue sessions: past a limit, and alive because the mode does not cut them.
    #[must_use]
    pub fn overdue(&self) -> Vec<Arc<TrackedSession>> {
        self.all_that(|session| session.ended().is_none() && session.overdue().is_some())
    }

    /// Handles the store's verdict that a session is past a limit or has ended. Returns whether it ends in this mode.
    pub(super) fn end_if_enforced(&self, session: &TrackedSession, ended: Ended) -> bool {
        let ends = self.mode() == Mode::Enforce || ended.reason == Reason::Operator;
        if ends {
            self.close(session, ended);
        } else {
            self.mark_overdue(session, ended);
        }
        ends
    }

    /// Marks a session as overdue, and records it in `observe`.
    pub(super) fn mark_overdue(&self, session: &TrackedSession, record: Ended) {
        if session.mark_overdue(record) && self.mode() == Mode::Observe {
            self.record_would_end(session, &record);
        }
    }

    /// Applies the current mode to a resolved token.
    pub(super) fn under_mode(&self, id: SessionId, resolved: Resolved) -> Resolved {
        // Taken before the mode is read: if the mode changes in between, this token is cancelled.
        let over = matches!(resolved, Resolved::Ended(_)).then(|| self.tolerated.lock().clone());
        match (resolved, self.mode(), over) {
            (_, Mode::Off, _) | (Resolved::Undecided, Mode::Observe, _) => Resolved::Unknown,
            (Resolved::Ended(ended), Mode::Observe, Some(over)) if !ended.reason.is_by_hand() => {
                Resolved::Tolerated(Tolerated { id, ended, over })
            }
            (resolved, ..) => resolved,
        }
    }
}
