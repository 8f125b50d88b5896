//! Follows the frames of one direction of a tunnel.

use super::{Data, FrameEvent, Head, Invalid, OpCode, Side, invalid};
use std::io::Cursor;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

/// The longest header: two bytes, a length of eight, a masking key of four (RFC 6455 §5.2).
const MAX_HEADER_BYTES: usize = 14;

/// Follows the frames of a stream, however its bytes are split. It stores no payload and allocates nothing, since every
/// tunnel has two followers.
#[derive(Clone, Debug)]
pub struct Follower {
    side: Side,
    extensions: bool,
    state: FollowerState,
    /// The kind of the current data message. Kept until the first byte after the message.
    message: Option<Data>,
    invalid: Option<Invalid>,
}

#[derive(Clone, Debug)]
enum FollowerState {
    /// Inside a header, or before the next one if `filled` is 0.
    Header { bytes: [u8; MAX_HEADER_BYTES], filled: u8 },
    /// After a header. Kept until the first byte after the frame, so that `frame` still works after the frame's last
    /// step.
    Frame { head: Head, offset: u64 },
    /// The beginning of the next frame is unknown.
    Lost,
}

const BEFORE_HEADER: FollowerState = FollowerState::Header { bytes: [0; MAX_HEADER_BYTES], filled: 0 };

impl Follower {
    /// Follows a stream sent by `side`, from its first frame. With `extensions`, the reserved bits may be set
    /// (RFC 6455 §9).
    #[must_use]
    pub fn new(side: Side, extensions: bool) -> Self {
        Self { side, extensions, state: BEFORE_HEADER, message: None, invalid: None }
    }

    /// Consumes bytes of `input`, at least one unless it is empty. Returns how many and what they were. Call it again
    /// with the rest until nothing is left. A frame without payload gives a [`FrameEvent::Head`] and no
    /// [`FrameEvent::Payload`]. An empty input consumes nothing, and its event has no meaning.
    pub fn step(&mut self, input: &[u8]) -> (usize, FrameEvent) {
        if input.is_empty() {
            return (
                0,
                if matches!(self.state, FollowerState::Lost) { FrameEvent::Lost } else { FrameEvent::NeedMore },
            );
        }
        if self.at_frame_boundary() {
            if self.at_message_boundary() {
                self.message = None;
            }
            if matches!(self.state, FollowerState::Frame { .. }) {
                self.state = BEFORE_HEADER;
            }
        }
        match &mut self.state {
            FollowerState::Frame { head, offset } => {
                let left = head.length.saturating_sub(*offset);
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let begin = *offset;
                *offset += length as u64;
                (length, FrameEvent::Payload { length, offset: begin, last: *offset == head.length })
            }
            FollowerState::Header { bytes, filled } => {
                let taken = collect(bytes, filled, input);
                match parse(bytes.get(..usize::from(*filled)).unwrap_or_default()) {
                    Some(head) if head.length >> 63 == 0 => (taken, self.begin(head)),
                    Some(_) => {
                        self.invalid.get_or_insert(Invalid::LengthTooLarge);
                        self.state = FollowerState::Lost;
                        (input.len(), FrameEvent::Lost)
                    }
                    None => (taken, FrameEvent::NeedMore),
                }
            }
            FollowerState::Lost => (input.len(), FrameEvent::Lost),
        }
    }

    /// Whether the next byte begins a frame: a Close may be inserted here.
    #[must_use]
    pub fn at_frame_boundary(&self) -> bool {
        match &self.state {
            FollowerState::Header { filled, .. } => *filled == 0,
            FollowerState::Frame { head, offset } => *offset == head.length,
            FollowerState::Lost => false,
        }
    }

    /// Whether the next byte begins a frame and no fragmented message is open: a message may be inserted here
    /// (RFC 6455 §5.4).
    #[must_use]
    pub fn at_message_boundary(&self) -> bool {
        let complete = match &self.state {
            FollowerState::Frame { head, .. } => head.fin && head.is_data(),
            FollowerState::Header { .. } | FollowerState::Lost => false,
        };
        self.at_frame_boundary() && (complete || self.message.is_none())
    }

    /// The first protocol violation seen. Frames after it are still followed by their lengths, unless the stream is
    /// lost.
    #[must_use]
    pub fn invalid(&self) -> Option<Invalid> {
        self.invalid
    }

    /// The frame of the last [`FrameEvent::Head`] or [`FrameEvent::Payload`]. `None` from the first byte after the
    /// frame.
    #[must_use]
    pub fn frame(&self) -> Option<&Head> {
        match &self.state {
            FollowerState::Frame { head, .. } => Some(head),
            FollowerState::Header { .. } | FollowerState::Lost => None,
        }
    }

    /// The kind, `Text` or `Binary`, of the data message that is open or was completed by the last step. A control
    /// frame between its fragments does not change this. `None` from the first byte after the message.
    #[must_use]
    pub fn message(&self) -> Option<Data> {
        self.message
    }

    fn begin(&mut self, head: Head) -> FrameEvent {
        if self.invalid.is_none() {
            self.invalid = invalid::check(&head, self.side, self.extensions, self.message);
        }
        if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = head.opcode {
            self.message = Some(kind);
        }
        self.state = FollowerState::Frame { head, offset: 0 };
        FrameEvent::Head(head)
    }
}

/// Copies the bytes of a header, and none after it, from `input` into `bytes`. Returns how many.
fn collect(bytes: &mut [u8; MAX_HEADER_BYTES], filled: &mut u8, input: &[u8]) -> usize {
    let mut taken = 0;
    for &byte in input {
        let Some(place) = bytes.get_mut(usize::from(*filled)) else { break };
        *place = byte;
        *filled += 1;
        taken += 1;
        if *filled >= 2 && *filled == header_size(bytes[1]) {
            break;
        }
    }
    taken
}

/// The length of a header, from its second byte.
fn header_size(second: u8) -> u8 {
    let length = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let masking_key = if second & 0x80 == 0 { 0 } else { 4 };
    2 + length + masking_key
}

/// Parses a header. Returns `None` while it is incomplete.
fn parse(collected: &[u8]) -> Option<Head> {
    let mut header = [0; MAX_HEADER_BYTES];
    let header = header.get_mut(..collected.len())?;
    header.copy_from_slice(collected);
    let first = header.first_mut()?;
    let opcode = OpCode::from(*first & 0x0F);
    // tungstenite refuses a header with a reserved opcode, but its length is needed. Replace the opcode by a valid one.
    *first = (*first & 0xF0) | u8::from(OpCode::Data(Data::Binary));
    let mut cursor = Cursor::new(&*header);
    let (parsed, length) = FrameHeader::parse(&mut cursor).ok()??;
    let rsv = u8::from(parsed.rsv1) << 2 | u8::from(parsed.rsv2) << 1 | u8::from(parsed.rsv3);
    Some(Head {
        opcode,
        fin: parsed.is_final,
        rsv,
        mask: parsed.mask,
        length,
        size: u8::try_from(collected.len()).ok()?,
    })
}
