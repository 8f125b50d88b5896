//! The memory store. Its sessions are gone when the process ends.

use super::table::Table;
use super::{Due, Ended, Known, ReplyFuture, Report, Store, StoreFuture, Touch};
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
