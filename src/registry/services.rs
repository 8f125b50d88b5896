//! What every part of the registry uses.

use super::settings::ExchangeSettings;
use super::switch::Switches;
use crate::clock::{Clock, Moment, epoch_milliseconds};
use crate::metrics::Metrics;
use crate::replica;
use crate::session::{EpochSeconds, Limits, Mode};
use crate::store::{Ended, Store};
use std::sync::Arc;

/// The store, the clocks, the limits and the metrics, with the mode in force.
#[derive(Debug)]
pub struct Services {
    pub(super) store: Box<dyn Store>,
    pub(super) clock: Clock,
    /// The limits that the store judges by. Explanations are computed from them.
    pub(super) limits: Limits,
    pub(super) exchange: ExchangeSettings,
    /// This replica's name.
    pub(super) replica: String,
    pub(super) metrics: Arc<Metrics>,
    /// The names of the `[[ignore]]` rules, by position.
    pub(super) ignore_rules: Vec<String>,
    /// Read everywhere. Only `modes.rs` changes them.
    pub(super) switches: Switches,
    /// When this registry started, by the store's clock.
    pub(super) started: EpochSeconds,
}

impl Services {
    /// `limits` must be the store's limits. The name of the replica is new, and the other settings are the defaults.
    #[must_use]
    pub fn new(store: Box<dyn Store>, clock: Clock, limits: Limits) -> Self {
        Self {
            started: store.now().unwrap_or_else(epoch_milliseconds) / 1000,
            store,
            clock,
            limits,
            exchange: ExchangeSettings::default(),
            replica: replica::new_name(),
            metrics: Arc::default(),
            ignore_rules: Vec::new(),
            switches: Switches::default(),
        }
    }

    /// Sets how it exchanges data with the store.
    #[must_use]
    pub fn with_exchange(self, exchange: ExchangeSettings) -> Self {
        Self { exchange, ..self }
    }

    /// Sets this replica's name.
    #[must_use]
    pub fn named(self, replica: String) -> Self {
        Self { replica, ..self }
    }

    /// Sets the metrics to update. The store updates the same ones.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Sets the names of the `[[ignore]]` rules, by position.
    #[must_use]
    pub fn with_ignore_rules(self, ignore_rules: Vec<String>) -> Self {
        Self { ignore_rules, ..self }
    }

    /// The name of the `[[ignore]]` rule at this position.
    pub(super) fn ignore_rule(&self, position: usize) -> &str {
        self.ignore_rules.get(position).map_or("", String::as_str)
    }

    /// The mode in force: that of the least strict switch.
    pub(super) fn mode(&self) -> Mode {
        self.switches.mode()
    }

    /// The current time in epoch milliseconds, by the store's clock as last known.
    pub(super) fn now(&self) -> u64 {
        self.store.now().unwrap_or_else(epoch_milliseconds)
    }

    /// The epoch second of a moment.
    pub(super) fn second_of(&self, at: Moment) -> EpochSeconds {
        self.now().saturating_sub(self.clock.now().since(at)) / 1000
    }

    /// When a session ended, by this replica's clock: if the store loses the record, the end is reported again, as an
    /// age.
    pub(super) fn moment_of(&self, ended: &Ended) -> Moment {
        let ago = self.store.now().map_or(0, |now| now.saturating_sub(ended.ended.saturating_mul(1000)));
        self.clock.now().minus(ago)
    }

    /// The idle timeout in milliseconds.
    pub(super) fn timeout(&self) -> u64 {
        self.limits.timeout.saturating_mul(1000)
    }
}
