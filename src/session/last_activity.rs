//! The last activity of one session, as this replica knows it: one atomic word for each source.

use super::Source;
use crate::clock::Moment;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An activity: when, and what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    /// When.
    pub at: Moment,
    /// What it was.
    pub source: Source,
}

impl Activity {
    /// The moment stands in the upper bits, so that the greater word is the later activity. No word is 0, which stands for
    /// no activity at all.
    fn to_word(self) -> u64 {
        self.at.0 << 8 | (self.source as u64 + 1)
    }

    fn from_word(word: u64) -> Option<Self> {
        let code = u8::try_from(word & 0xff).ok()?.checked_sub(1)?;
        Some(Self { at: Moment(word >> 8), source: Source::from_code(code)? })
    }
}

/// The last activity of each source, and how much of it the store has been told.
#[derive(Debug)]
pub struct LastActivity {
    /// By [`Source`].
    last: [AtomicU64; Source::ALL.len()],
    /// The word of the last activity that was told.
    told: AtomicU64,
    /// Requests whose answer has not begun. While there are any, the session is active.
    awaited: AtomicU32,
}

impl LastActivity {
    /// A pulse that begins with `beat`, of which the store knows already.
    #[must_use]
    pub fn new(beat: Activity) -> Self {
        let activity_record =
            Self { last: Default::default(), told: AtomicU64::new(beat.to_word()), awaited: AtomicU32::new(0) };
        activity_record.touch(beat);
        activity_record
    }

    /// Records activity. Merges by maximum: last activity never moves back, whoever calls and in whatever order.
    /// One atomic operation, since every frame of a tunnel comes by here.
    pub fn touch(&self, beat: Activity) {
        self.last[beat.source as usize].fetch_max(beat.to_word(), Ordering::AcqRel);
    }

    /// The last activity. The words are read one after the other, and none of them ever moves back: so neither does this.
    #[must_use]
    pub fn last(&self) -> Activity {
        // There is one: that which the pulse began with.
        Activity::from_word(self.last_word()).unwrap_or(Activity { at: Moment(0), source: Source::Accepted })
    }

    fn last_word(&self) -> u64 {
        self.last.iter().map(|word| word.load(Ordering::Acquire)).max().unwrap_or_default()
    }

    /// The last activity of each source that there was: as this replica saw it, or the store told it.
    pub fn by_source(&self) -> impl Iterator<Item = Activity> {
        self.last.iter().filter_map(|word| Activity::from_word(word.load(Ordering::Acquire)))
    }

    /// The last activity, where the store has not been told of it.
    #[must_use]
    pub fn unsynced(&self) -> Option<Activity> {
        let last = self.last_word();
        Activity::from_word(last).filter(|_| last > self.told.load(Ordering::Acquire))
    }

    /// The store has lost what it was told.
    pub fn mark_unsynced(&self) {
        self.told.store(0, Ordering::Release);
    }

    /// The store has been told of `beat`. Later activity stays untold.
    pub fn acknowledged(&self, beat: Activity) {
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

    fn beat(at: u64, source: Source) -> Activity {
        Activity { at: Moment(at), source }
    }

    #[test]
    fn what_the_store_was_told_is_not_told_twice() {
        let activity_record = LastActivity::new(beat(5, Source::Accepted));
        assert_eq!(activity_record.unsynced(), None);
        activity_record.touch(beat(9, Source::ClientPong));
        let unsynced = activity_record.unsynced().unwrap();
        assert_eq!(unsynced, beat(9, Source::ClientPong));
        activity_record.touch(beat(12, Source::Request));
        activity_record.acknowledged(unsynced);
        assert_eq!(activity_record.unsynced(), Some(beat(12, Source::Request)));
    }

    proptest! {
        #[test]
        fn the_last_of_each_source_and_of_all_is_the_maximum_in_any_order(
            beats in proptest::collection::vec((1u64..1 << 50, 0..Source::ALL.len()), 1..40),
        ) {
            let begun = beat(0, Source::Accepted);
            let activity_record = LastActivity::new(begun);
            let mut all: Vec<_> = beats.iter().map(|(at, source)| beat(*at, Source::ALL[*source])).collect();
            for beat in &all {
                activity_record.touch(*beat);
            }
            all.push(begun);
            let last = all.iter().map(|beat| beat.at).max();
            prop_assert_eq!(Some(activity_record.last().at), last);
            prop_assert_eq!(activity_record.unsynced().map(|beat| beat.at), last);
            let of = |source: Source| all.iter().filter(|beat| beat.source == source).max_by_key(|beat| beat.at).copied();
            let expected: Vec<_> = Source::ALL.into_iter().filter_map(of).collect();
            prop_assert_eq!(activity_record.by_source().collect::<Vec<_>>(), expected);
        }
    }
}
