//! The store of this process: gone when it ends.

use super::{Answer, Ended, Known, Live, Store, Touch};
use crate::clock::{Clock, Moment};
use crate::session::{EpochSeconds, Limits, Reason, SessionId, Source, Verdict};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::ready;

/// How often records that may be forgotten are looked for, in milliseconds.
const SWEEP_EVERY: u64 = 60_000;

/// Sessions in the memory of this process.
#[derive(Debug)]
pub struct MemoryStore {
    limits: Limits,
    clock: Clock,
    /// The epoch millisecond at which `clock` read 0. Fixed at the start, so that a stepped wall clock moves nothing.
    epoch_of_clock: u64,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    records: HashMap<SessionId, Record>,
    swept: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    last_activity: EpochSeconds,
    source: Source,
    created: EpochSeconds,
    end: Option<(EpochSeconds, Reason)>,
}

impl Record {
    /// Last activity never moves back.
    fn merge(&mut self, at: EpochSeconds, source: Source) {
        if at > self.last_activity {
            self.last_activity = at;
            self.source = source;
        }
    }

    /// The second from which on nobody needs this record: no app accepts the token any more.
    fn forgotten_at(&self, limits: &Limits) -> EpochSeconds {
        match self.end {
            Some((ended, _)) => ended.saturating_add(limits.retention),
            None => self.last_activity.saturating_add(limits.timeout).saturating_add(limits.retention),
        }
    }
}

impl MemoryStore {
    /// An empty store, whose clock reads `epoch` (in milliseconds) now.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock, epoch: u64) -> Self {
        let epoch_of_clock = epoch.saturating_sub(clock.now().0);
        Self { limits, clock, epoch_of_clock, shelf: Mutex::default() }
    }

    fn now(&self) -> u64 {
        self.epoch_of_clock.saturating_add(self.clock.now().0)
    }

    fn known(&self, record: Option<&Record>, now: u64) -> Known {
        let Some(record) = record else { return Known::Unknown };
        // Expiry is compared on every read; the sweep only frees memory.
        let remembered_for = record.forgotten_at(&self.limits).saturating_mul(1000).saturating_sub(now);
        if remembered_for == 0 {
            return Known::Unknown;
        }
        if let Some((ended, reason)) = record.end {
            return Known::Ended(Ended {
                last_activity: record.last_activity,
                source: record.source,
                created: record.created,
                ended,
                reason,
                // One process: what it knows is all there is.
                watermark: ended,
                remembered_for,
            });
        }
        let due = match self.limits.judge(record.created, record.last_activity, now / 1000) {
            Verdict::Live { due } => due,
            Verdict::Over(_) => now / 1000,
        };
        Known::Live(Live {
            age: now.saturating_sub(record.last_activity.saturating_mul(1000)),
            source: record.source,
            due_in: due.saturating_mul(1000).saturating_sub(now),
        })
    }

    /// One atomic step: `change` the record of `id` where it is still remembered, and tell what is known then.
    fn step(&self, id: SessionId, change: impl FnOnce(Option<&mut Record>, u64)) -> Known {
        let mut shelf = self.shelf.lock();
        let now = self.now();
        if shelf.records.get(&id).is_some_and(|record| record.forgotten_at(&self.limits) <= now / 1000) {
            shelf.records.remove(&id);
        }
        change(shelf.records.get_mut(&id), now);
        self.known(shelf.records.get(&id), now)
    }
}

/// Turns an age into the second in which it was: floored once, so rounding is only ever late.
fn second_of(now: u64, age: u64) -> EpochSeconds {
    now.saturating_sub(age) / 1000
}

impl Store for MemoryStore {
    fn look_up(&self, id: SessionId) -> Answer<'_, Known> {
        Box::pin(ready(Ok(self.step(id, |_, _| {}))))
    }

    fn begin(&self, touch: Touch) -> Answer<'_, Known> {
        let mut shelf = self.shelf.lock();
        let now = self.now();
        let at = second_of(now, touch.age);
        let fresh = Record { last_activity: at, source: touch.source, created: at, end: None };
        let record = shelf.records.entry(touch.id).or_insert(fresh);
        if record.forgotten_at(&self.limits) <= now / 1000 {
            *record = fresh;
        }
        if record.end.is_none() {
            record.merge(at, touch.source);
        }
        let known = self.known(Some(record), now);
        Box::pin(ready(Ok(known)))
    }

    fn flush<'a>(&'a self, touches: &'a [Touch]) -> Answer<'a, ()> {
        let mut shelf = self.shelf.lock();
        let now = self.now();
        for touch in touches {
            if let Some(record) = shelf.records.get_mut(&touch.id).filter(|record| record.end.is_none()) {
                record.merge(second_of(now, touch.age), touch.source);
            }
        }
        let moment = self.clock.now();
        if moment.since(shelf.swept) >= SWEEP_EVERY {
            shelf.swept = moment;
            shelf.records.retain(|_, record| record.forgotten_at(&self.limits) > now / 1000);
        }
        Box::pin(ready(Ok(())))
    }

    fn judge(&self, touch: Touch) -> Answer<'_, Known> {
        Box::pin(ready(Ok(self.step(touch.id, |record, now| {
            let Some(record) = record.filter(|record| record.end.is_none()) else { return };
            record.merge(second_of(now, touch.age), touch.source);
            if let Verdict::Over(reason) = self.limits.judge(record.created, record.last_activity, now / 1000) {
                record.end = Some((now / 1000, reason));
            }
        }))))
    }

    fn end(&self, id: SessionId, reason: Reason) -> Answer<'_, Known> {
        Box::pin(ready(Ok(self.step(id, |record, now| {
            if let Some(record) = record {
                record.end.get_or_insert((now / 1000, reason));
            }
        }))))
    }
}
