//! Protocol violations that a frame header can show.

use super::{Control, Data, Head, OpCode, Side};
use std::fmt;

/// A violation of RFC 6455 that is visible in a frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// A client must mask every frame (§5.1).
    Unmasked,
    /// A server must not mask any frame (§5.1).
    Masked,
    /// The opcode is 3–7 or 11–15. No extension in use defines these (§5.2).
    ReservedOpcode,
    /// RSV1, RSV2 or RSV3 is set and no extension was negotiated (§5.2).
    ReservedBits,
    /// The most significant bit of a 64-bit length is set (§5.2). The end of the frame is unknown.
    LengthTooLarge,
    /// The length is written in more bytes than it needs (§5.2).
    LengthNotShortest,
    /// A control frame must not be fragmented (§5.4).
    ControlFragmented,
    /// The payload of a control frame must not exceed 125 bytes (§5.5).
    ControlTooLong,
    /// The body of a Close must be empty or begin with a two-byte code (§5.5.1).
    CloseOfOneByte,
    /// A continuation frame without an open message (§5.4).
    ContinuationWithoutMessage,
    /// A message begins while another is incomplete (§5.4).
    MessageInsideMessage,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "a frame of the client is not masked",
            Self::Masked => "a frame of the server is masked",
            Self::ReservedOpcode => "a frame has a reserved opcode",
            Self::ReservedBits => "a frame has a reserved bit set without an extension",
            Self::LengthTooLarge => "a frame has a length of 2^63 bytes or more",
            Self::LengthNotShortest => "a frame has a length that is not in its shortest form",
            Self::ControlFragmented => "a control frame is fragmented",
            Self::ControlTooLong => "a control frame has more than 125 bytes",
            Self::CloseOfOneByte => "a Close frame has a body of one byte, too short for a code",
            Self::ContinuationWithoutMessage => "a continuation frame without a message to continue",
            Self::MessageInsideMessage => "a new message begins inside a fragmented one",
        })
    }
}

impl std::error::Error for Invalid {}

/// The violation, if any, of a frame sent by `side` while the data message `open` is incomplete.
pub(super) fn check(head: &Head, side: Side, extensions: bool, open: Option<Data>) -> Option<Invalid> {
    match (side, head.mask) {
        (Side::Client, None) => return Some(Invalid::Unmasked),
        (Side::Server, Some(_)) => return Some(Invalid::Masked),
        _ => {}
    }
    if head.rsv != 0 && !extensions {
        return Some(Invalid::ReservedBits);
    }
    if !shortest(head) {
        return Some(Invalid::LengthNotShortest);
    }
    match head.opcode {
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => Some(Invalid::ReservedOpcode),
        OpCode::Data(Data::Continue) => open.is_none().then_some(Invalid::ContinuationWithoutMessage),
        OpCode::Data(Data::Text | Data::Binary) => open.is_some().then_some(Invalid::MessageInsideMessage),
        OpCode::Control(_) if !head.fin => Some(Invalid::ControlFragmented),
        OpCode::Control(_) if head.length > 125 => Some(Invalid::ControlTooLong),
        OpCode::Control(Control::Close) if head.length == 1 => Some(Invalid::CloseOfOneByte),
        OpCode::Control(_) => None,
    }
}

fn shortest(head: &Head) -> bool {
    let masking_key = if head.mask.is_some() { 4 } else { 0 };
    match head.size.saturating_sub(masking_key) {
        4 => head.length > 125,
        10 => head.length > 0xFFFF,
        _ => true,
    }
}
