//! The frames that the proxy itself sends.

use super::{Data, OpCode, Side};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::Frame};

/// What a control frame leaves for the reason of a Close, in bytes: 125 less two of the code (RFC 6455 §5.5).
pub const MAX_REASON_BYTES: usize = 123;

/// A whole text message in one frame, as `side` sends it (RFC 6455 §5.6).
#[must_use]
pub fn text(side: Side, message: &str) -> Vec<u8> {
    encode(side, Frame::message(message.to_owned(), OpCode::Data(Data::Text), true))
}

/// A Close frame as `side` sends it (RFC 6455 §5.5.1). A reason of more than 123 bytes is cut short: a frame that
/// breaks the protocol would close nothing.
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
    // Writing to a vector cannot fail, and formatting has no other fault to report.
    let _ = frame.format(&mut bytes);
    bytes
}
