//! How fast the server's clock runs, by the clock of this replica.

use super::reading::Reading;
use crate::clock::Moment;

/// The least time over which the rate is measured, in milliseconds.
const MEASURED_OVER: u64 = 5_000;

/// A drift of more than this many millionths is reported.
pub(super) const REPORTED: i64 = 1_000;

/// The drift of the server's clock, without what message delays explain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    /// The reading that the next measurement starts from.
    from: Option<Reading>,
    /// The last measurement, in millionths. Above 0, the server's clock is fast.
    last: i64,
    /// The fastest rate of the last idle timeout, in millionths above ours.
    pub(super) fast: u64,
    fast_at: Moment,
    is_reported: bool,
}

impl Drift {
    /// Takes in a reading. Sessions that end now may have been idle for `timeout` milliseconds. Returns the drift if it must be
    /// reported.
    pub(super) fn read(&mut self, reading: Reading, timeout: u64) -> Option<i64> {
        let from = *self.from.get_or_insert(reading);
        let most = reading.received.since(from.sent);
        let least = reading.sent.since(from.received);
        if least < MEASURED_OVER {
            return None;
        }
        self.last = gained(reading.server.saturating_sub(from.server), least, most);
        self.from = Some(reading);
        let fast = self.last.max(0).cast_unsigned();
        if fast >= self.fast || reading.received.since(self.fast_at) > timeout {
            (self.fast, self.fast_at) = (fast, reading.received);
        }
        let is_large = self.last.abs() > REPORTED;
        let is_new = is_large && !std::mem::replace(&mut self.is_reported, is_large);
        is_new.then_some(self.last)
    }

    /// Starts to measure again: the clock was stepped, or another server answers.
    pub(super) fn start_again(&mut self, reading: Reading) {
        self.from = Some(reading);
    }

    /// The last measurement: 0.001 if the server's clock gains a millisecond each second.
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    pub(super) fn ratio(&self) -> f64 {
        self.last as f64 / 1e6
    }
}

/// By how many millionths the server's clock is fast, if `passed` by it while at least `least` and at most `most` passed by
/// ours.
pub(super) fn gained(passed: u64, least: u64, most: u64) -> i64 {
    let gained = passed.saturating_sub(most).cast_signed() - least.saturating_sub(passed).cast_signed();
    gained.saturating_mul(1_000_000) / most.max(1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reading with a delay of 20 ms each way, `at` milliseconds of ours after the first.
    fn reading(at: u64, gained: i64) -> Reading {
        let server = (1_000_000_000 + at).saturating_add_signed(gained);
        Reading { server, sent: Moment(at), received: Moment(at + 40), connection: 1 }
    }

    #[test]
    fn a_clock_that_runs_fast_is_measured_and_reported_once() {
        let mut drift = Drift::default();
        let reported: Vec<_> = (0..60)
            .filter_map(|second| drift.read(reading(second * 1000, second.cast_signed() * 50), 3_600_000))
            .collect();
        assert_eq!(reported.len(), 1);
        assert!((38_000..=50_000).contains(&drift.fast), "5 % less the message delay: {drift:?}");
        // For one timeout, sessions may have been idle meanwhile.
        let gained = 59 * 50;
        for second in 60..600 {
            drift.read(reading(second * 1000, gained), 3_600_000);
        }
        assert!(drift.fast > 38_000 && drift.last == 0, "{drift:?}");
        for second in 600..5_000 {
            drift.read(reading(second * 1000, gained), 3_600_000);
        }
        assert_eq!(drift.fast, 0);
    }

    #[test]
    fn message_delay_is_no_drift() {
        let mut drift = Drift::default();
        for second in 0..100 {
            let late = if second % 2 == 0 { 0 } else { 40 };
            assert_eq!(drift.read(reading(second * 1000, late), 60_000), None);
        }
        assert_eq!(drift.fast, 0);
    }
}
