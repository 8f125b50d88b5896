//! The plainest store that keeps the rule of the watermark, and each replica's way to it.

use super::{EPOCH, GRACE};
use crate::clock::{Clock, Moment};
use crate::session::{Limits, Mode, Reason, SessionId, Verdict};
use crate::store::{Answer, Ended, Flushed, Known, Live, Store, StoreError, Touch};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What all replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    /// Milliseconds since the simulation began.
    pub(super) now: u64,
    pub(super) records: HashMap<SessionId, Ended>,
    /// Up to when each replica has told all, in epoch milliseconds.
    pub(super) marks: BTreeMap<usize, u64>,
    pub(super) struck: usize,
    /// Who was ended, for the others to hear.
    pub(super) said: Vec<SessionId>,
}

impl Shared {
    pub(super) fn epoch(&self) -> u64 {
        EPOCH + self.now
    }

    fn known(&self, id: SessionId) -> Known {
        let Some(record) = self.records.get(&id) else { return Known::Unknown };
        if record.ended > 0 {
            return Known::Ended(Ended { remembered_for: self.limits.retention * 1000, ..*record });
        }
        let now = self.epoch();
        let due = match self.limits.judge(record.created, record.last_activity, now / 1000) {
            Verdict::Live { due } => due * 1000,
            Verdict::Over(_) => now,
        };
        let ago = |second: u64| now - second * 1000;
        let (age, created_age) = (ago(record.last_activity), ago(record.created));
        Known::Live(Live { age, source: record.source, created_age, due_in: due.saturating_sub(now) })
    }

    fn tell(&mut self, touch: Touch) -> Known {
        let second = |age: u64| (self.epoch() - age) / 1000;
        let fresh = Ended {
            last_activity: second(touch.age),
            source: touch.source,
            created: second(touch.created_age),
            ended: 0,
            reason: Reason::Idle,
            watermark: 0,
            remembered_for: 0,
        };
        let record = self.records.entry(touch.id).or_insert(fresh);
        if record.ended == 0 && fresh.last_activity > record.last_activity {
            (record.last_activity, record.source) = (fresh.last_activity, fresh.source);
        }
        self.known(touch.id)
    }

    fn end(&mut self, id: SessionId, reason: Reason, watermark: u64) -> Known {
        let now = self.epoch() / 1000;
        if let Some(record) = self.records.get_mut(&id).filter(|record| record.ended == 0) {
            (record.ended, record.reason, record.watermark) = (now, reason, watermark);
            self.said.push(id);
        }
        self.known(id)
    }
}

/// One replica's way to what they share.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) number: usize,
    pub(super) clock: Clock,
    pub(super) cut_off: Arc<AtomicBool>,
    pub(super) watermark: AtomicU64,
}

impl Way {
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&mut Shared) -> T) -> Answer<'_, T> {
        let cut_off = self.cut_off.load(Ordering::Acquire);
        let lost = || StoreError::Unavailable("cut off".to_owned());
        Box::pin(ready(if cut_off { Err(lost()) } else { Ok(ask(&mut self.shared.lock())) }))
    }
}

impl Store for Way {
    fn now(&self) -> Option<u64> {
        Some(self.shared.lock().epoch())
    }

    fn look_up(&self, id: SessionId) -> Answer<'_, Known> {
        self.ask(|shared| shared.known(id))
    }

    fn begin(&self, touch: Touch) -> Answer<'_, Known> {
        self.ask(|shared| shared.tell(touch))
    }

    fn flush<'a>(&'a self, touches: &'a [Touch], told: Moment, _: Mode) -> Answer<'a, Flushed> {
        self.ask(|shared| {
            let known = touches.iter().map(|touch| (touch.id, shared.tell(*touch))).collect::<Vec<_>>();
            let ended = known.into_iter().filter_map(|(id, known)| match known {
                Known::Ended(ended) => Some((id, ended)),
                _ => None,
            });
            let now = shared.epoch();
            let retell = shared.marks.insert(self.number, now - self.clock.now().since(told)).is_none();
            let before = shared.marks.len();
            shared.marks.retain(|_, mark| now - *mark <= GRACE);
            shared.struck += before - shared.marks.len();
            let oldest = shared.marks.values().min().copied().unwrap_or(now);
            self.watermark.store(oldest / 1000, Ordering::Release);
            Flushed { ended: ended.collect(), retell, fleet: None, unkept: false }
        })
    }

    fn judge(&self, touch: Touch, _: u64, _: Mode) -> Answer<'_, Known> {
        let watermark = self.watermark.load(Ordering::Acquire);
        self.ask(|shared| {
            shared.tell(touch);
            let record = shared.records[&touch.id];
            let over = |at: u64| at.saturating_sub(record.last_activity) > shared.limits.timeout;
            if record.ended == 0 && over(shared.epoch() / 1000) && over(watermark) {
                return shared.end(touch.id, Reason::Idle, watermark);
            }
            shared.known(touch.id)
        })
    }

    fn end(&self, id: SessionId, reason: Reason) -> Answer<'_, Known> {
        self.ask(|shared| {
            let now = shared.epoch() / 1000;
            shared.end(id, reason, now)
        })
    }

    fn bury(&self, touch: Touch, reason: Reason, _: u64) -> Answer<'_, Known> {
        self.ask(|shared| {
            shared.tell(touch);
            shared.end(touch.id, reason, 0)
        })
    }

    fn obituary(&self, touch: Touch, reason: Reason) -> Ended {
        let shared = self.shared.lock();
        Ended::of(touch, reason, shared.epoch(), &shared.limits)
    }
}
