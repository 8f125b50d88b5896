//! Decides message by message whether it counts as activity, where `[[ignore]]` rules are about messages.

use super::Seen;
use crate::ignore::{Message, MessageRules};
use crate::proxy::buffer::Buffer;
use crate::websocket::{Data, Head, OpCode, unmask};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// For a message that came in one piece: it is decided at once, and needs no buffer of its own.
    static UNMASKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The last message that was ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::proxy) struct IgnoredMessage {
    /// The position of the rule.
    pub(in crate::proxy) rule: usize,
    /// Its length in bytes.
    pub(in crate::proxy) size: u64,
}

/// The current message of one direction.
#[derive(Debug)]
pub(super) struct Probe {
    rules: Arc<MessageRules>,
    state: State,
    is_binary: bool,
    size: u64,
    /// Its first bytes, unmasked, while it is undecided and came in pieces.
    start: Buffer,
    /// The message is over with the current frame.
    ends: bool,
    /// How many messages each rule has ignored since this was last asked.
    ignored: Box<[u64]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Undecided,
    Counts,
    Ignored(usize),
}

impl Probe {
    pub(super) fn new(rules: Arc<MessageRules>) -> Self {
        let ignored = rules.positions().map(|_| 0).collect();
        Self { rules, state: State::Counts, is_binary: false, size: 0, start: Buffer::default(), ends: false, ignored }
    }

    /// How many messages each rule, by its position, has ignored since this was last asked. Without those that have ignored none.
    pub(super) fn take_ignored(&mut self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.ignored.iter_mut().map(std::mem::take);
        self.rules.positions().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// A data frame begins.
    pub(super) fn head(&mut self, head: &Head, seen: &mut Seen) {
        if let OpCode::Data(kind @ (Data::Text | Data::Binary)) = head.opcode {
            self.is_binary = kind == Data::Binary;
            self.size = 0;
            self.start.clear();
            // What is compressed cannot be read.
            self.state = if head.rsv == 0 { State::Undecided } else { State::Counts };
        }
        self.ends = head.fin;
        if head.length == 0 && head.fin {
            self.decide_collected(true, seen);
            self.end(seen);
        }
        seen.data |= self.state == State::Counts;
    }

    /// Some payload of the current data frame. `last` ends the frame.
    pub(super) fn payload(&mut self, head: &Head, (offset, bytes, last): (u64, &[u8], bool), seen: &mut Seen) {
        self.size += bytes.len() as u64;
        let ends = self.ends && last;
        match self.state {
            State::Counts => seen.data = true,
            State::Ignored(_) => {}
            State::Undecided => {
                let needs = self.rules.needs();
                let wanted = bytes.get(..needs.saturating_sub(self.start.len())).unwrap_or(bytes);
                if ends && self.start.is_empty() {
                    UNMASKED.with_borrow_mut(|unmasked| {
                        unmasked.clear();
                        unmask(head.mask.unwrap_or_default(), offset, wanted, unmasked);
                        self.decide(unmasked, true, seen);
                    });
                    return self.end(seen);
                }
                unmask(head.mask.unwrap_or_default(), offset, wanted, self.start.grow());
                if ends || self.start.len() >= needs {
                    self.decide_collected(ends, seen);
                }
            }
        }
        if ends {
            self.end(seen);
        }
    }

    fn decide_collected(&mut self, is_whole: bool, seen: &mut Seen) {
        let mut start = std::mem::take(&mut self.start);
        self.decide(start.as_slice(), is_whole, seen);
        start.clear();
    }

    fn decide(&mut self, start: &[u8], is_whole: bool, seen: &mut Seen) {
        if self.state != State::Undecided {
            return;
        }
        let message = Message { is_binary: self.is_binary, start, size: is_whole.then_some(self.size) };
        self.state = self.rules.ignoring(message).map_or(State::Counts, State::Ignored);
        seen.data |= self.state == State::Counts;
    }

    /// The message is over.
    fn end(&mut self, seen: &mut Seen) {
        if let State::Ignored(index) = self.state
            && let Some(rule) = self.rules.positions().nth(index)
        {
            self.ignored[index] += 1;
            seen.ignored = Some(IgnoredMessage { rule, size: self.size });
        }
    }
}
