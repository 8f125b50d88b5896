//! Stopping: no new connections, what is on its way may finish, tunnels are told to go.

use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests on their way may take to finish once idlegate is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells every connection to stop, and knows when all have.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Resolves when stopping begins.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
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
        self.stopping.cancel();
        self.tasks.close();
        // The connections that are left end with the process.
        let _ = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
        self.tasks.len()
    }
}
