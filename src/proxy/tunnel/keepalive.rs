//! `[keepalive]`: a message of idlegate's own to the app, for apps that count only their own.

use super::Tunnel;
use crate::clock::milliseconds;
use crate::session::Mode;
use crate::websocket::{self, Side};

impl Tunnel {
    /// The client sent a pong, so it is there: the app gets the configured message, if the configured time has passed.
    /// It needs no timer, is no activity, and is sent between two messages, or with a later pong.
    pub(super) fn keep_alive(&mut self) {
        let Some(keepalive) = &self.proxy.keepalive else { return };
        let now = self.proxy.registry.clock().now();
        let is_time = self.kept_alive.is_none_or(|last| now.since(last) >= milliseconds(keepalive.every));
        let relay = &mut self.up.relay;
        let may_be_inserted = self.up.verdict.is_none() && relay.unsent.is_empty() && relay.at_message_boundary();
        let closing = relay.is_closed() || self.down.relay.is_closed();
        if !is_time
            || !may_be_inserted
            || closing
            || self.attached.is_unattached()
            || self.proxy.registry.mode() == Mode::Off
        {
            return;
        }
        relay.unsent.extend(&websocket::text(Side::Client, &keepalive.upstream_message));
        self.kept_alive = Some(now);
        self.proxy.metrics().keepalives.inc();
        if self.up.flush(&self.app).is_err() {
            self.up.stop_writing(now);
        }
    }
}
