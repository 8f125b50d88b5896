//! `[keepalive]`: a message of idlegate's own to the app, for apps that count only their own.

use super::Tunnel;
use crate::clock::milliseconds;
use crate::frame::{self, Side};
use crate::session::Mode;

impl Tunnel {
    /// A pong of the client has come: its other end is there, and the app is told so in its own words, where it has waited
    /// for as long as is configured. There is no timer for it; it is no activity; and it goes between two messages, or
    /// with a later pong.
    pub(super) fn keep_alive(&mut self) {
        let Some(keepalive) = &self.proxy.keepalive else { return };
        let now = self.proxy.keeper.clock().now();
        let is_time = self.kept_alive.is_none_or(|last| now.since(last) >= milliseconds(keepalive.every));
        let lane = &mut self.up.lane;
        let may_be_inserted = self.up.verdict.is_none() && lane.unsent.is_empty() && lane.at_message_boundary();
        let closing = lane.is_closed() || self.down.lane.is_closed();
        if !is_time || !may_be_inserted || closing || self.ends.is_nobodys() || self.proxy.keeper.mode() == Mode::Off {
            return;
        }
        lane.unsent.extend(&frame::text(Side::Client, &keepalive.upstream_message));
        self.kept_alive = Some(now);
        self.proxy.metrics().keepalives.inc();
        if self.up.flush(&self.app).is_err() {
            self.up.stop_writing(now);
        }
    }
}
