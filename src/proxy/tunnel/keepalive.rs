//! `[keepalive]`: a message of idlegate's own to the app, for apps that count only their own.

use super::direction::Direction;
use crate::clock::{Moment, milliseconds};
use crate::stream::Stream;
use crate::websocket::{self, Keepalive, Side};

/// When the app got the last keepalive message.
#[derive(Default)]
pub(super) struct KeptAlive(Option<Moment>);

impl KeptAlive {
    /// The client sent a pong, so it is there: the app gets the configured message, if the configured time has passed.
    /// It needs no timer, is no activity, and is sent between two messages, or with a later pong. Returns whether it was sent.
    pub(super) fn send(
        &mut self,
        keepalive: &Keepalive,
        [up, down]: [&mut Direction; 2],
        app: &Stream,
        now: Moment,
    ) -> bool {
        let is_time = self.0.is_none_or(|last| now.since(last) >= milliseconds(keepalive.every));
        let relay = &mut up.relay;
        let may_be_inserted = up.verdict.is_none() && relay.unsent.is_empty() && relay.at_message_boundary();
        let closing = relay.is_closed() || down.relay.is_closed();
        if !is_time || !may_be_inserted || closing {
            return false;
        }
        relay.unsent.extend(&websocket::text(Side::Client, &keepalive.upstream_message));
        self.0 = Some(now);
        if up.flush(app).is_err() {
            up.stop_writing(now);
        }
        true
    }
}
