//! The memory store. Its sessions are gone when the process ends.

use super::table::Table;
use super::{Due, Ended, EndsBound, Issued, Knowledge, Known, ReplyFuture, Report, Store, StoreFuture, Touch};
use crate::clock::Clock;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId};
use std::future::ready;

/// Sessions in the memory of this process, and nowhere else.
#[derive(Debug)]
pub struct MemoryStore(Table);

impl MemoryStore {
    /// An empty store, whose clock reads `epoch` (in milliseconds) now.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock, epoch: u64) -> Self {
        Self(Table::new(limits, clock, epoch))
    }

    /// Bounds the remembered ends.
    #[must_use]
    pub fn bounded(self, bound: EndsBound) -> Self {
        self.0.bound(bound);
        self
    }
}

impl Store for MemoryStore {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn now(&self) -> Option<u64> {
        Some(self.0.now())
    }

    fn counting(&self) -> EpochSeconds {
        self.0.counting()
    }

    fn knowledge(&self) -> Knowledge {
        self.0.knowledge()
    }

    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()> {
        self.0.issue(issued);
        Box::pin(ready(Ok(())))
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        Box::pin(ready(Ok(self.0.lookup(id))))
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        Box::pin(ready(Ok(self.0.begin(touch))))
    }

    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a> {
        let reply = self.0.exchange(report);
        self.0.sweep();
        Box::pin(ready(reply))
    }

    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known> {
        Box::pin(ready(Ok(self.0.judge(due.touch, mode))))
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        Box::pin(ready(Ok(self.0.end(id, reason))))
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        self.0.end_record(touch, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::StoreMetrics;
    use crate::session::{Case, Source, Times, cases};
    use crate::store::table::StoredSession;
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test]
    async fn the_oldest_ends_are_forgotten_where_there_are_too_many() {
        let time = Arc::new(AtomicU64::new(0));
        let limits = Limits { timeout: 60, lifetime: None, retention: 172_800 };
        let metrics = StoreMetrics::default();
        let bound = EndsBound { max: 3, metrics: metrics.clone() };
        let store = MemoryStore::new(limits, Clock::simulated(Arc::clone(&time)), 1_000_000_000).bounded(bound);
        let ids: Vec<_> = (0..5u8).map(|number| SessionId::of_token(&[number])).collect();
        for id in &ids {
            let touch = Touch { id: *id, age: 0, source: Source::Request, created_age: 0, begins: true };
            store.begin(touch).await.unwrap();
            store.end(*id, Reason::Logout).await.unwrap();
            time.fetch_add(20_000, Ordering::AcqRel);
        }
        let synced_to = Clock::simulated(Arc::clone(&time)).now();
        store.exchange(&Report { activity: &[], ends: &[], due: &[], synced_to, mode: Mode::Enforce }).await;
        for (number, id) in ids.iter().enumerate() {
            let is_dead = matches!(store.lookup(*id).await.unwrap(), Known::Ended(_));
            assert_eq!(is_dead, number >= 2, "{number}");
        }
        assert_eq!(metrics.ends_dropped.get(), 2);
    }

    #[test]
    fn the_table_of_cases_of_the_idle_rule_holds() {
        for case in cases() {
            let Case { limits, times: Times { created, last_activity, counting }, now, verdict } = case;
            let id = SessionId::of_token(b"case");
            let record = StoredSession { last_activity, source: Source::Request, created, end: None };
            let clock = Clock::simulated(Arc::default());
            let table = Table::holding(HashMap::from([(id, record)]), limits, clock, now * 1000, counting);
            let age = (now * 1000).saturating_sub(last_activity * 1000);
            let touch = Touch { id, age, source: Source::Request, created_age: 0, begins: false };
            let reason = match table.judge(touch, Mode::Enforce) {
                Known::Ended(ended) => Some(ended.reason),
                _ => None,
            };
            assert_eq!(reason, verdict, "{case:?}");
        }
    }
}
