//! How long no idlegate was running, where that can be known.
//!
//! The wall clock may have been stepped; the clock that counts from the machine's boot may not. So within one boot the
//! latter measures the time. Across a boot it cannot be measured, and counting starts again.

use super::disk::{CountedUntil, Kept};
use crate::clock::Moment;
use crate::session::EpochSeconds;
use crate::store::MAX_GAP;
use crate::store::table::StoredSession;

/// How far the wall clock may differ from the measured time before it counts as stepped, in milliseconds.
const STEP: u64 = 1_000;

/// The start of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    /// By the wall clock, in epoch milliseconds.
    pub(super) epoch: u64,
    /// By the machine's clock.
    pub(super) now: Moment,
    /// The boot that this clock counts from; `None` where the system does not provide it.
    pub(super) boot: Option<u64>,
}

/// The kept sessions, adjusted to the clocks of this process.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) kept: Kept,
    /// Now, in epoch milliseconds. The store's time continues from here.
    pub(super) epoch: u64,
    /// The start of unbroken counting.
    pub(super) counting: EpochSeconds,
    pub(super) gap: Gap,
}

/// How long no idlegate was counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gap {
    /// Short enough for idle time to continue.
    Short,
    /// The gap in milliseconds. Idle time starts again.
    Long(u64),
    /// The gap cannot be measured. Idle time starts again.
    Unknown,
}

/// Adjusts the kept sessions to the time since the last process stopped.
pub(super) fn resume(mut kept: Kept, begin: Begin) -> Resumed {
    let Some(downtime) = measured(&kept.counted, begin) else {
        clamp(&mut kept, 0, begin.epoch / 1000);
        return Resumed { kept, epoch: begin.epoch, counting: begin.epoch / 1000, gap: Gap::Unknown };
    };
    // What the clock of the last process would read now.
    let continued = kept.counted.epoch.saturating_add(downtime);
    let (epoch, shift) = if continued.abs_diff(begin.epoch) < STEP {
        (continued, 0)
    } else {
        // Rounded up, so that a time may become later, but never earlier.
        let ahead = i128::from(begin.epoch) - i128::from(continued);
        (begin.epoch, i64::try_from(ahead.div_euclid(1000) + i128::from(ahead.rem_euclid(1000) > 0)).unwrap_or(0))
    };
    clamp(&mut kept, shift, epoch / 1000);
    let (counting, gap) =
        if downtime <= MAX_GAP { (kept.counting, Gap::Short) } else { (epoch / 1000, Gap::Long(downtime)) };
    Resumed { kept, epoch, counting, gap }
}

/// The milliseconds since an idlegate last counted, by the machine's clock; `None` across a boot.
fn measured(counted: &CountedUntil, begin: Begin) -> Option<u64> {
    let same_boot = counted.boot.is_some() && counted.boot == begin.boot && begin.now >= counted.at;
    same_boot.then(|| begin.now.since(counted.at))
}

/// Moves all times by `shift` seconds. Times in the future, left by a clock that was set back, become `now`.
fn clamp(kept: &mut Kept, shift: i64, now: EpochSeconds) {
    let moved = |stamp: EpochSeconds| stamp.saturating_add_signed(shift).min(now);
    kept.counting = moved(kept.counting);
    for StoredSession { last_activity, created, end, .. } in kept.records.values_mut() {
        *last_activity = moved(*last_activity);
        *created = moved(*created);
        if let Some(end) = end {
            end.at = moved(end.at);
            end.counting = end.counting.map(moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{SessionId, Source};
    use proptest::prelude::*;

    const NOON: u64 = 1_774_700_000;

    /// One session, last active `idle` seconds before the last process stopped at `epoch` milliseconds.
    fn kept(epoch: u64, idle: u64) -> Kept {
        let stamp = epoch / 1000 - idle;
        let record = StoredSession { last_activity: stamp, source: Source::Request, created: stamp, end: None };
        Kept {
            records: [(SessionId::of_token(b"a"), record)].into(),
            counting: stamp - 100,
            counted: CountedUntil { epoch, at: Moment(50_000), boot: Some(1) },
        }
    }

    fn resumed(epoch: u64, idle: u64, downtime: u64, wall_ahead: i64, boot: Option<u64>) -> (u64, Resumed) {
        let begin =
            Begin { epoch: (epoch + downtime).saturating_add_signed(wall_ahead), now: Moment(50_000 + downtime), boot };
        let resumed = resume(kept(epoch, idle), begin);
        let last = resumed.kept.records.values().next().unwrap().last_activity;
        let idle_since = last.max(resumed.counting);
        (resumed.epoch / 1000 - idle_since.min(resumed.epoch / 1000), resumed)
    }

    #[test]
    fn a_stepped_wall_clock_makes_nothing_idle() {
        for ahead in [25_000, 86_400_000, -25_000, -86_400_000, 0, 400] {
            let (idle, resumed) = resumed(NOON * 1000, 8, 2_000, ahead, Some(1));
            assert_eq!((idle, resumed.gap), (10, Gap::Short), "stepped by {ahead} ms");
            // Displayed times follow the wall clock.
            assert!(resumed.epoch.abs_diff((NOON * 1000 + 2_000).saturating_add_signed(ahead)) < STEP, "{ahead}");
        }
    }

    #[test]
    fn idle_time_starts_again_after_a_long_gap_and_where_it_cannot_be_measured() {
        for (downtime, boot, gap) in [
            (60_000, Some(1), Gap::Short),
            (60_001, Some(1), Gap::Long(60_001)),
            (2_000, Some(2), Gap::Unknown),
            (2_000, None, Gap::Unknown),
        ] {
            let (idle, resumed) = resumed(NOON * 1000, 8, downtime, 0, boot);
            assert_eq!(resumed.gap, gap, "{downtime} ms, boot {boot:?}");
            assert_eq!(idle, if gap == Gap::Short { 68 } else { 0 });
        }
        // A file of an earlier version has neither the boot nor the machine's clock.
        let mut old = kept(NOON * 1000, 8);
        old.counted = CountedUntil { epoch: NOON * 1000, ..CountedUntil::default() };
        let begin = Begin { epoch: NOON * 1000 + 2_000, now: Moment(52_000), boot: None };
        assert_eq!(resume(old, begin).gap, Gap::Unknown);
    }

    proptest! {
        /// A second that is over by the resumed time is over by the true one: no session expires early.
        #[test]
        fn no_step_makes_a_session_older_than_it_is(
            fraction in 0..1000_u64, downtime in 0..60_000_u64, ahead in -1_000_000..1_000_000_i64, later in 0..5_000_u64,
        ) {
            let epoch = NOON * 1000 + fraction;
            let (_, resumed) = resumed(epoch, 8, downtime, ahead, Some(1));
            let last = resumed.kept.records.values().next().unwrap().last_activity;
            let idle = ((resumed.epoch + later) / 1000).saturating_sub(last);
            // It was active at the very end of its second, at the latest.
            let truly_since = (epoch / 1000 - 8) * 1000;
            let truly = (epoch + downtime + later - truly_since) / 1000;
            prop_assert!(idle <= truly, "{idle} s instead of {truly} s");
            prop_assert!(idle + 2 > truly, "{idle} s instead of {truly} s");
        }
    }
}
