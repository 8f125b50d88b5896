//! A reading of the server's clock, and what two of them say about it.

use crate::clock::Moment;

/// The smallest apparent jump of the server's clock against ours that counts as a step, in milliseconds. Less than the
/// `margin` of the script.
const STEP: u64 = 400;

/// The same, if another server may have answered, or the same one after a restart. It covers the drift between clocks
/// that NTP keeps in step; the message delay is allowed for separately.
const APART: u64 = 50;

/// A reading of the server's clock, taken between two moments of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    /// The server's time, in epoch milliseconds.
    pub(super) server: u64,
    pub(super) sent: Moment,
    pub(super) received: Moment,
    /// The number of the connection it was read on. On another one, another server may answer.
    pub(super) connection: u64,
}

impl Reading {
    /// The step of the server's clock between two readings, or the clock difference to the server that took over, in
    /// milliseconds; 0 if the message delay explains the difference. The estimate errs towards the past, because marks
    /// are moved by it, and a mark must not get ahead of the reported activity.
    pub(super) fn step_after(&self, earlier: &Self) -> i64 {
        let least = earlier.server.saturating_add(self.sent.since(earlier.received));
        let most = earlier.server.saturating_add(self.received.since(earlier.sent));
        let step =
            if self.connection == earlier.connection { STEP } else { APART + self.received.since(earlier.sent) / 1000 };
        let stepped = self.server.saturating_add(step) < least || self.server > most.saturating_add(step);
        if stepped { self.server.cast_signed().saturating_sub(most.cast_signed()) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(server: u64, sent: u64, received: u64) -> Reading {
        Reading { server, sent: Moment(sent), received: Moment(received), connection: 1 }
    }

    #[test]
    fn message_delay_is_not_a_clock_step() {
        let first = reading(1_000_000, 0, 10);
        // A reply that took nine seconds: the server may have read its clock at any moment in between.
        for server in [1_000_990, 1_010_000] {
            assert_eq!(reading(server, 1_000, 10_000).step_after(&first), 0, "{server}");
        }
        for (server, step) in [(998_000, -3_010), (1_004_000, 2_990), (8_200_000, 7_198_990)] {
            assert_eq!(reading(server, 1_000, 1_010).step_after(&first), step, "{server}");
        }
    }
}
