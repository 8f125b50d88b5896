//! The session table in the memory of this process. The memory store and the file store share it.

use super::{Ended, Issued, Knowledge, Known, Live, MAX_GAP, MAX_ISSUED, Reply, Report, Touch, UnsyncedEnd, second_of};
use crate::clock::{Clock, Moment};
use crate::metrics::StoreMetrics;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId, Source, Times, Verdict, counts_from};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often records past their retention are removed, in milliseconds.
const SWEEP_EVERY: u64 = 60_000;

/// A table of sessions, and the clock that turns ages into epoch seconds. Every method is one atomic step.
#[derive(Debug)]
pub(super) struct Table {
    limits: Limits,
    clock: Clock,
    /// The epoch millisecond at which `clock` read 0. Fixed at the start, so that a step of the wall clock has no
    /// effect.
    epoch_of_clock: u64,
    /// The start of unbroken counting. No idle time counts from before.
    counting: AtomicU64,
    shelf: Mutex<Shelf>,
    bound: OnceLock<EndsBound>,
}

/// How many ends are remembered at most, and where it is counted that one was forgotten early.
#[derive(Clone, Debug)]
pub struct EndsBound {
    /// The most ends.
    pub max: usize,
    /// The metrics of the store.
    pub metrics: StoreMetrics,
}

