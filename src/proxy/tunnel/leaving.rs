//! Between the end of a session and the Close of its tunnels: after a logout the app has the last word.
//!
//! The tab that logged out sees the app's confirmation, and may close by itself; other tabs learn after the delay that
//! they were logged out. Meanwhile nothing from the client reaches the app.

use super::{Ending, Tunnel};
use crate::proxy::relay::Seen;
use crate::session::Reason;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// A tunnel whose session has ended and that is about to be closed. Only such a tunnel has this timer.
pub(super) struct Leaving {
    over: Pin<Box<Sleep>>,
    reason: Reason,
    /// Whether what the app got of the client ends at a frame boundary.
    pub(super) whole: bool,
}

impl Tunnel {
    /// Whether the tunnel ends now, for `reason`, or stays open for the delay that is configured for it.
    pub(super) fn leave(&mut self, reason: Reason) -> Result<(), Ending> {
        let delay = self.proxy.current.load().cut.words(reason).delay;
        if delay == Duration::ZERO {
            return Err(Ending::Cut(reason));
        }
        let whole = self.up.silence();
        self.leaving = Some(Box::new(Leaving { over: Box::pin(tokio::time::sleep(delay)), reason, whole }));
        Ok(())
    }

    /// Whether the delay is over.
    pub(super) fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        let Some(leaving) = &mut self.leaving else { return Ok(()) };
        match leaving.over.as_mut().poll(cx) {
            Poll::Ready(()) => Err(Ending::Cut(leaving.reason)),
            Poll::Pending => Ok(()),
        }
    }

    /// What the client still sends is dropped, except its Close.
    pub(super) fn ignore(&mut self, input: &[u8]) -> Result<(), Ending> {
        let mut seen = Seen::default();
        self.up.relay.follow(input, &mut seen);
        debug_assert!(self.up.relay.unsent.is_empty(), "what is ignored goes nowhere");
        if seen.close { Err(Ending::Closed) } else { Ok(()) }
    }
}
