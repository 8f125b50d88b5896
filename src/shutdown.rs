//! Stopping: no new connections, what is on its way may finish, tunnels are told to go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

/// How long requests on their way may take to finish once idlegate is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells every connection to stop, and knows when all have.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    /// Says the same, without the lock of the token.
    begun: Arc<AtomicBool>,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Resolves when stopping begins.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// The same as a future of its own.
    pub(crate) fn signal(&self) -> WaitForCancellationFutureOwned {
        self.stopping.clone().cancelled_owned()
    }

    /// Whether stopping has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Runs a connection that is waited for when stopping.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// Tells all connections to stop, and waits for them, ten seconds at most. Returns how many were left.
    pub async fn stop(&self) -> usize {
        // Before the signal: who is woken by it looks here.
        self.begun.store(true, Ordering::Release);
        self.stopping.cancel();
        self.tasks.close();
        // The connections that are left end with the process.
        let _ = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
        self.tasks.len()
    }
}
