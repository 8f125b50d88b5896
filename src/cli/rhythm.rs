//! How evenly something comes: a timer of a page, or a person.

/// Times closer than this are one, in milliseconds: a page sends several requests at a time.
const BURST: u64 = 300;

/// The shortest interval of a timer that is looked for, in milliseconds. A person who types is faster.
const SHORTEST: u64 = 900;

/// How many intervals must be even at least.
const LEAST: usize = 4;

/// At least so many of a hundred intervals must be even. Between them, a person may have done the same.
const SHARE: usize = 60;

/// By how much an even interval may differ from the middle one: so many parts of a hundred, or milliseconds.
const TOLERANCE: u64 = 10;
const LEAST_TOLERANCE: u64 = 300;

/// What comes at even intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rhythm {
    /// The middle interval, in milliseconds.
    pub(super) every: u64,
    /// How many times it came outside of the rhythm.
    pub(super) odd: usize,
}

impl Rhythm {
    /// The rhythm of these times, in milliseconds, the earliest first. `None` if there is none.
    pub(super) fn of(times: &[u64]) -> Option<Self> {
        let mut apart: Vec<u64> = Vec::new();
        for time in times {
            if apart.last().is_none_or(|last| time.saturating_sub(*last) >= BURST) {
                apart.push(*time);
            }
        }
        let intervals: Vec<_> = apart.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut sorted = intervals.clone();
        sorted.sort_unstable();
        let every = *sorted.get(sorted.len() / 2)?;
        let tolerance = (every / 100 * TOLERANCE).max(LEAST_TOLERANCE);
        let even = intervals.iter().filter(|interval| interval.abs_diff(every) <= tolerance).count();
        let is_even = every >= SHORTEST && even >= LEAST && even * 100 >= intervals.len() * SHARE;
        is_even.then_some(Self { every, odd: intervals.len() - even })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times with these intervals between them.
    fn times(intervals: &[u64]) -> Vec<u64> {
        let sums = intervals.iter().scan(5000, |at, interval| {
            *at += interval;
            Some(*at)
        });
        std::iter::once(5000).chain(sums).collect()
    }

    #[test]
    fn a_timer_has_a_rhythm() {
        let of = |intervals: &[u64]| Rhythm::of(&times(intervals));
        assert_eq!(of(&[10_000; 5]), Some(Rhythm { every: 10_000, odd: 0 }));
        assert_eq!(of(&[9_900, 10_300, 10_000, 9_800, 10_100]), Some(Rhythm { every: 10_000, odd: 0 }));
        // The page sends the same twice each time.
        assert_eq!(of(&[10, 3990, 12, 3988, 5, 3995, 9, 3991]), Some(Rhythm { every: 4000, odd: 0 }));
        // A click between, and a pause of the browser.
        assert_eq!(of(&[2000, 2000, 700, 1300, 2000, 2000, 2000, 9000]), Some(Rhythm { every: 2000, odd: 3 }));
    }

    #[test]
    fn a_person_has_none() {
        let of = |intervals: &[u64]| Rhythm::of(&times(intervals));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5000; 3]), None, "too few to tell");
        assert_eq!(of(&[400; 50]), None, "typing");
        assert_eq!(of(&[1200, 4100, 900, 2500, 15_000, 3300, 1100, 7000, 2100, 600]), None);
        // Random pauses of 1 to 20 s, many times: never taken for a timer.
        let mut state = 1_u64;
        for _ in 0..1000 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                1000 + (state >> 33) % 19_000
            };
            let intervals: Vec<_> = (0..30).map(|_| next()).collect();
            assert_eq!(of(&intervals), None, "{intervals:?}");
        }
    }
}
