//! The offers of a tunnel that are not answered yet, and which of them an answer is for.
//!
//! Answers carry no number and match the offers in order. That order can be upset, by a client that wants a junk token
//! to be taken for the one that the app accepted: `{"type":"error"}` may have answered something that was no offer, and
//! an offer that other parsers read otherwise may not be answered at all. So a rejection that is not certain leaves a
//! doubt, and an acceptance counts only if it is for the same token whatever the truth about the doubts.

use crate::session::SessionId;
use std::collections::VecDeque;

/// How many offers may wait for an answer. A client that offers more is guessing tokens.
const MAX_OFFERS: usize = 64;

/// A token offered by the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Which rules saw it, by their positions.
    pub(super) rules: Vec<usize>,
    /// The session ids of all tokens in it. Exactly one in the message of an honest client that sends a token; none
    /// where it logs in with a password, or the message could not be read.
    pub ids: Vec<SessionId>,
    /// Whether the app cannot have read anything else.
    pub(super) certain: bool,
}

impl Offer {
    /// An offer in a message that could not be read.
    pub(super) fn unreadable(rules: Vec<usize>) -> Self {
        Self { rules, ids: Vec::new(), certain: false }
    }

    /// The token that the app has accepted, if it has accepted this offer.
    fn only(&self) -> Option<SessionId> {
        match self.ids.as_slice() {
            [id] if self.certain => Some(*id),
            _ => None,
        }
    }
}

/// Which offers may be accepted yet although they count as rejected.
#[derive(Clone, Copy, Debug, Default)]
enum Doubt {
    #[default]
    None,
    One(SessionId),
    /// Several, or one that could not be read.
    Several,
}

#[derive(Debug, Default)]
pub(super) struct Offers {
    waiting: VecDeque<Offer>,
    /// Whether the client sent another message, which a rejection may have answered.
    talk: bool,
    doubt: Doubt,
}

impl Offers {
    /// `false` where too many wait for an answer.
    pub(super) fn add(&mut self, offer: Offer) -> bool {
        // Side by side, offers that could not be read are as good as one: no acceptance is valid while there is one,
        // nor after it was rejected. So large messages that only look like offers do not add up.
        if !offer.certain && offer.ids.is_empty() && self.waiting.back() == Some(&offer) {
            return true;
        }
        if self.waiting.len() >= MAX_OFFERS {
            return false;
        }
        self.waiting.push_back(offer);
        true
    }

    /// Whether any has no answer yet.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The client sent another message.
    pub(super) fn talked(&mut self) {
        self.talk = true;
    }

    /// The app rejected an offer that one of these rules saw.
    pub(super) fn rejected(&mut self, rules: &[usize]) {
        let Some(offer) = self.oldest(rules) else { return };
        if self.talk || !offer.certain {
            self.doubt = match (self.doubt, offer.only()) {
                (Doubt::None, Some(id)) => Doubt::One(id),
                (Doubt::One(known), Some(id)) if known == id => Doubt::One(id),
                _ => Doubt::Several,
            };
        }
    }

    /// The app accepted an offer that one of these rules saw. The token of it, where there is but one that it can be.
    pub(super) fn accepted(&mut self, rules: &[usize]) -> Option<SessionId> {
        match (self.oldest(rules), self.doubt) {
            (Some(offer), Doubt::None) => offer.only(),
            (Some(offer), Doubt::One(id)) => offer.only().filter(|only| *only == id),
            (None, Doubt::One(id)) => Some(id),
            (None, Doubt::None) | (_, Doubt::Several) => None,
        }
    }

    /// Takes the oldest offer that one of these rules saw.
    fn oldest(&mut self, rules: &[usize]) -> Option<Offer> {
        let oldest = self.waiting.iter().position(|offer| offer.rules.iter().any(|rule| rules.contains(rule)))?;
        self.waiting.remove(oldest)
    }
}
