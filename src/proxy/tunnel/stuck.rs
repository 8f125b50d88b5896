//! Tunnels in trouble: a peer that is stuck, an invalid frame. Only these have a timer.

use super::Ending;
use super::direction::Direction;
use crate::clock::{Clock, Moment};
use crate::proxy::CLOSE_TIMEOUT;
use crate::stream::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// How often a tunnel in trouble is looked after.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// How long a tunnel may be stuck, in milliseconds.
const MAX_STUCK: u64 = CLOSE_TIMEOUT.as_secs() * 1000;

/// What is wrong with a tunnel that no event will report.
#[derive(Default)]
pub(super) struct Trouble {
    /// Since when an invalid frame has been relayed.
    invalid: Option<Moment>,
    check: Option<Pin<Box<Sleep>>>,
}

impl Trouble {
    /// Starts the timer if something is wrong with one of the directions.
    pub(super) fn look(&mut self, [up, down]: [&Direction; 2], clock: &Clock) {
        if self.invalid.is_none()
            && let Some(invalid) = up.relay.is_invalid().or(down.relay.is_invalid())
        {
            tracing::debug!(%invalid, "an invalid frame was relayed");
            self.invalid = Some(clock.now());
        }
        if !(self.invalid.is_some() || up.is_stuck() || down.is_stuck()) {
            self.check = None;
        } else if self.check.is_none() {
            self.check = Some(Box::pin(tokio::time::sleep(CHECK_EVERY)));
        }
    }

    /// Ready when the directions must be checked.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = self.check.as_mut().map_or(Poll::Pending, |check| check.as_mut().poll(cx));
        if ready.is_ready() {
            self.check = None;
        }
        ready
    }

    /// Checks the directions, each with the socket that it reads from: how the tunnel ends, if it has been in trouble for too
    /// long.
    pub(super) fn check(&self, directions: [(&mut Direction, &Stream); 2], now: Moment) -> Result<(), Ending> {
        let too_long = |since| now.since(since) >= MAX_STUCK;
        if self.invalid.is_some_and(too_long) {
            return Err(Ending::Invalid);
        }
        for (direction, from) in directions {
            if direction.abandoned(from, now).is_some_and(too_long) {
                return Err(Ending::Abandoned);
            }
        }
        Ok(())
    }
}
