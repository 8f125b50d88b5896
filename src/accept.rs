//! Accepting connections: nothing that a client does, and nothing that the system lacks, ends or delays it for long.

use std::io;
use std::time::Duration;

/// How long accepting pauses when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What has to be remembered between two connections.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    pausing: bool,
}

impl Accepting {
    /// The connection that was accepted; `None` where the next one is to be waited for.
    pub(crate) async fn take<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => {
                self.pausing = false;
                return Some(accepted);
            }
            // The client went before it was served. Nothing is wrong here.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely: once said, and tried again when some may have been closed.
                if !std::mem::replace(&mut self.pausing, true) {
                    tracing::error!(%error, "no connection can be accepted; raise the limit of open files (ulimit -n)");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
