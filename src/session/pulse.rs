//! The last activity of one session, as this replica saw it: one atomic word.

use super::Source;
use crate::clock::Moment;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An activity: when, and what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    /// When.
    pub at: Moment,
    /// What it was.
    pub source: Source,
}

impl Beat {
    /// The moment stands in the upper bits, so that the greater word is the later activity.
    fn to_word(self) -> u64 {
        self.at.0 << 8 | self.source as u64
    }

    fn from_word(word: u64) -> Self {
        let code = u8::try_from(word & 0xff).unwrap_or_default();
        Self { at: Moment(word >> 8), source: Source::from_code(code).unwrap_or(Source::Request) }
    }
}

/// The last activity, and how much of it the store has been told.
#[derive(Debug)]
pub struct Pulse {
    last: AtomicU64,
    told: AtomicU64,
    /// Requests whose answer has not begun. While there are any, the session is active.
    awaited: AtomicU32,
}

impl Pulse {
    /// A pulse that begins with `beat`, of which the store knows already.
    #[must_use]
    pub fn new(beat: Beat) -> Self {
        let word = beat.to_word();
        Self { last: AtomicU64::new(word), told: AtomicU64::new(word), awaited: AtomicU32::new(0) }
    }

    /// Records activity. Merges by maximum: last activity never moves back, whoever calls and in whatever order.
    /// One atomic operation, since every frame of a tunnel comes by here.
    pub fn touch(&self, beat: Beat) {
        self.last.fetch_max(beat.to_word(), Ordering::AcqRel);
    }

    /// The last activity.
    #[must_use]
    pub fn last(&self) -> Beat {
        Beat::from_word(self.last.load(Ordering::Acquire))
    }

    /// The last activity of each source that there was.
    pub fn by_source(&self) -> impl Iterator<Item = Beat> {
        std::iter::once(self.last())
    }

    /// The last activity, where the store has not been told of it.
    #[must_use]
    pub fn untold(&self) -> Option<Beat> {
        let last = self.last.load(Ordering::Acquire);
        (last > self.told.load(Ordering::Acquire)).then(|| Beat::from_word(last))
    }

    /// The store has lost what it was told.
    pub fn untell(&self) {
        self.told.store(0, Ordering::Release);
    }

    /// The store has been told of `beat`. Later activity stays untold.
    pub fn told(&self, beat: Beat) {
        self.told.fetch_max(beat.to_word(), Ordering::AcqRel);
    }

    /// A request has been forwarded and its answer has not begun.
    pub fn await_answer(&self) {
        self.awaited.fetch_add(1, Ordering::AcqRel);
    }

    /// The answer has begun, or never will.
    pub fn answered(&self) {
        self.awaited.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether an answer is awaited.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        self.awaited.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beat(at: u64, source: Source) -> Beat {
        Beat { at: Moment(at), source }
    }

    #[test]
    fn what_the_store_was_told_is_not_told_twice() {
        let pulse = Pulse::new(beat(5, Source::Accepted));
        assert_eq!(pulse.untold(), None);
        pulse.touch(beat(9, Source::ClientPong));
        let untold = pulse.untold().unwrap();
        assert_eq!(untold, beat(9, Source::ClientPong));
        pulse.touch(beat(12, Source::Request));
        pulse.told(untold);
        assert_eq!(pulse.untold(), Some(beat(12, Source::Request)));
    }

    proptest! {
        #[test]
        fn last_activity_is_the_maximum_in_any_order(mut moments in proptest::collection::vec(0u64..1 << 50, 1..20)) {
            let pulse = Pulse::new(beat(0, Source::Accepted));
            for at in &moments {
                pulse.touch(beat(*at, Source::ServerFrame));
            }
            moments.sort_unstable();
            prop_assert_eq!(pulse.last().at, Moment(*moments.last().unwrap()));
        }
    }
}
