//! The frames that the proxy itself sends.

use super::{Data, OpCode, Side};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::Frame};

/// The maximum length of a Close reason, in bytes: 125 for a control frame, minus 2 for the code (RFC 6455 §5.5).
pub const MAX_REASON_BYTES: usize = 123;

/// A complete text message in one frame, sent by `side` (RFC 6455 §5.6).
#[must_use]
pub fn text(side: Side, message: &str) -> Vec<u8> {
    encode(side, Frame::message(message.to_owned(), OpCode::Data(Data::Text), true))
}

/// A Close frame sent by `side` (RFC 6455 §5.5.1). A reason longer than 123 bytes is truncated, because peers would not
/// accept a longer frame.
#[must_use]
pub fn close(side: Side, code: u16, reason: &str) -> Vec<u8> {
    let mut reason = reason.to_owned();
    while reason.len() > MAX_REASON_BYTES {
        reason.pop();
    }
    encode(side, Frame::close(Some(CloseFrame { code: code.into(), reason: reason.into() })))
}

fn encode(side: Side, mut frame: Frame) -> Vec<u8> {
    if side == Side::Client {
        // An unpredictable key for every frame (§5.3). tungstenite keeps its own generator private.
        frame.header_mut().mask = Some(rand::random());
    }
    let mut bytes = Vec::with_capacity(frame.len());
    // Writing to a vector cannot fail, and formatting has no other errors.
    let _ = frame.format(&mut bytes);
    bytes
}
