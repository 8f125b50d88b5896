//! The last activity of one session, as this replica knows it: one atomic word for each source.

use super::Source;
use crate::clock::Moment;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// An activity: its time and source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Activity {
    /// When it was seen.
    pub at: Moment,
    /// Its source.
    pub source: Source,
}

impl Activity {
    /// The moment is in the upper bits, so that the greater word is the later activity. 0 means no activity: the source
    /// is stored plus 1.
    fn to_word(self) -> u64 {
        self.at.0 << 8 | (self.source as u64 + 1)
    }

    fn from_word(word: u64) -> Option<Self> {
        let code = u8::try_from(word & 0xff).ok()?.checked_sub(1)?;
        Some(Self { at: Moment(word >> 8), source: Source::from_code(code)? })
    }
}

/// The word for "the store had acknowledged activity, and has lost it". It is no activity, and earlier than any.
const LOST: u64 = 1 << 7;

/// The last activity of each source, and how much of it the store knows.
#[derive(Debug)]
pub struct LastActivity {
    /// By [`Source`].
    last: [AtomicU64; Source::ALL.len()],
    /// The last acknowledged activity, as a word.
    acknowledged: AtomicU64,
    /// The number of requests whose response has not begun. While it is not 0, the session is active.
    awaited: AtomicU32,
}

impl LastActivity {
    /// Starts with `activity`, which the store already knows.
    #[must_use]
    pub fn new(activity: Activity) -> Self {
        let activity_record = Self {
            last: Default::default(),
            acknowledged: AtomicU64::new(activity.to_word()),
            awaited: AtomicU32::new(0),
        };
        activity_record.touch(activity);
        activity_record
    }

    /// Records activity. Merges by maximum: the last activity never moves back, in any order of calls. This is one
    /// atomic operation, because every frame of a tunnel calls it.
    pub fn touch(&self, activity: Activity) {
        self.last[activity.source as usize].fetch_max(activity.to_word(), Ordering::AcqRel);
    }

    /// The last activity. The words are read one after the other. None of them moves back, so the result does not
    /// either.
    #[must_use]
    pub fn last(&self) -> Activity {
        // There always is one: `new` records the first.
        Activity::from_word(self.last_word()).unwrap_or(Activity { at: Moment(0), source: Source::Accepted })
    }

    fn last_word(&self) -> u64 {
        self.last.iter().map(|word| word.load(Ordering::Acquire)).max().unwrap_or_default()
    }

    /// The last activity of each source, as seen by this replica or reported by the store.
    pub fn by_source(&self) -> impl Iterator<Item = Activity> {
        self.last.iter().filter_map(|word| Activity::from_word(word.load(Ordering::Acquire)))
    }

    /// The last activity, if the store has not acknowledged it. `None` too while the activity that it has acknowledged is
    /// at most `wait` milliseconds old.
    #[must_use]
    pub fn unsynced(&self, now: Moment, wait: u64) -> Option<Activity> {
        let (last, acknowledged) = (self.last_word(), self.acknowledged.load(Ordering::Acquire));
        let waits = Activity::from_word(acknowledged).is_some_and(|told| now.since(told.at) < wait);
        Activity::from_word(last).filter(|_| acknowledged == LOST || (last > acknowledged && !waits))
    }

    /// The store has lost the session: its last activity must be reported again.
    pub fn mark_unsynced(&self) {
        self.acknowledged.store(LOST, Ordering::Release);
    }

    /// The store has never heard of the session.
    pub fn mark_unknown(&self) {
        self.acknowledged.store(0, Ordering::Release);
    }

    /// Whether the store has never heard of the session.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.acknowledged.load(Ordering::Acquire) == 0
    }

    /// The store has acknowledged `activity`. Later activity stays unsynced.
    pub fn acknowledged(&self, activity: Activity) {
        self.acknowledged.fetch_max(activity.to_word(), Ordering::AcqRel);
    }

    /// A request has been forwarded, and its response has not begun.
    pub fn await_response(&self) {
        self.awaited.fetch_add(1, Ordering::AcqRel);
    }

    /// The response has begun, or never will.
    pub fn response_begun(&self) {
        self.awaited.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a response is awaited.
    #[must_use]
    pub fn is_awaiting(&self) -> bool {
        self.awaited.load(Ordering::Acquire) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment(1 << 51);

    fn activity(at: u64, source: Source) -> Activity {
        Activity { at: Moment(at), source }
    }

    #[test]
    fn acknowledged_activity_is_not_reported_again() {
        let activity_record = LastActivity::new(activity(5, Source::Accepted));
        assert_eq!(activity_record.unsynced(NOW, 0), None);
        activity_record.touch(activity(9, Source::ClientPong));
        let unsynced = activity_record.unsynced(NOW, 0).unwrap();
        assert_eq!(unsynced, activity(9, Source::ClientPong));
        activity_record.touch(activity(12, Source::Request));
        activity_record.acknowledged(unsynced);
        assert_eq!(activity_record.unsynced(NOW, 0), Some(activity(12, Source::Request)));
    }

    proptest! {
        #[test]
        fn last_activity_is_the_maximum_in_any_order(
            seen in proptest::collection::vec((1u64..1 << 50, 0..Source::ALL.len()), 1..40),
        ) {
            let begun = activity(0, Source::Accepted);
            let activity_record = LastActivity::new(begun);
            let mut all: Vec<_> = seen.iter().map(|(at, source)| activity(*at, Source::ALL[*source])).collect();
            for one in &all {
                activity_record.touch(*one);
            }
            all.push(begun);
            let last = all.iter().map(|one| one.at).max();
            prop_assert_eq!(Some(activity_record.last().at), last);
            prop_assert_eq!(activity_record.unsynced(NOW, 0).map(|one| one.at), last);
            let of = |source: Source| all.iter().filter(|one| one.source == source).max_by_key(|one| one.at).copied();
            let expected: Vec<_> = Source::ALL.into_iter().filter_map(of).collect();
            prop_assert_eq!(activity_record.by_source().collect::<Vec<_>>(), expected);
        }
    }
}
