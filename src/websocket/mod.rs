//! WebSocket frames (RFC 6455 §5), followed in a stream of bytes that is relayed as it is.
//!
//! ```text
//!  bytes as they come ─► Follower::step ─► NeedMore │ Head │ Payload │ Lost
//!                            │
//!                            ├─ at_frame_boundary, at_message_boundary: where something may be inserted
//!                            ├─ frame, message: what the bytes of the last step belong to
//!                            └─ invalid: the first violation seen
//! ```
//! Nothing here reads, writes or waits, and nothing changes a byte that passes: [`unmask`] works on a copy.
//! What the proxy itself says to a peer comes ready-made from [`text`] and [`close`].

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

/// The sender of a stream: clients mask their frames, servers must not (RFC 6455 §5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one that opened the connection; towards the app the proxy stands in this role.
    Client,
    /// The one that accepted it; towards the browser the proxy stands in this role.
    Server,
}

/// The header of a frame (RFC 6455 §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// What the frame is; reserved ones included, as `Reserved`.
    pub opcode: OpCode,
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub rsv: u8,
    /// The masking key, where the frame has one, whether or not its sender may mask.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload in bytes.
    pub length: u64,
    /// The length of the header itself in bytes, 2 to 14.
    pub size: u8,
}

impl Head {
    /// Whether the frame carries data of a message: it is text, binary or the continuation of one (RFC 6455 §5.6).
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.opcode, OpCode::Data(Data::Text | Data::Binary | Data::Continue))
    }
}

/// What the bytes taken by [`Follower::step`] were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameEvent {
    /// A header that is not complete yet. All of the input was taken.
    NeedMore,
    /// The last, or only, bytes of a header.
    Head(Head),
    /// Bytes of the payload of the frame whose [`Head`] came last.
    Payload {
        /// How many; as many as were taken.
        length: usize,
        /// Where in the payload of the frame they begin.
        offset: u64,
        /// Whether the frame is complete with them.
        last: bool,
    },
    /// The stream cannot be followed any more. All of the input was taken, and so will be all that follows.
    Lost,
}
