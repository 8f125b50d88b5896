//! A message for apps that close a WebSocket when they receive nothing for too long.

use std::time::Duration;

/// A message for an app that closes a WebSocket when it does not receive one in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// `upstream_message`: the text message, up to 1 KiB.
    pub upstream_message: String,
    /// `every`: the minimum interval between messages on a tunnel. A pong of the client triggers a message.
    pub every: Duration,
}
