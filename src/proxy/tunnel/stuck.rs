//! Tunnels in trouble: a peer that is stuck, an invalid frame. Only these have a timer.

use super::{Ending, Tunnel};
use crate::proxy::CLOSE_TIMEOUT;
use std::time::Duration;

/// How often a tunnel in trouble is looked after.
const STUCK_CHECK_EVERY: Duration = Duration::from_millis(250);

/// How long a tunnel may be stuck, in milliseconds.
const MAX_STUCK: u64 = CLOSE_TIMEOUT.as_secs() * 1000;

impl Tunnel {
    /// Starts the timer for a fault that no event will report.
    pub(super) fn arm_stuck_check(&mut self) {
        if self.invalid.is_none()
            && let Some(invalid) = self.up.relay.is_invalid().or(self.down.relay.is_invalid())
        {
            tracing::debug!(%invalid, "an invalid frame was relayed");
            self.invalid = Some(self.proxy.registry.clock().now());
        }
        if !(self.invalid.is_some() || self.up.is_stuck() || self.down.is_stuck()) {
            self.stuck_check = None;
        } else if self.stuck_check.is_none() {
            self.stuck_check = Some(Box::pin(tokio::time::sleep(STUCK_CHECK_EVERY)));
        }
    }

    pub(super) fn check_stuck(&mut self) -> Result<(), Ending> {
        self.stuck_check = None;
        let now = self.proxy.registry.clock().now();
        let too_long = |since| now.since(since) >= MAX_STUCK;
        if self.invalid.is_some_and(too_long) {
            return Err(Ending::Invalid);
        }
        let abandoned = [self.up.abandoned(&self.client, now), self.down.abandoned(&self.app, now)];
        if abandoned.into_iter().flatten().any(too_long) {
            return Err(Ending::Abandoned);
        }
        self.arm_stuck_check();
        Ok(())
    }
}
