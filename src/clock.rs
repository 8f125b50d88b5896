//! The only module that reads clocks.
//!
//! Activity is stamped by `CLOCK_BOOTTIME`, a clock that does not step and counts suspension: a laptop that slept for
//! an hour was idle for an hour. Wall clock steps, timezones and DST change nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of this replica's own time, in milliseconds since an arbitrary start. It has no meaning on other replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `milliseconds` later.
    #[must_use]
    pub fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// The moment `milliseconds` earlier, but not before moment 0.
    #[must_use]
    pub fn minus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_sub(milliseconds))
    }
}

/// How far ages may reach back before the boot of the machine, in milliseconds: twenty years. Sessions can be older
/// than the machine's uptime, and an age (up to ten years plus the retention) must not be clamped.
const BEFORE_BOOT: u64 = 20 * 365 * 24 * 3600 * 1000;

/// Returns the current moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(ClockKind);

#[derive(Clone, Debug)]
enum ClockKind {
    Boot,
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// The clock of this machine, `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn system() -> Self {
        Self(ClockKind::Boot)
    }

    /// A clock that moves only when `milliseconds` is written: simulated time.
    #[must_use]
    pub fn simulated(milliseconds: Arc<AtomicU64>) -> Self {
        Self(ClockKind::Simulated(milliseconds))
    }

    /// The current moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            ClockKind::Boot => Moment(BEFORE_BOOT + microseconds() / 1000),
            ClockKind::Simulated(milliseconds) => Moment(milliseconds.load(Ordering::Acquire)),
        }
    }
}

/// Microseconds since the boot of the machine, to measure durations.
pub(crate) fn microseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is negative, since this clock starts at boot.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// Milliseconds since the Unix epoch, by the wall clock. Used as the start time of a store in this process, and to show
/// how far the clock of an external store differs. Nothing is decided by it.
#[must_use]
pub fn epoch_milliseconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    milliseconds(since)
}

/// The id of the machine's current boot: the same until the next boot. `None` if the system does not provide it.
#[must_use]
pub fn boot_id() -> Option<u64> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u64::from_str_radix(&id.trim().replace('-', "").get(..16)?.to_ascii_lowercase(), 16).ok()
}

/// A duration in milliseconds, the unit of [`Moment`].
#[must_use]
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_stable() {
        assert!(boot_id().is_some() && boot_id() == boot_id(), "{:?}", boot_id());
    }

    #[test]
    fn an_age_may_reach_back_before_the_boot() {
        let (now, age) = (Clock::system().now(), 10 * 365 * 24 * 3600 * 1000);
        assert_eq!(now.since(now.minus(age)), age);
    }
}
