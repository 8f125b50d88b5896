//! Converts the registry's data to the admin API's JSON.

use super::json::{Modes, OneSession, SwitchSetting, Until, Warnings};
use crate::registry::{Registry, SessionView, Setting, Switch, Timing};

impl Warnings {
    pub(super) fn of(registry: &Registry) -> Self {
        Self {
            changing: registry.metrics().token_changes.report(),
            unissued: registry.issues.blind_rules(),
            no_match: registry.metrics().unmatched.report(),
            held_since: registry.store.held_since(),
        }
    }
}

impl Modes {
    pub(super) fn of(registry: &Registry, past_the_limit: usize) -> Self {
        let now = registry.clock().now();
        let switches = Switch::ALL.iter().zip(registry.modes.settings()).map(|(switch, Setting { mode, until })| {
            let until = until.map(|(until, then)| Until {
                seconds_left: until.since(now).div_ceil(1000),
                then: then.name().to_owned(),
            });
            (switch.name().to_owned(), SwitchSetting { mode: mode.name().to_owned(), until })
        });
        // Only a shared store has a fleet.
        let store = registry.store_kind();
        let switches = switches.filter(|(name, _)| store == "redis" || name != Switch::Fleet.name());
        Self {
            warnings: Warnings::of(registry),
            mode: registry.mode().name().to_owned(),
            switches: switches.collect(),
            past_the_limit,
            replica: registry.replica().to_owned(),
            store: Some(store.to_owned()),
        }
    }
}

impl OneSession {
    pub(super) fn of(view: SessionView, by: &Timing) -> Self {
        let left = view.end.is_none().then(|| view.left(by));
        Self {
            now: by.now,
            idle: view.idle(by),
            limit: by.limits.timeout,
            seconds_left: left.map(|(left, _)| left),
            left_until: left.map(|(_, reason)| reason.name().to_owned()),
            says: view.says(by),
            view,
        }
    }
}
