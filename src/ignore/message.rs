//! Which WebSocket messages a rule ignores.

use crate::token::{Conditions, Pattern};
use std::ops::RangeInclusive;

/// The longest message that `json` and `regex` look at, in bytes. What a page sends by itself is short.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024;

/// What a message must have to be ignored. All that is given must hold; something is given.
#[derive(Clone, Default, Debug)]
pub struct MessageMatch {
    /// `text`: the whole of a text message is one of these.
    pub text: Option<Vec<String>>,
    /// `prefix`: how a text message begins.
    pub prefix: Option<String>,
    /// `json`: values in a text message.
    pub json: Option<Conditions>,
    /// `regex`: matches in a message.
    pub regex: Option<Pattern>,
    /// `binary_prefix`: how a binary message begins.
    pub binary_prefix: Option<Vec<u8>>,
    /// `size`: the length of the message, in bytes.
    pub size: Option<RangeInclusive<u64>>,
}

/// A message, or its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// Whether it is binary.
    pub is_binary: bool,
    /// Its first bytes, unmasked.
    pub start: &'m [u8],
    /// Its length in bytes; `None` while it has not ended.
    pub size: Option<u64>,
}

impl Message<'_> {
    /// All of it, if it has ended and no byte is missing here.
    fn whole(&self) -> Option<&[u8]> {
        self.size.filter(|size| usize::try_from(*size) == Ok(self.start.len())).map(|_| self.start)
    }
}

impl MessageMatch {
    /// How many bytes of a message it needs, if that does not depend on the message.
    fn needs(&self) -> usize {
        if self.json.is_some() || self.regex.is_some() {
            return MAX_MESSAGE_BYTES;
        }
        let text = self.text.iter().flatten().map(|text| text.len() + 1).max().unwrap_or(0);
        let prefix = self.prefix.as_ref().map_or(0, String::len);
        text.max(prefix).max(self.binary_prefix.as_ref().map_or(0, Vec::len))
    }

    /// Whether the message is ignored. A message that has not ended, or that is longer than what is here of it, is ignored only
    /// if the rest of it does not matter.
    fn matches(&self, message: Message<'_>) -> bool {
        let is_text_rule = self.text.is_some() || self.prefix.is_some() || self.json.is_some();
        if message.is_binary && is_text_rule || !message.is_binary && self.binary_prefix.is_some() {
            return false;
        }
        self.text
            .as_ref()
            .is_none_or(|texts| message.whole().is_some_and(|whole| texts.iter().any(|text| text.as_bytes() == whole)))
            && self.prefix.as_ref().is_none_or(|prefix| message.start.starts_with(prefix.as_bytes()))
            && self.binary_prefix.as_ref().is_none_or(|prefix| message.start.starts_with(prefix))
            && self.size.as_ref().is_none_or(|sizes| message.size.is_some_and(|size| sizes.contains(&size)))
            && self.regex.as_ref().is_none_or(|regex| message.whole().is_some_and(|whole| regex.matches(whole)))
            && self.json.as_ref().is_none_or(|json| message.whole().is_some_and(|whole| json.hold_in(whole)))
    }
}

/// The rules for the messages of one side on one WebSocket.
#[derive(Debug)]
pub struct MessageRules {
    /// By position among all rules.
    rules: Vec<(usize, MessageMatch)>,
    needs: usize,
}

impl MessageRules {
    pub(super) fn new(rules: Vec<(usize, MessageMatch)>) -> Option<Self> {
        let sized = rules.iter().any(|(_, rule)| rule.size.is_some());
        // The length is known only at the end: a message is followed as long as one with a length could match.
        let needs = rules.iter().map(|(_, rule)| rule.needs()).max()?.max(if sized { MAX_MESSAGE_BYTES } else { 0 });
        Some(Self { rules, needs })
    }

    /// How many bytes of a message are needed at most. One that is longer is decided by as many.
    #[must_use]
    pub fn needs(&self) -> usize {
        self.needs
    }

    /// Which of these rules ignores this message, counted from 0.
    #[must_use]
    pub fn ignoring(&self, message: Message<'_>) -> Option<usize> {
        self.rules.iter().position(|(_, rule)| rule.matches(message))
    }

    /// The position of each of these rules among all rules.
    #[must_use]
    pub fn positions(&self) -> impl ExactSizeIterator<Item = usize> {
        self.rules.iter().map(|(position, _)| *position)
    }
}
