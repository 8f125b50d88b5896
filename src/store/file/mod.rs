//! The store of one machine: sessions in memory, and in a file that outlives the process.
//!
//! The table in memory decides; the file follows it within a second, written by a thread of its own, so that a slow
//! or full disk never delays a verdict. What a crash can lose is what was not yet written: the last second. An end
//! that is lost is decided again, since the session is as idle as it was.

mod disk;
mod downtime;
#[cfg(test)]
mod tests;
mod writer;

pub use disk::FileError;

use super::table::Table;
use super::{
    Due, Ended, EndsBound, Issued, Knowledge, Known, Reply, ReplyFuture, Report, Store, StoreError, StoreFuture, Touch,
};
use crate::clock::Clock;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId};
use disk::Disk;
use downtime::{Begin, Gap, Resumed};
use std::future::ready;
use std::path::Path;
use writer::Writer;

/// Sessions in a file.
#[derive(Debug)]
pub struct FileStore {
    writer: Writer,
}

impl FileStore {
    /// Opens the store in the file at `path`, or creates it. `epoch` is now, in epoch milliseconds by the wall clock,
    /// and `boot` is the boot that `clock` counts from.
    ///
    /// # Errors
    /// The file cannot be opened, is in use, or is not such a store.
    pub fn open(path: &Path, limits: Limits, clock: Clock, epoch: u64, boot: Option<u64>) -> Result<Self, FileError> {
        Self::on(Disk::at(path)?, limits, clock, epoch, boot)
    }

    /// Bounds the remembered ends.
    #[must_use]
    pub fn bounded(self, bound: EndsBound) -> Self {
        self.writer.table().bound(bound);
        self
    }

    fn on(disk: Disk, limits: Limits, clock: Clock, epoch: u64, boot: Option<u64>) -> Result<Self, FileError> {
        let begin = Begin { epoch, now: clock.now(), boot };
        let Resumed { kept, epoch, counting, gap } = downtime::resume(disk.load()?, begin);
        match gap {
            _ if kept.records.is_empty() => {}
            Gap::Long(gap) => tracing::info!(
                seconds = gap / 1000,
                "idlegate did not run for a while; idle time starts again for every session"
            ),
            Gap::Unknown => tracing::info!(
                "the machine was booted after the store was written, or an older version wrote it, so the downtime \
                is unknown; idle time starts again for every session"
            ),
            Gap::Short => {}
        }
        let table = Table::holding(kept.records, limits, clock, epoch, counting);
        Ok(Self { writer: Writer::start(table, disk, boot) })
    }

    /// Marks a session as changed, so that the writer saves it.
    fn changed(&self, id: SessionId, known: Known) -> StoreFuture<'_, Known> {
        if known != Known::Unknown {
            self.writer.note([id]);
        }
        Box::pin(ready(Ok(known)))
    }
}

impl Store for FileStore {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn now(&self) -> Option<u64> {
        Some(self.writer.table().now())
    }

    fn counting(&self) -> EpochSeconds {
        self.writer.table().counting()
    }

    fn knowledge(&self) -> Knowledge {
        self.writer.table().knowledge()
    }

    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()> {
        self.writer.table().issue(issued);
        Box::pin(ready(Ok(())))
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        Box::pin(ready(Ok(self.writer.table().lookup(id))))
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        self.changed(touch.id, self.writer.table().begin(touch))
    }

    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a> {
        let table = self.writer.table();
        let reply = Reply { unkept: self.writer.is_failing(), ..table.exchange(report) };
        let Report { activity, ends, due, .. } = *report;
        let changed = activity.iter().chain(ends.iter().map(|end| &end.touch)).chain(due.iter().map(|due| &due.touch));
        self.writer.note(changed.map(|touch| touch.id));
        self.writer.note(table.sweep());
        Box::pin(ready(reply))
    }

    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known> {
        self.changed(due.touch.id, self.writer.table().judge(due.touch, mode))
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        self.changed(id, self.writer.table().end(id, reason))
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        self.writer.table().end_record(touch, reason)
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async {
            let closing = self.writer.close();
            let written = tokio::task::spawn_blocking(closing).await;
            match written {
                Ok(true) => Ok(()),
                Ok(false) => Err(StoreError::Unavailable("its last changes could not be written".to_owned())),
                Err(error) => Err(StoreError::Unavailable(error.to_string())),
            }
        })
    }
}
