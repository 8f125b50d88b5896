//! Between the end of a session and the Close of its tunnels: after a logout the app has the last word.
//!
//! The tab that logged out sees the app's confirmation, and may close by itself; other tabs learn after the delay that
//! they were logged out. Meanwhile nothing from the client reaches the app.

use super::Ending;
use super::direction::Direction;
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

impl Leaving {
    /// The tunnel stays open for `delay`, and nothing more of the client goes up.
    pub(super) fn begin(up: &mut Direction, reason: Reason, delay: Duration) -> Self {
        Self { over: Box::pin(tokio::time::sleep(delay)), reason, whole: up.silence() }
    }

    /// Ready, with the reason for the cut, when the delay is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.over.as_mut().poll(cx).map(|()| self.reason)
    }

    /// What the client still sends is dropped, except its Close.
    pub(super) fn ignore(up: &mut Direction, input: &[u8]) -> Result<(), Ending> {
        let mut seen = Seen::default();
        up.relay.follow(input, &mut seen);
        debug_assert!(up.relay.unsent.is_empty(), "what is ignored goes nowhere");
        if seen.close { Err(Ending::Closed) } else { Ok(()) }
    }
}
