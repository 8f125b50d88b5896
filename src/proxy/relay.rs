//! One direction of a tunnel: bytes in, the same bytes out, with the frames among them followed.
//!
//! Where messages are examined, the last frame of each is held until it is known whether the message may pass: an app
//! acts on a message only when it is complete. Everything else goes on at once, control frames too, so that the order
//! of the bytes is never changed and nothing waits for a message that never ends. In mode `off` nothing is held: messages are
//! examined after they were passed on.

mod probe;
#[cfg(test)]
mod tests;

pub(super) use probe::IgnoredMessage;

use super::buffer::Buffer;
use crate::ignore::MessageRules;
use crate::token::MAX_EXAMINED_BYTES;
use crate::websocket::{Control, Data, Follower, FrameEvent, Head, Invalid, OpCode, Side, unmask};
use probe::Probe;
use std::sync::Arc;

/// What was seen of a piece of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Message data that counts.
    pub(super) data: bool,
    /// The last message that does not count.
    pub(super) ignored: Option<IgnoredMessage>,
    /// The length of the last data frame that began, in bytes.
    pub(super) length: u64,
    pub(super) pong: bool,
    /// How many frames began.
    pub(super) frames: u64,
    pub(super) close: bool,
}

impl Seen {
    fn head(&mut self, head: &Head) {
        self.frames += 1;
        if head.is_data() {
            self.length = head.length;
        }
        self.pong |= head.opcode == OpCode::Control(Control::Pong);
        self.close |= head.opcode == OpCode::Control(Control::Close);
    }
}

/// Something to be examined, which stands in [`Relay::message`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Examined {
    /// A whole message, whose last frame is held.
    Message,
    /// A piece of a message that is too long to be examined whole. It is not held.
    Piece,
}

/// The current message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum MessageState {
    None,
    Short,
    Long,
}

#[derive(Debug)]
pub(super) struct Relay {
    follower: Follower,
    /// Decides which messages count, where a rule asks for it. Without it all do.
    probe: Option<Box<Probe>>,
    /// Neither followed nor examined: not a WebSocket.
    opaque: bool,
    pub(super) examining: bool,
    /// May go on, and could not be written yet.
    pub(super) unsent: Buffer,
    /// Was read and may not go on yet: the beginning of a frame's head, or a last frame to be examined.
    held: Buffer,
    /// The payload of the current message, unmasked.
    pub(super) message: Buffer,
    state: MessageState,
    /// Whether the current frame is held.
    hold: bool,
    /// Whether earlier frames of the current message have been sent.
    open: bool,
    /// Whether a Close has come: nothing may follow it (RFC 6455 §5.5.1).
    closed: bool,
    /// The payload of the Close, unmasked.
    close: Vec<u8>,
}

impl Relay {
    pub(super) fn new(side: Side, extensions: bool, examining: bool) -> Self {
        Self {
            follower: Follower::new(side, extensions),
            probe: None,
            opaque: false,
            examining,
            unsent: Buffer::default(),
            held: Buffer::default(),
            message: Buffer::default(),
            state: MessageState::None,
            hold: false,
            open: false,
            closed: false,
            close: Vec::new(),
        }
    }

    /// A relay whose messages do not all count as activity.
    pub(super) fn ignoring(self, rules: Option<Arc<MessageRules>>) -> Self {
        Self { probe: rules.map(|rules| Box::new(Probe::new(rules))), ..self }
    }

    /// How many messages were ignored since this was last asked, by the position of the rule.
    pub(super) fn take_ignored(&mut self) -> impl Iterator<Item = (usize, u64)> {
        self.probe.iter_mut().flat_map(|probe| probe.take_ignored())
    }

    /// A relay that does not examine its bytes.
    pub(super) fn opaque(side: Side) -> Self {
        Self { opaque: true, ..Self::new(side, true, false) }
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.opaque
    }

    pub(super) fn is_invalid(&self) -> Option<Invalid> {
        self.follower.invalid()
    }

    /// Follows the frames in `input`, which are all sent on.
    pub(super) fn follow(&mut self, mut input: &[u8], seen: &mut Seen) {
        if self.opaque {
            seen.data |= !input.is_empty();
            return;
        }
        while !input.is_empty() {
            let (taken, step) = self.follower.step(input);
            let bytes = input.get(..taken).unwrap_or_default();
            self.notice(&step, bytes, seen);
            self.keep_close(&step, bytes);
            input = input.get(taken.max(1)..).unwrap_or_default();
        }
    }

    fn notice(&mut self, step: &FrameEvent, bytes: &[u8], seen: &mut Seen) {
        match step {
            FrameEvent::Head(head) => {
                seen.head(head);
                self.closed |= seen.close;
                match &mut self.probe {
                    Some(probe) if head.is_data() => probe.head(head, seen),
                    _ => seen.data |= head.is_data(),
                }
            }
            FrameEvent::Payload { offset, last, .. } => {
                let Some(head) = self.follower.frame().filter(|head| head.is_data()) else { return };
                match &mut self.probe {
                    Some(probe) => probe.payload(head, (*offset, bytes, *last), seen),
                    None => seen.data = true,
                }
            }
            FrameEvent::NeedMore | FrameEvent::Lost => {}
        }
    }

    /// Keeps the payload of a Close, up to 125 bytes, to show how the tunnel ended.
    fn keep_close(&mut self, step: &FrameEvent, bytes: &[u8]) {
        if !self.closed {
            return;
        }
        if let (FrameEvent::Payload { offset, .. }, Some(head)) = (step, self.follower.frame())
            && head.opcode == OpCode::Control(Control::Close)
        {
            unmask(head.mask.unwrap_or_default(), *offset, bytes, &mut self.close);
        }
    }

