//! What the mode means for sessions that are over, and what a change of it brings about.

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

    /// The mode that would be in force, were this switch set to `mode`.
    #[must_use]
    pub(super) fn mode_with(&self, switch: Switch, mode: Mode) -> Mode {
        self.switches.mode_with(switch, mode)
    }

    /// How each switch stands, in the order of [`Switch::ALL`].
    #[must_use]
    pub fn switches(&self) -> [Setting; 3] {
        self.switches.settings()
    }

    /// Sets a switch of this replica, for a while or for good. In force at once. Returns the mode in force then.
    pub fn switch(&self, switch: Switch, mode: Mode, lasting: Option<Duration>) -> Mode {
        let until = lasting.map(|lasting| self.clock.now().plus(milliseconds(lasting)));
        self.set(switch, self.switches.setting(switch, mode, until))
    }

    /// Sets the switch of the file at the start: that is no change of the mode.
    pub fn begin_in(&self, mode: Mode) {
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
        self.changed((before, after), switch.name())
    }

    /// Sets the switch of all replicas, for a while or for good. Returns the mode in force here then.
    ///
    /// # Errors
    /// Where the store does not answer, or is one that no other replica shares.
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
        // After another notification the order is unknown: until the switch is read again, the less strict value
        // counts.
        if seen.notified == notified || seen.stands.is_none_or(|stands| fleet.mode <= stands.mode) {
            seen.notified += 1;
            self.take_over(seen, fleet);
        }
        Ok(self.mode())
    }

    /// The number of notifications about the fleet's switch so far.
    pub(super) fn fleet_notices(&self) -> u64 {
        self.fleet.lock().notified
    }

    /// Some replica has set the switch of all.
    pub(super) fn fleet_switched(&self, fleet: Fleet) {
        let mut seen = self.fleet.lock();
        seen.notified += 1;
        self.take_over(seen, fleet);
    }

    /// The fleet's switch was read from the store by a request that was sent after `notified` notifications. If more have
    /// come since, they are newer, or a newer one is under way: the mode must not flip between them.
    pub(super) fn read_fleet(&self, fleet: Fleet, notified: u64) {
        let seen = self.fleet.lock();
        if seen.notified == notified {
            self.take_over(seen, fleet);
        }
    }

    /// Under the lock until it is in force: of two concurrent changes, the later one must win.
    fn take_over(&self, mut seen: MutexGuard<'_, SeenFleet>, fleet: Fleet) {
        let fleet = self.store.now().map_or(fleet, |now| fleet.at(now));
        if seen.stands.replace(fleet) == Some(fleet) {
            return;
        }
        let until = fleet.until.map(|(second, then)| {
            let left = self.store.now().map_or(0, |now| second.saturating_mul(1000).saturating_sub(now));
            (self.clock.now().plus(left), then)
        });
        // Under the lock as well: of two concurrent changes, the later one must be published last.
        self.set(Switch::Fleet, Setting { mode: fleet.mode, until });
        drop(seen);
    }

    /// The switch of all replicas stands nowhere: it was never set, or the store has lost it. What was seen last goes on,
    /// and is written back.
    pub(super) async fn miss_fleet(&self) {
        let seen = self.fleet.lock().stands;
        if let Some(fleet) = seen.map(|fleet| self.store.now().map_or(fleet, |now| fleet.at(now)))
            && let Err(error) = self.store.restore_fleet(fleet).await
        {
            tracing::debug!(%error, "the mode of the fleet could not be written back");
        }
    }

    /// Takes back what was set until now.
    pub(super) fn expire_switches(&self) {
        self.changed(self.switches.expire(self.clock.now()), "time");
    }

    fn changed(&self, (before, after): (Mode, Mode), by: &str) -> Mode {
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
            // From now on no replica counts, and idle time starts again afterwards. The lifetime goes on.
            for session in overdue.iter().filter(|session| session.is_overdue_by(Reason::Idle)) {
                session.clear_overdue();
            }
        }
        if after == Mode::Enforce {
            std::mem::take(&mut *self.tolerated.lock()).cancel();
            self.enforces_since.store(self.now() / 1000, Ordering::Relaxed);
            // What was only recorded is now done, by the next round.
            let now = self.clock.now();
            for session in overdue {
                session.clear_overdue();
                self.judge_at(&session, now);
            }
        }
        after
    }

    /// Live sessions that are over, and are not cut since the mode does not cut.
    #[must_use]
    pub fn overdue(&self) -> Vec<Arc<TrackedSession>> {
        self.all().into_iter().filter(|session| session.ended().is_none() && session.overdue().is_some()).collect()
    }

    /// A session is over, by the store's word. Returns whether the mode lets it end.
    pub(super) fn over(&self, session: &TrackedSession, ended: Ended) -> bool {
        let ends = self.mode() == Mode::Enforce || ended.reason == Reason::Operator;
        if ends {
            self.close(session, ended);
        } else {
            self.mark_overdue(session, ended);
        }
        ends
    }

    /// A session is over, and lives on.
    pub(super) fn mark_overdue(&self, session: &TrackedSession, record: Ended) {
        if session.mark_overdue(record) && self.mode() == Mode::Observe {
            self.record_would_end(session, &record);
        }
    }

    /// What a token stands for under the current mode.
    pub(super) fn as_the_mode_has_it(&self, id: SessionId, standing: Resolved) -> Resolved {
        // Before the mode is looked at: where it changes now, this one fires.
        let over = matches!(standing, Resolved::Ended(_)).then(|| self.tolerated.lock().clone());
        match (standing, self.mode(), over) {
            (_, Mode::Off, _) | (Resolved::Undecided, Mode::Observe, _) => Resolved::Unknown,
            (Resolved::Ended(ended), Mode::Observe, Some(over)) if !ended.reason.is_by_hand() => {
                Resolved::Tolerated(Tolerated { id, ended, over })
            }
            (standing, ..) => standing,
        }
    }
}
