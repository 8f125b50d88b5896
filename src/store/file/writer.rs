//! The writing thread: changes once a second, and now and then a note that idlegate still counts.

use super::disk::{CountedUntil, Disk};
use crate::session::SessionId;
use crate::store::table::Table;
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long changes wait to be written together.
const TOGETHER: Duration = Duration::from_secs(1);

/// How many rounds without a change may pass before that note is written. Well below the gap that would break counting.
const IDLE_ROUNDS: u32 = 10;

/// Writes what changes in a table to a disk.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<WriterShared>,
}

#[derive(Debug)]
struct WriterShared {
    table: Table,
    state: Mutex<WriterState>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct WriterState {
    /// Sessions whose record changed. The writer saves the record as it is when it writes. While the disk fails,
    /// sessions that the table has dropped since stay in the set.
    changed: HashSet<SessionId>,
    closing: bool,
    /// Whether writes to the disk fail.
    failing: bool,
    /// Set when the thread has ended: whether everything was written.
    ended: Option<bool>,
}

impl Writer {
    pub(super) fn start(table: Table, disk: Disk, boot: Option<u64>) -> Self {
        let shared = Arc::new(WriterShared { table, state: Mutex::default(), woken: Condvar::new() });
        let writing = Arc::clone(&shared);
        std::thread::spawn(move || {
            let written = writing.write_until_closed(disk, boot);
            writing.state.lock().ended = Some(written);
            writing.woken.notify_all();
        });
        Self { shared }
    }

    pub(super) fn table(&self) -> &Table {
        &self.shared.table
    }

    /// Marks the records of `ids` as changed.
    pub(super) fn note(&self, ids: impl IntoIterator<Item = SessionId>) {
        self.shared.state.lock().changed.extend(ids);
    }

    /// Whether the last write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.shared.state.lock().failing
    }

    /// Prepares the last write. The returned function asks the thread for it, waits, and returns whether it succeeded.
    pub(super) fn close(&self) -> impl FnOnce() -> bool + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.close()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl WriterShared {
    fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closing = true;
        self.woken.notify_all();
        loop {
            if let Some(written) = state.ended {
                return written;
            }
            self.woken.wait(&mut state);
        }
    }

    /// Returns whether the last changes were written.
    fn write_until_closed(&self, mut disk: Disk, boot: Option<u64>) -> bool {
        let mut idle_rounds = IDLE_ROUNDS;
        loop {
            let (changed, closing) = self.wait_for_changes();
            idle_rounds += 1;
            if changed.is_empty() && !closing && idle_rounds < IDLE_ROUNDS {
                continue;
            }
            idle_rounds = 0;
            let changes: Vec<_> = changed.iter().map(|id| (*id, self.table.record(*id))).collect();
            let (counting, epoch, at) = self.table.counted();
            match disk.save(&changes, counting, CountedUntil { epoch, at, boot }) {
                Ok(()) if self.note_failing(false) => {
                    tracing::info!(file = %disk.path().display(), "the store file can be written again; no data was \
                    lost");
                }
                Ok(()) => {}
                Err(error) => {
                    self.state.lock().changed.extend(changed);
                    if !self.note_failing(true) {
                        tracing::error!(
                            file = %disk.path().display(),
                            %error,
                            "the store file cannot be written; sessions are kept in memory, and a restart would \
                            lose recent changes; free disk space or repair the disk"
                        );
                    }
                }
            }
            if closing {
                return !self.state.lock().failing;
            }
        }
    }

    /// Returns whether it was failing before.
    fn note_failing(&self, failing: bool) -> bool {
        std::mem::replace(&mut self.state.lock().failing, failing)
    }

    /// Waits a round, shorter when closing.
    fn wait_for_changes(&self) -> (HashSet<SessionId>, bool) {
        let mut state = self.state.lock();
        if !state.closing {
            self.woken.wait_for(&mut state, TOGETHER);
        }
        (std::mem::take(&mut state.changed), state.closing)
    }
}
