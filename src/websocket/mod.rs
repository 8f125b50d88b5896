//! Follows WebSocket frames (RFC 6455 §5) in a byte stream that is relayed unchanged.
//!
//! ```text
//!  bytes as they come ─► Follower::step ─► NeedMore │ Head │ Payload │ Lost
//!                            │
//!                            ├─ at_frame_boundary, at_message_boundary: where a frame or message may be inserted
//!                            ├─ frame, message: what the bytes of the last step belong to
//!                            └─ invalid: the first violation seen
//! ```
//! This module does no I/O and never changes relayed bytes: [`unmask`] works on a copy. [`text`] and [`close`] build
//! the frames that the proxy itself sends.

mod encode;
mod follow;
mod invalid;
mod keepalive;
mod mask;
#[cfg(test)]
mod tests;

pub use encode::{MAX_REASON_BYTES, close, text};
pub use follow::Follower;
pub use invalid::Invalid;
pub use keepalive::Keepalive;
pub use mask::unmask;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use serde::{Deserialize, Serialize};

/// The sender of a stream: clients mask their frames, servers must not (RFC 6455 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The side that opened the connection. Towards the app, this is the proxy.
    Client,
    /// The side that accepted the connection. Towards the browser, this is the proxy.
    Server,
}

impl Side {
    /// `client` or `server`, as configurations write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The header of a frame (RFC 6455 §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The opcode. Reserved opcodes are kept as `Reserved`.
    pub opcode: OpCode,
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub rsv: u8,
    /// The masking key, if the frame has one, even if its sender must not mask.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub length: u64,
    /// The length of the header itself in bytes, 2 to 14.
    pub size: u8,
}

impl Head {
    /// Whether the frame carries message data: text, binary or a continuation (RFC 6455 §5.6).
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.opcode, OpCode::Data(Data::Text | Data::Binary | Data::Continue))
    }
}

/// What the bytes consumed by [`Follower::step`] were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameEvent {
    /// Part of an incomplete header. All of the input was consumed.
    NeedMore,
    /// The last, or only, bytes of a header.
    Head(Head),
    /// Payload bytes of the frame with the most recent [`Head`].
    Payload {
        /// The number of bytes, equal to the number consumed.
        length: usize,
        /// Their offset in the payload of the frame.
        offset: u64,
        /// Whether they complete the frame.
        last: bool,
    },
    /// The stream can no longer be followed. All of this input was consumed, and all later input will be.
    Lost,
}
