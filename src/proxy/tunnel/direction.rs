//! One direction of a tunnel: its relay, and what it waits for.

use super::TokenVerdict;
use crate::clock::Moment;
use crate::proxy::buffer::Buffer;
use crate::proxy::cut::is_momentary;
use crate::proxy::relay::{Relay, Seen};
use crate::stream::Stream;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::Interest;

pub(super) type Waiting = Option<Pin<Box<dyn Future<Output = TokenVerdict> + Send>>>;

pub(super) struct Direction {
    pub(super) relay: Relay,
    pub(super) verdict: Waiting,
    /// Was read behind a message that waits for its verdict.
    pub(super) backlog: Buffer,
    receiver: Receiver,
}

/// What is known of the one that a way leads to.
enum Receiver {
    /// It takes what comes, be it slowly.
    Taking,
    /// It is stuck, and since then the sender is known to have gone.
    Abandoned(Moment),
    /// Since then it is known to take nothing more.
    Closed(Moment),
}

impl Direction {
    pub(super) fn new(relay: Relay) -> Self {
        Self { relay, verdict: None, backlog: Buffer::default(), receiver: Receiver::Taking }
    }

    pub(super) fn wants_input(&self) -> bool {
        self.relay.unsent.is_empty() && self.verdict.is_none() && !self.is_closed()
    }

    /// Passes on what need not be examined, directly if it can be written at once. Bytes that wait for a verdict are
    /// kept in the backlog.
    pub(super) fn pass(&mut self, rest: &[u8], to: &Stream, seen: &mut Seen) -> io::Result<()> {
        if self.verdict.is_some() {
            self.backlog.extend(rest);
            return self.flush(to);
        }
        self.flush(to)?;
        if rest.is_empty() {
            return Ok(());
        }
        self.relay.follow(rest, seen);
        let written = if self.relay.unsent.is_empty() { try_write(rest, to)? } else { 0 };
        if let Some(unwritten) = rest.get(written..).filter(|unwritten| !unwritten.is_empty()) {
            self.relay.unsent.extend(unwritten);
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, to: &Stream) -> io::Result<()> {
        while !self.relay.unsent.is_empty() {
            match try_write(self.relay.unsent.as_slice(), to)? {
                0 => break,
                count => self.relay.unsent.consume(count),
            }
        }
        Ok(())
    }

    /// The receiver takes nothing more.
    pub(super) fn stop_writing(&mut self, now: Moment) {
        self.relay.unsent.clear();
        if !self.is_closed() {
            self.receiver = Receiver::Closed(now);
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self.receiver, Receiver::Closed(_))
    }

    /// Nothing of the sender goes on any more. Returns whether what did ends at a frame boundary.
    pub(super) fn silence(&mut self) -> bool {
        self.verdict = None;
        self.backlog.clear();
        self.relay.silence()
    }

    /// Whether something waits that no event will report.
    pub(super) fn is_stuck(&self) -> bool {
        !self.relay.unsent.is_empty() || self.is_closed()
    }

    /// Since when the receiver takes nothing, or is stuck while the sender has gone. Reading stops then, so nothing
    /// else would notice.
    pub(super) fn abandoned(&mut self, sender: &Stream, now: Moment) -> Option<Moment> {
        match self.receiver {
            Receiver::Closed(since) => return Some(since),
            _ if self.relay.unsent.is_empty() => self.receiver = Receiver::Taking,
            Receiver::Abandoned(since) => return Some(since),
            Receiver::Taking => {
                let mut context = Context::from_waker(Waker::noop());
                let readiness = pin!(sender.ready(Interest::READABLE)).poll(&mut context);
                if matches!(readiness, Poll::Ready(Ok(ready)) if ready.is_read_closed()) {
                    self.receiver = Receiver::Abandoned(now);
                    return Some(now);
                }
            }
        }
        None
    }

    /// Nothing more comes: what was held may go, unless it waits for a verdict.
    pub(super) fn release_unless_judged(&mut self) {
        if self.verdict.is_none() {
            self.relay.release();
        }
    }
}

/// Writes what can be written now; 0 where nothing can.
fn try_write(bytes: &[u8], to: &Stream) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if is_momentary(&error) => Ok(0),
        written => written,
    }
}
