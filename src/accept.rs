//! Accepting connections: nothing that a client does, and nothing that the system lacks, ends or delays it for long.

use crate::clock::microseconds;
use crate::descriptors::{is_kept_back, none_left};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long accepting pauses when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// How long there must have been room before the next shortage is logged again, in microseconds. At the limit, each
/// connection that ends makes room for one.
const QUIET: u64 = 60_000_000;

/// The state kept between two connections.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    /// When there was no room last, see [`microseconds`].
    full: Option<u64>,
}

impl Accepting {
    /// The accepted connection; `None` where the caller should wait for the next one.
    pub(crate) async fn take<T>(&mut self, accepted: io::Result<T>) -> Option<T> {
        match accepted {
            Ok(accepted) => return Some(accepted),
            // The client went before it was served. Nothing is wrong here.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                self.say_once(&error);
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    /// Waits until the connection accepted with `socket` does not take the last descriptors: those are reserved.
    pub(crate) async fn wait_for_room(&mut self, socket: impl AsFd) {
        if !is_kept_back(&socket) {
            return;
        }
        loop {
            self.say_once(&none_left());
            tokio::time::sleep(PAUSE).await;
            // A copy has the lowest number that is free.
            if rustix::io::dup(&socket).is_ok_and(|copy| !is_kept_back(copy)) {
                return;
            }
        }
    }

    /// Out of file descriptors, most likely.
    fn say_once(&mut self, error: &io::Error) {
        if self.is_news(microseconds()) {
            tracing::error!(%error, "cannot accept connections; raise the limit of open files (ulimit -n)");
        }
    }

    /// There is no room `now`. Returns whether to log it.
    fn is_news(&mut self, now: u64) -> bool {
        self.full.replace(now).is_none_or(|before| now.saturating_sub(before) >= QUIET)
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_the_limit_for_hours_says_it_once() {
        let mut accepting = Accepting::default();
        assert!(accepting.is_news(5));
        for minute in 0..600 {
            assert!(!accepting.is_news(5 + minute * (QUIET - 1)));
        }
        assert!(accepting.is_news(5 + 599 * (QUIET - 1) + QUIET));
    }
}
