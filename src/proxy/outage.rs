//! Whether the app responds, for the log: one line when it stops and one when it is back, however many requests fail in
//! between.

use std::sync::atomic::{AtomicU64, Ordering};

/// The requests that the app has failed since it last answered one.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failed: AtomicU64,
}

impl Outage {
    /// The app has failed a request. Whether that is the first since it last answered.
    pub(super) fn goes_on(&self) -> bool {
        self.failed.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// The app has answered a request.
    pub(super) fn is_over(&self) {
        // Read first: while all is well, requests do not write to what they share.
        if self.failed.load(Ordering::Relaxed) == 0 {
            return;
        }
        let failed = self.failed.swap(0, Ordering::Relaxed);
        if failed > 0 {
            tracing::info!(failed, "the app answers again; requests failed meanwhile");
        }
    }
}