#[derive(Debug)]
struct Shelf {
    records: HashMap<SessionId, StoredSession>,
    /// Tokens that are handed out and not yet used, and the second in which each is forgotten.
    issued: HashMap<SessionId, EpochSeconds>,
    /// Since when every token that was handed out or used is known.
    known_since: EpochSeconds,
    swept: Moment,
    /// The last time at which this process was counting.
    counted: Moment,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct StoredSession {
    pub(super) last_activity: EpochSeconds,
    pub(super) source: Source,
    pub(super) created: EpochSeconds,
    pub(super) end: Option<StoredEnd>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StoredEnd {
    pub(super) at: EpochSeconds,
    pub(super) reason: Reason,
    /// As [`Ended::counting`].
    pub(super) counting: Option<EpochSeconds>,
}

impl Shelf {
    fn of(records: HashMap<SessionId, StoredSession>, known_since: EpochSeconds, now: Moment) -> Self {
        Self { records, issued: HashMap::new(), known_since, swept: now, counted: now }
    }
}

impl StoredSession {
    /// A session known only by `touch`.
    fn from_touch(touch: Touch, now: u64) -> Self {
        let last_activity = second_of(now, touch.age);
        let created = second_of(now, touch.created_age).min(last_activity);
        Self { last_activity, source: touch.source, created, end: None }
    }

    /// Last activity never moves back.
    fn merge(&mut self, at: EpochSeconds, source: Source) {
        // Within one second, the last reported source counts.
        if at >= self.last_activity {
            self.last_activity = at;
            self.source = source;
        }
    }

    /// The second after which this record is not needed: no app accepts the token any more.
    fn forgotten_at(&self, limits: &Limits) -> EpochSeconds {
        match self.end {
            Some(end) => end.at.saturating_add(limits.retention),
            None => self.last_activity.saturating_add(limits.live_record_kept()),
        }
    }
}

impl Table {
    /// An empty table, whose clock reads `epoch` (in milliseconds) now.
    pub(super) fn new(limits: Limits, clock: Clock, epoch: u64) -> Self {
        Self::holding(HashMap::new(), limits, clock, epoch, 0)
    }

    /// A table with `records`, whose counting is unbroken since `counting`.
    pub(super) fn holding(
        records: HashMap<SessionId, StoredSession>,
        limits: Limits,
        clock: Clock,
        epoch: u64,
        counting: EpochSeconds,
    ) -> Self {
        let now = clock.now();
        let epoch_of_clock = epoch.saturating_sub(now.0);
        let (counting, shelf) = (AtomicU64::new(counting), Mutex::new(Shelf::of(records, epoch / 1000, now)));
        Self { limits, clock, epoch_of_clock, counting, shelf, bound: OnceLock::new() }
    }

    /// Bounds the remembered ends.
    pub(super) fn bound(&self, bound: EndsBound) {
        self.bound.get_or_init(|| bound);
    }

    /// Now, in epoch milliseconds.
    pub(super) fn now(&self) -> u64 {
        self.epoch_of_clock.saturating_add(self.clock.now().0)
    }

    /// Locks the shelf, and returns it with the time in epoch milliseconds. Every step begins here, at least about once
    /// a second, so a longer gap means that the machine was suspended.
    fn enter(&self) -> (MutexGuard<'_, Shelf>, u64) {
        let mut shelf = self.shelf.lock();
        let (moment, now) = (self.clock.now(), self.now());
        let gap = moment.since(shelf.counted);
        if gap > MAX_GAP {
            self.counting.store(now / 1000, Ordering::Release);
            tracing::info!(seconds = gap / 1000, "the machine was suspended; idle time starts again for every session");
        }
        shelf.counted = moment;
        (shelf, now)
    }

    /// The start of unbroken counting, and its end: now, in epoch milliseconds and by the machine's clock.
    pub(super) fn counted(&self) -> (EpochSeconds, u64, Moment) {
        let (shelf, now) = self.enter();
        (self.counting.load(Ordering::Acquire), now, shelf.counted)
    }

    /// The start of unbroken counting.
    pub(super) fn counting(&self) -> EpochSeconds {
        self.counted().0
    }

    /// The record of a session, if there still is one.
    pub(super) fn record(&self, id: SessionId) -> Option<StoredSession> {
        self.shelf.lock().records.get(&id).copied()
    }

    fn judge_record(&self, record: &StoredSession, now: u64) -> Verdict {
        let StoredSession { created, last_activity, .. } = *record;
        let times = Times { created, last_activity, counting: self.counting.load(Ordering::Acquire) };
        self.limits.judge(times, now / 1000)
    }

    fn known(&self, record: Option<&StoredSession>, now: u64) -> Known {
        let Some(record) = record else { return Known::Unknown };
        // Expiry is compared on every read; the sweep only frees memory.
        let remembered_for = record.forgotten_at(&self.limits).saturating_mul(1000).saturating_sub(now);
        if remembered_for == 0 {
            return Known::Unknown;
        }
        if let Some(end) = record.end {
            return Known::Ended(Self::ended(record, end, remembered_for));
        }
        let due = match self.judge_record(record, now) {
            Verdict::Live { due } => due,
            Verdict::Over(_) => now / 1000,
        };
        Known::Live(Live {
            age: now.saturating_sub(record.last_activity.saturating_mul(1000)),
            source: record.source,
            created_age: now.saturating_sub(record.created.saturating_mul(1000)),
            due_in: due.saturating_mul(1000).saturating_sub(now),
        })
    }

    fn ended(record: &StoredSession, end: StoredEnd, remembered_for: u64) -> Ended {
        let StoredSession { last_activity, source, created, .. } = *record;
        let StoredEnd { at: ended, reason, counting } = end;
        // There is only this process, so all activity is known.
        Ended { last_activity, source, created, ended, reason, counting, watermark: ended, remembered_for }
    }

    /// An end of `record` at the second `at`.
    fn end_of(&self, record: &StoredSession, at: EpochSeconds, reason: Reason) -> StoredEnd {
        let counting = counts_from(self.counting.load(Ordering::Acquire), record.last_activity, at);
        StoredEnd { at, reason, counting }
    }

    /// One atomic step: `change` the record of `id` if it is still remembered, and return what is known then.
    fn step(&self, id: SessionId, change: impl FnOnce(Option<&mut StoredSession>, u64)) -> Known {
        let (mut shelf, now) = self.enter();
        // A forgotten record stays until it is swept: only then is its disappearance visible.
        let remembered = |record: &&mut StoredSession| record.forgotten_at(&self.limits) > now / 1000;
        change(shelf.records.get_mut(&id).filter(remembered), now);
        self.known(shelf.records.get(&id), now)
    }
}

impl Table {
    pub(super) fn lookup(&self, id: SessionId) -> Known {
        match self.step(id, |_, _| {}) {
            Known::Unknown if self.is_issued(id) => Known::Issued,
            known => known,
        }
    }

    fn is_issued(&self, id: SessionId) -> bool {
        let (shelf, now) = self.enter();
        shelf.issued.get(&id).is_some_and(|until| *until > now / 1000)
    }

    /// Keeps tokens that are handed out. Where there are too many, nothing is known for certain from before now.
    pub(super) fn issue(&self, issued: &[Issued]) {
        let (mut shelf, now) = self.enter();
        let now = now / 1000;
        for Issued { id, lasts } in issued {
            if shelf.issued.len() >= MAX_ISSUED {
                shelf.issued.retain(|_, until| *until > now);
            }
            if shelf.issued.len() >= MAX_ISSUED {
                shelf.known_since = now;
                if let Some(EndsBound { metrics, .. }) = self.bound.get() {
                    metrics.issued_dropped.inc();
                }
            } else if !shelf.records.contains_key(id) {
                shelf.issued.insert(*id, now.saturating_add(*lasts));
            }
        }
    }

    pub(super) fn knowledge(&self) -> Knowledge {
        let (shelf, now) = self.enter();
        let since = shelf.known_since.max(self.counting.load(Ordering::Acquire));
        Knowledge { since, until: now / 1000 + 1 }
    }

    pub(super) fn begin(&self, touch: Touch) -> Known {
        let (mut shelf, now) = self.enter();
        self.update(&mut shelf, touch, now)
    }

    /// Merges the activity of one session. An unknown session begins with it.
    fn update(&self, shelf: &mut Shelf, touch: Touch, now: u64) -> Known {
        let fresh = StoredSession::from_touch(touch, now);
        shelf.issued.remove(&touch.id);
        let record = shelf.records.entry(touch.id).or_insert(fresh);
        if record.forgotten_at(&self.limits) <= now / 1000 {
            *record = fresh;
        }
        if record.end.is_none() {
            record.merge(fresh.last_activity, fresh.source);
        }
        self.known(Some(record), now)
    }

    pub(super) fn exchange(&self, report: &Report<'_>) -> Reply {
        let Report { activity, ends, due, mode, .. } = *report;
        let mut reply = Reply { activity: activity.len(), ends: ends.len(), ..Reply::default() };
        let (mut shelf, now) = self.enter();
        if mode == Mode::Off {
            // In `off` nothing counts, so counting starts again now.
            self.counting.store(now / 1000, Ordering::Release);
        }
        for touch in activity {
            if let Known::Ended(ended) = self.update(&mut shelf, *touch, now) {
                reply.ended.push((touch.id, ended));
            }
        }
        for end in ends {
            self.record_end(&mut shelf, *end, now);
        }
        drop(shelf);
        reply.verdicts = due.iter().map(|due| (due.touch.id, self.judge(due.touch, mode))).collect();
        reply
    }

    fn record_end(&self, shelf: &mut Shelf, UnsyncedEnd { touch, reason, age }: UnsyncedEnd, now: u64) {
        let record = shelf.records.entry(touch.id).or_insert_with(|| StoredSession::from_touch(touch, now));
        if record.end.is_none() {
            record.end = Some(self.end_of(record, second_of(now, age), reason));
        }
    }

    pub(super) fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        Ended::of(touch, reason, self.now(), &self.limits, self.counting.load(Ordering::Acquire))
    }

    pub(super) fn judge(&self, touch: Touch, mode: Mode) -> Known {
        let mut overdue = None;
        let known = self.step(touch.id, |record, now| {
            let Some(record) = record.filter(|record| record.end.is_none()) else { return };
            record.merge(second_of(now, touch.age), touch.source);
            match self.judge_record(record, now) {
                Verdict::Over(reason) if mode == Mode::Enforce => {
                    record.end = Some(self.end_of(record, now / 1000, reason));
                }
                Verdict::Over(reason) => {
                    overdue = Some(Self::ended(record, self.end_of(record, now / 1000, reason), 0));
                }
                Verdict::Live { .. } => {}
            }
        });
        match (known, overdue) {
            (Known::Live(live), Some(record)) => Known::Overdue(live, record),
            (known, _) => known,
        }
    }

    pub(super) fn end(&self, id: SessionId, reason: Reason) -> Known {
        self.step(id, |record, now| {
            if let Some(record) = record.filter(|record| record.end.is_none()) {
                record.end = Some(self.end_of(record, now / 1000, reason));
            }
        })
    }

    /// Removes records past their retention, once a minute, and the oldest ends where there are too many. Returns their
    /// session ids.
    pub(super) fn sweep(&self) -> Vec<SessionId> {
        let mut shelf = self.shelf.lock();
        let moment = self.clock.now();
        if moment.since(shelf.swept) < SWEEP_EVERY {
            return Vec::new();
        }
        shelf.swept = moment;
        let now = self.now() / 1000;
        let forgotten = shelf.records.extract_if(|_, record| record.forgotten_at(&self.limits) <= now);
        let mut removed: Vec<_> = forgotten.map(|(id, _)| id).collect();
        shelf.issued.retain(|_, until| *until > now);
        removed.extend(self.drop_ends(&mut shelf));
        removed
    }

    fn drop_ends(&self, shelf: &mut Shelf) -> Vec<SessionId> {
        let Some(EndsBound { max, metrics }) = self.bound.get() else { return Vec::new() };
        let ended = |(id, record): (&SessionId, &StoredSession)| record.end.map(|end| (end.at, *id));
        let excess = shelf.records.iter().filter_map(ended).count().saturating_sub(*max);
        if excess == 0 {
            return Vec::new();
        }
        let mut oldest: Vec<_> = shelf.records.iter().filter_map(ended).collect();
        oldest.select_nth_unstable(excess - 1);
        oldest.truncate(excess);
        metrics.ends_dropped.inc_by(excess as u64);
        tracing::warn!(
            forgotten = excess,
            max,
            "too many ended sessions are remembered, and the oldest are forgotten: their tokens pass again if the app still \
            accepts them; raise max_sessions, shorten idle.retention, or use Redis"
        );
        oldest.into_iter().filter_map(|(_, id)| shelf.records.remove(&id).map(|_| id)).collect()
    }
}
