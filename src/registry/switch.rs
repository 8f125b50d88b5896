//! The switches of the mode. The least strict one wins, so that a rollback through any of them takes effect at once.

use crate::clock::Moment;
use crate::session::Mode;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a mode can be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// `idle.mode` in the configuration.
    File,
    /// On this replica, while it runs.
    Replica,
    /// In the store, for all replicas.
    Fleet,
}

impl Switch {
    /// All switches.
    pub const ALL: [Self; 3] = [Self::File, Self::Replica, Self::Fleet];

    /// The name in logs and in responses of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Replica => "replica",
            Self::Fleet => "fleet",
        }
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The setting of a switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The mode it is set to.
    pub mode: Mode,
    /// When a temporary setting ends, and the mode that it then returns to.
    pub until: Option<(Moment, Mode)>,
}

impl Setting {
    /// The mode without the temporary setting.
    fn lasting(self) -> Mode {
        self.until.map_or(self.mode, |(_, then)| then)
    }
}

/// All switches, and the mode that results from them.
#[derive(Debug)]
pub(super) struct Switches {
    /// Read for every request, so kept outside the lock.
    mode: AtomicU8,
    settings: Mutex<[Setting; 3]>,
}

impl Default for Switches {
    /// All switches allow `enforce`.
    fn default() -> Self {
        let untouched = Setting { mode: Mode::Enforce, until: None };
        Self { mode: AtomicU8::new(Mode::Enforce as u8), settings: Mutex::new([untouched; 3]) }
    }
}

impl Switches {
    /// The mode in force.
    pub(super) fn mode(&self) -> Mode {
        let code = usize::from(self.mode.load(Ordering::Acquire));
        Mode::ALL.get(code).copied().unwrap_or(Mode::Off)
    }

    /// The setting of each switch, in the order of [`Switch::ALL`].
    pub(super) fn settings(&self) -> [Setting; 3] {
        *self.settings.lock()
    }

    /// The setting of one switch.
    pub(super) fn of(&self, switch: Switch) -> Setting {
        let [file, replica, fleet] = self.settings();
        match switch {
            Switch::File => file,
            Switch::Replica => replica,
            Switch::Fleet => fleet,
        }
    }

    /// The mode that would be in force if one switch were set to `mode`.
    pub(super) fn mode_with(&self, switch: Switch, mode: Mode) -> Mode {
        let others = self.settings().into_iter().enumerate().filter(|(other, _)| *other != switch as usize);
        others.map(|(_, setting)| setting.mode).fold(mode, Mode::min)
    }

    /// The setting of a switch to `mode`, temporary if `until` is given.
    pub(super) fn setting(&self, switch: Switch, mode: Mode, until: Option<Moment>) -> Setting {
        let lasting = self.of(switch).lasting();
        Setting { mode, until: until.map(|until| (until, lasting)) }
    }

    /// Sets one switch. Returns the mode before and after.
    pub(super) fn set(&self, switch: Switch, setting: Setting) -> (Mode, Mode) {
        let mut settings = self.settings.lock();
        if let Some(entry) = settings.get_mut(switch as usize) {
            *entry = setting;
        }
        self.apply(&settings)
    }

    /// Ends temporary settings whose time is over. Returns the mode before and after.
    pub(super) fn expire(&self, now: Moment) -> (Mode, Mode) {
        let mut settings = self.settings.lock();
        for setting in settings.iter_mut() {
            if let Some((until, then)) = setting.until
                && until <= now
            {
                *setting = Setting { mode: then, until: None };
            }
        }
        self.apply(&settings)
    }

    fn apply(&self, settings: &[Setting; 3]) -> (Mode, Mode) {
        let after = settings.iter().map(|setting| setting.mode).min().unwrap_or(Mode::Enforce);
        let before = self.mode.swap(after as u8, Ordering::AcqRel);
        (Mode::ALL.get(usize::from(before)).copied().unwrap_or(Mode::Off), after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(switches: &Switches, switch: Switch, mode: Mode, until: Option<u64>) -> (Mode, Mode) {
        switches.set(switch, switches.setting(switch, mode, until.map(Moment)))
    }

    #[test]
    fn the_least_strict_switch_wins() {
        let switches = Switches::default();
        assert_eq!(switches.mode(), Mode::Enforce);
        assert_eq!(switches.mode_with(Switch::Fleet, Mode::Observe), Mode::Observe);
        assert_eq!(set(&switches, Switch::File, Mode::Observe, None), (Mode::Enforce, Mode::Observe));
        assert_eq!(set(&switches, Switch::Fleet, Mode::Off, None), (Mode::Observe, Mode::Off));
        assert_eq!(set(&switches, Switch::Replica, Mode::Enforce, None), (Mode::Off, Mode::Off));
        assert_eq!(switches.mode_with(Switch::Fleet, Mode::Enforce), Mode::Observe, "the file is less strict");
        assert_eq!(set(&switches, Switch::Fleet, Mode::Enforce, None), (Mode::Off, Mode::Observe));
        assert_eq!(set(&switches, Switch::File, Mode::Enforce, None), (Mode::Observe, Mode::Enforce));
    }

    #[test]
    fn a_temporary_setting_returns_to_the_lasting_one() {
        let switches = Switches::default();
        set(&switches, Switch::Replica, Mode::Observe, None);
        set(&switches, Switch::Replica, Mode::Off, Some(1_000));
        // A second temporary setting still returns to the lasting one.
        set(&switches, Switch::Replica, Mode::Off, Some(2_000));
        assert_eq!(switches.expire(Moment(1_999)), (Mode::Off, Mode::Off));
        assert_eq!(switches.expire(Moment(2_000)), (Mode::Off, Mode::Observe));
        assert_eq!(switches.expire(Moment(9_000)), (Mode::Observe, Mode::Observe));
        // A lasting setting cancels the temporary one.
        set(&switches, Switch::Replica, Mode::Off, Some(30_000));
        set(&switches, Switch::Replica, Mode::Enforce, None);
        assert_eq!(switches.expire(Moment(90_000)), (Mode::Enforce, Mode::Enforce));
    }
}
