//! The only place that asks for the time.
//!
//! Activity is stamped by a clock that does not step and counts suspension (`CLOCK_BOOTTIME`): a laptop that slept
//! for an hour was idle for an hour, and a stepped wall clock, a timezone or DST change nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment of this replica's own time, in milliseconds since an arbitrary start. Means nothing elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Milliseconds from `earlier` to here; 0 where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `milliseconds` later.
    #[must_use]
    pub fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// The moment `milliseconds` earlier, or the start of time if that is earlier still.
    #[must_use]
    pub fn minus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_sub(milliseconds))
    }
}

/// How far back ages may reach before the machine was booted, in milliseconds: twenty years. Sessions are older than
/// the machine that learns of them, and an age (at most ten years and a retention) must be kept as it is.
const BEFORE_BOOT: u64 = 20 * 365 * 24 * 3600 * 1000;

/// Gives the moment that is now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(ClockKind);

#[derive(Clone, Debug)]
enum ClockKind {
    Boot,
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(ClockKind::Boot)
    }

    /// A clock that moves only when `milliseconds` is written: simulated time.
    #[must_use]
    pub fn simulated(milliseconds: Arc<AtomicU64>) -> Self {
        Self(ClockKind::Simulated(milliseconds))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            ClockKind::Boot => Moment(BEFORE_BOOT + microseconds() / 1000),
            ClockKind::Simulated(milliseconds) => Moment(milliseconds.load(Ordering::Acquire)),
        }
    }
}

/// Microseconds of the machine's clock since its boot, to measure how long something takes.
pub(crate) fn microseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is negative for a clock that begins at boot.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// Milliseconds since the Unix epoch, by the wall clock. Read when a store of this process begins, and to show how far
/// another store's clock is from it: nothing is decided by it.
#[must_use]
pub fn epoch_milliseconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    milliseconds(since)
}

/// The boot of the machine that this is: the same id until the next boot. `None` where the system does not provide it.
#[must_use]
pub fn boot_id() -> Option<u64> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u64::from_str_radix(&id.trim().replace('-', "").get(..16)?.to_ascii_lowercase(), 16).ok()
}

/// A duration in the unit of the timing core.
#[must_use]
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_id() {
        assert!(boot_id().is_some() && boot_id() == boot_id(), "{:?}", boot_id());
    }

    #[test]
    fn what_was_before_the_machine_was_booted_keeps_its_age() {
        let (now, age) = (Clock::system().now(), 10 * 365 * 24 * 3600 * 1000);
        assert_eq!(now.since(now.minus(age)), age);
    }
}
