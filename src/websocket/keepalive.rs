//! A text message for apps that close a WebSocket on which they get none in time.

use std::time::Duration;

/// A message to an app that closes each WebSocket on which it does not get one in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// `upstream_message`: the text message, 1 KiB at most.
    pub upstream_message: String,
    /// `every`: at most once in this time on each tunnel, when a pong of its client comes.
    pub every: Duration,
}
