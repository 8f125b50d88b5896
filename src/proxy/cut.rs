//! The end of a tunnel: what each side still gets, and both sockets closed, within [`CLOSE_TIMEOUT`] whatever the peers do.

use super::CLOSE_TIMEOUT;
use super::buffer::{Buffer, with_scratch};
use super::relay::Relay;
use crate::cut::CutWords;
use crate::stream::Stream;
use crate::websocket::{self, Side};
use std::io;
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::timeout;

/// How long a cut waits for the end of the current message before it sends Close without its text.
const SETTLE: Duration = Duration::from_secs(1);

/// What a tunnel's peers receive when idlegate ends it.
#[derive(Clone, Debug)]
pub(super) struct Words<'w> {
    /// A text message for the client.
    pub(super) message: Option<&'w str>,
    pub(super) code: u16,
    pub(super) reason: &'w str,
}

impl<'w> Words<'w> {
    /// Those of the configuration.
    pub(super) fn of(words: &'w CutWords) -> Self {
        Self { message: words.ws_message.as_deref(), code: words.ws_code, reason: &words.ws_reason }
    }

    /// All that a client gets whose handshake is refused.
    pub(super) fn last_frames(&self) -> Vec<u8> {
        let mut frames = self.message.map(|message| websocket::text(Side::Server, message)).unwrap_or_default();
        frames.extend_from_slice(&websocket::close(Side::Server, self.code, self.reason));
        frames
    }

    /// The code and reason of the Close.
    pub(super) fn close(&self) -> (u16, String) {
        (self.code, self.reason.to_owned())
    }
}

/// Ends both directions: the client gets the text at a message boundary and then Close at a frame boundary; the app
/// gets a masked Close, or nothing without `to_app`. Then closes both connections.
pub(super) async fn say(
    client: &Stream,
    app: &Stream,
    up: &mut Relay,
    down: &mut Relay,
    words: &Words<'_>,
    to_app: bool,
) {
    let text = words.message.map(|message| websocket::text(Side::Server, message));
    let to_client = websocket::close(Side::Server, words.code, words.reason);
    let close_app = websocket::close(Side::Client, words.code, words.reason);
    let cut = async {
        // Both at once: a stuck app must not keep the client waiting, nor the other way round.
        tokio::join!(part(down, app, client, text.as_deref(), &to_client), async {
            if to_app {
                part(up, client, app, None, &close_app).await;
            } else {
                app.finish();
            }
        });
    };
    // A peer that is stuck gets no Close.
    let _ = timeout(CLOSE_TIMEOUT, cut).await;
}

/// One side has gone: what it sent is delivered to the `other`, which then gets the end of the stream at once. The
/// other may still send: a half-closed peer may still read.
pub(super) async fn pass_on(gone: &Stream, other: &Stream, there: &mut Relay, back: &mut Relay) {
    let cut = async {
        // Where it cannot be written, `other` has gone as well.
        let _ = write_out(&mut there.unsent, other).await;
        other.finish();
        let _ = last_words(other, gone, back).await;
        drain(other).await;
    };
    let _ = timeout(CLOSE_TIMEOUT, cut).await;
}

/// Sends a client its last frames, and closes the connection.
pub(super) async fn part_with(client: &Stream, last_frames: Vec<u8>) {
    let mut unsent = Buffer::default();
    unsent.extend(&last_frames);
    let parting = async {
        // Where it cannot be written, the client has gone.
        let _ = write_out(&mut unsent, client).await;
        client.finish();
        drain(client).await;
    };
    let _ = timeout(CLOSE_TIMEOUT, parting).await;
}

/// What was read before, and, where it need not be examined, what else comes.
async fn last_words(from: &Stream, to: &Stream, relay: &mut Relay) -> io::Result<()> {
    loop {
        write_out(&mut relay.unsent, to).await?;
        if relay.examining {
            return Ok(());
        }
        from.ready(Interest::READABLE).await?;
        match with_scratch(|scratch| {
            let count = from.try_read(scratch)?;
            relay.unsent.extend(scratch.get(..count).unwrap_or_default());
            Ok(count)
        }) {
            Ok(0) => {
                to.finish();
                return Ok(());
            }
            Err(error) if !is_momentary(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn part(relay: &mut Relay, from: &Stream, to: &Stream, text: Option<&[u8]>, close: &[u8]) {
    let wants_text = text.is_some() && !relay.stays_open();
    let boundary = if wants_text { Relay::at_message_boundary } else { Relay::at_frame_boundary };
    // If the boundary does not come, whatever can be sent without it is sent.
    let _ = timeout(SETTLE, settle(relay, from, to, boundary)).await;
    if let Some(text) = text.filter(|_| relay.at_message_boundary()) {
        relay.unsent.extend(text);
    }
    if relay.at_frame_boundary() {
        relay.unsent.extend(close);
    }
    let speak = async {
        // Written, or the peer has gone: nothing remains to send.
        let _ = write_out(&mut relay.unsent, to).await;
        to.finish();
    };
    // From now on nothing from `from` is relayed. Its bytes are still read: a connection closed with unread bytes is
    // reset, which could destroy the Close sent to it.
    tokio::join!(speak, drain(from));
}

/// Relays until what was relayed ends at a boundary.
async fn settle(relay: &mut Relay, from: &Stream, to: &Stream, boundary: fn(&Relay) -> bool) -> io::Result<()> {
    loop {
        write_out(&mut relay.unsent, to).await?;
        if boundary(relay) || relay.is_opaque() {
            return Ok(());
        }
        from.ready(Interest::READABLE).await?;
        let read = with_scratch(|scratch| {
            let count = from.try_read(scratch)?;
            relay.take_until(scratch.get(..count).unwrap_or_default(), boundary);
            Ok(count)
        });
        match read {
            Ok(0) => return Ok(()),
            Err(error) if !is_momentary(&error) => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

async fn write_out(buffer: &mut Buffer, to: &Stream) -> io::Result<()> {
    while !buffer.is_empty() {
        to.ready(Interest::WRITABLE).await?;
        match to.try_write(buffer.as_slice()) {
            Ok(count) => buffer.consume(count),
            Err(error) if is_momentary(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the peer closes. A socket closed with unread bytes is reset, and the peer could lose our last words.
async fn drain(stream: &Stream) {
    loop {
        if stream.ready(Interest::READABLE).await.is_err() {
            return;
        }
        match with_scratch(|scratch| stream.try_read(scratch)) {
            Ok(0) => return,
            Err(error) if !is_momentary(&error) => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether an error only means that it would block.
pub(super) fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
