//! The unanswered offers of a tunnel, and the matching of answers to them.
//!
//! Answers do not say which offer they are for, so they match the offers in order. A malicious client can disturb this
//! order to make a junk token look like the accepted one: `{"type":"error"}` may answer a message that was no offer,
//! and the app may not answer an offer that it parses differently. An uncertain rejection therefore leaves a doubt. An
//! acceptance counts only if it is for the same token whichever way the doubts resolve.

use crate::session::SessionId;
use std::collections::VecDeque;

/// The maximum number of unanswered offers. A client with more is guessing tokens.
const MAX_OFFERS: usize = 64;

/// A token offered by the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The positions of the rules that matched it.
    pub(super) rules: Vec<usize>,
    /// The session ids of all tokens in it. An honest client sends exactly one token. There is no id if the client logs
    /// in with a password, or if the message could not be read.
    pub ids: Vec<SessionId>,
    /// Whether every parser reads the message in the same way, including that of the app.
    pub(super) certain: bool,
}

impl Offer {
    /// An offer in a message that could not be read.
    pub(super) fn unreadable(rules: Vec<usize>) -> Self {
        Self { rules, ids: Vec::new(), certain: false }
    }

    /// Whether an app may find a token in it that cannot be read here.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        !self.certain && self.ids.is_empty()
    }

    /// Whether every app finds a token in it.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.certain && !self.ids.is_empty()
    }

    /// The token that an acceptance of this offer would accept, if that is certain.
    fn only(&self) -> Option<SessionId> {
        match self.ids.as_slice() {
            [id] if self.certain => Some(*id),
            _ => None,
        }
    }
}

/// Offers that count as rejected but may still be accepted.
#[derive(Clone, Copy, Debug, Default)]
enum Doubt {
    #[default]
    None,
    One(SessionId),
    /// Several different tokens, or an unreadable offer.
    Several,
}

#[derive(Debug, Default)]
pub(super) struct Offers {
    waiting: VecDeque<Offer>,
    /// Whether the client sent a message that is no offer. A rejection may be the answer to it.
    other_sent: bool,
    doubt: Doubt,
}

impl Offers {
    /// Adds an offer. Returns `false` if too many are waiting.
    pub(super) fn add(&mut self, offer: Offer) -> bool {
        // Consecutive unreadable offers count as one: no acceptance is valid while one is waiting or after it was
        // rejected. So large messages that only look like offers do not exhaust the limit.
        if !offer.certain && offer.ids.is_empty() && self.waiting.back() == Some(&offer) {
            return true;
        }
        if self.waiting.len() >= MAX_OFFERS {
            return false;
        }
        self.waiting.push_back(offer);
        true
    }

    /// Whether any offer has no answer yet.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Records that the client sent a message that is no offer.
    pub(super) fn other_message(&mut self) {
        self.other_sent = true;
    }

    /// The app rejected an offer matched by one of these rules.
    pub(super) fn rejected(&mut self, rules: &[usize]) {
        let Some(offer) = self.oldest(rules) else { return };
        if self.other_sent || !offer.certain {
            self.doubt = match (self.doubt, offer.only()) {
                (Doubt::None, Some(id)) => Doubt::One(id),
                (Doubt::One(known), Some(id)) if known == id => Doubt::One(id),
                _ => Doubt::Several,
            };
        }
    }

    /// The app accepted an offer matched by one of these rules. Returns its token if only one token is possible.
    pub(super) fn accepted(&mut self, rules: &[usize]) -> Option<SessionId> {
        match (self.oldest(rules), self.doubt) {
            (Some(offer), Doubt::None) => offer.only(),
            (Some(offer), Doubt::One(id)) => offer.only().filter(|only| *only == id),
            (None, Doubt::One(id)) => Some(id),
            (None, Doubt::None) | (_, Doubt::Several) => None,
        }
    }

    /// Removes the oldest offer matched by one of these rules.
    fn oldest(&mut self, rules: &[usize]) -> Option<Offer> {
        let oldest = self.waiting.iter().position(|offer| offer.rules.iter().any(|rule| rules.contains(rule)))?;
        self.waiting.remove(oldest)
    }
}
