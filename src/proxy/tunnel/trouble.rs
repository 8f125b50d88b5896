//! Tunnels in trouble: a peer that is stuck, an invalid frame. Only these have a timer.

use super::{Ending, Tunnel};
use crate::proxy::FAREWELL;
use std::time::Duration;

/// How often a tunnel in trouble is looked after.
const CHORES_EVERY: Duration = Duration::from_millis(250);

/// How long a tunnel may stay in trouble, in milliseconds: as long as a farewell.
const TROUBLE_AT_MOST: u64 = FAREWELL.as_secs() * 1000;

impl Tunnel {
    /// Starts the timer where something is wrong that no event would tell of.
    pub(super) fn look_after(&mut self) {
        if self.invalid.is_none()
            && let Some(invalid) = self.up.lane.is_invalid().or(self.down.lane.is_invalid())
        {
            tracing::debug!(%invalid, "an invalid frame was relayed");
            self.invalid = Some(self.proxy.keeper.clock().now());
        }
        if !(self.invalid.is_some() || self.up.is_in_trouble() || self.down.is_in_trouble()) {
            self.chores = None;
        } else if self.chores.is_none() {
            self.chores = Some(Box::pin(tokio::time::sleep(CHORES_EVERY)));
        }
    }

    pub(super) fn do_chores(&mut self) -> Result<(), Ending> {
        self.chores = None;
        let now = self.proxy.keeper.clock().now();
        let too_long = |since| now.since(since) >= TROUBLE_AT_MOST;
        if self.invalid.is_some_and(too_long) {
            return Err(Ending::Invalid);
        }
        let deserted = [self.up.deserted(&self.client, now), self.down.deserted(&self.app, now)];
        if deserted.into_iter().flatten().any(too_long) {
            return Err(Ending::Deserted);
        }
        self.look_after();
        Ok(())
    }
}