    /// The code and the reason of the Close that has come, where it has any.
    pub(super) fn close(&self) -> Option<(u16, String)> {
        let (code, reason) = self.close.split_first_chunk()?;
        // It is shown to operators, and any peer may have written it.
        let reason = String::from_utf8_lossy(reason).chars().filter(|character| !character.is_control()).collect();
        Some((u16::from_be_bytes(*code), reason))
    }

    /// Takes some of `input`, up to the end of the next part to examine. What may be sent on is then in
    /// [`Relay::unsent`]. Holds last frames only if `may_hold`.
    pub(super) fn examine(&mut self, input: &[u8], seen: &mut Seen, may_hold: bool) -> (usize, Option<Examined>) {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let (taken, step) = self.follower.step(rest);
            let taken = taken.max(1);
            let bytes = rest.get(..taken).unwrap_or(rest);
            at += taken;
            self.notice(&step, bytes, seen);
            self.keep_close(&step, bytes);
            let examined = match step {
                FrameEvent::NeedMore => {
                    self.held.extend(bytes);
                    None
                }
                FrameEvent::Lost => {
                    self.release();
                    self.unsent.extend(bytes);
                    None
                }
                FrameEvent::Head(head) => {
                    self.enter(&head, may_hold);
                    self.pass_on(bytes);
                    if head.length == 0 { self.leave(&head) } else { None }
                }
                FrameEvent::Payload { offset, last, .. } => self.payload(bytes, offset, last),
            };
            if examined.is_some() {
                return (at, examined);
            }
        }
        (at, None)
    }

    /// A frame begins: is its message examined, and is it held?
    fn enter(&mut self, head: &Head, may_hold: bool) {
        self.hold = false;
        if !head.is_data() {
            return;
        }
        if head.opcode != OpCode::Data(Data::Continue) || self.state == MessageState::None {
            self.message.clear();
            self.state = MessageState::Short;
        }
        let most = MAX_EXAMINED_BYTES.saturating_sub(self.message.len());
        if self.state == MessageState::Short && usize::try_from(head.length).map_or(true, |length| length > most) {
            self.state = MessageState::Long;
        }
        self.hold = may_hold && head.fin && self.state == MessageState::Short;
        self.open |= !head.fin;
    }

    fn payload(&mut self, bytes: &[u8], offset: u64, last: bool) -> Option<Examined> {
        self.pass_on(bytes);
        let head = *self.follower.frame()?;
        if head.is_data() {
            unmask(head.mask.unwrap_or_default(), offset, bytes, self.message.grow());
            if !last && self.state == MessageState::Long {
                return Some(Examined::Piece);
            }
        }
        if last { self.leave(&head) } else { None }
    }

    /// A frame is complete, and with it perhaps a message.
    fn leave(&mut self, head: &Head) -> Option<Examined> {
        if !head.is_data() {
            return None;
        }
        if !head.fin {
            return (self.state == MessageState::Long).then_some(Examined::Piece);
        }
        let state = std::mem::replace(&mut self.state, MessageState::None);
        if state == MessageState::Long {
            self.open = false;
            return Some(Examined::Piece);
        }
        Some(Examined::Message)
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        if !self.hold && self.held.is_empty() {
            return self.unsent.extend(bytes);
        }
        self.held.extend(bytes);
        if !self.hold {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        let Self { held, unsent, .. } = self;
        unsent.extend(held.as_slice());
        held.clear();
    }

    /// The message may pass.
    pub(super) fn release(&mut self) {
        self.let_go();
        self.message.clear();
        self.hold = false;
        if self.state == MessageState::None {
            self.open = false;
        }
    }

    /// Drops the message that is held. Returns `false` if the peer has seen its beginning: then it cannot be dropped.
    pub(super) fn discard(&mut self) -> bool {
        if self.open {
            return false;
        }
        self.held.clear();
        self.message.clear();
        self.hold = false;
        true
    }

    /// Whether the current message was too long to examine, and has ended.
    pub(super) fn has_ended_long(&self) -> bool {
        self.state == MessageState::None
    }

    /// Prepares for the cut. With `completes`, held bytes are sent on if the peer has seen the beginning of their
    /// message; otherwise none are, and a message that was begun stays open.
    pub(super) fn give_up_examining(&mut self, completes: bool) {
        if completes && self.open {
            self.let_go();
        }
        self.examining = false;
    }

    /// Whether a message that the peer has seen the beginning of will not be completed.
    pub(super) fn stays_open(&self) -> bool {
        self.open && !self.held.is_empty()
    }

    /// Whether a Close has come.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Drops all that was read and has not gone on, and what comes after it. Returns whether what has gone on ends at a
    /// frame boundary.
    pub(super) fn silence(&mut self) -> bool {
        let whole = self.unsent.is_empty() && self.at_frame_boundary();
        self.unsent.clear();
        self.held.clear();
        self.message.clear();
        self.examining = false;
        whole
    }

    /// Whether a frame may be inserted after what has gone on.
    pub(super) fn at_frame_boundary(&self) -> bool {
        !self.opaque && (!self.held.is_empty() || self.follower.at_frame_boundary())
    }

    /// Whether a message may be inserted there.
    pub(super) fn at_message_boundary(&self) -> bool {
        if self.opaque {
            return false;
        }
        if self.held.is_empty() { self.follower.at_message_boundary() } else { !self.open }
    }

    /// Takes as much of `input` as belongs to the current frame or message.
    pub(super) fn take_until(&mut self, input: &[u8], boundary: fn(&Self) -> bool) {
        let mut rest = input;
        while !rest.is_empty() && !boundary(self) {
            let (taken, _) = self.follower.step(rest);
            let (bytes, left) = rest.split_at(taken.clamp(1, rest.len()));
            self.unsent.extend(bytes);
            rest = left;
        }
    }
}
