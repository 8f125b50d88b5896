//! Tokens in the messages of a tunnel: which were offered, and what the app answered.
//!
//! The client offers a token, and the app accepts or rejects it some messages later. Answers do not say which offer
//! they are for, so offers wait in a queue and answers match them in order. An unreadable offer also takes a place in
//! the queue. Otherwise the answer to it would match the next offer, and a dead token could pass as accepted.

mod literal;
mod offers;
mod plain;
#[cfg(test)]
mod tests;

pub use offers::Offer;

use super::http::reading_of;
use super::json::{self, JsonValue, Pointer};
use super::reading::Reading;
use super::{Conditions, Location, TokenRule};
use crate::route::Route;
use crate::session::{SessionId, SessionIds};
use literal::Literal;
use offers::Offers;
use plain::is_plain;
use std::sync::Arc;

/// The rules for messages in tunnels, prepared for use.
#[derive(Clone, Default, Debug)]
pub struct InBandRules(Vec<Arc<Prepared>>);

#[derive(Debug)]
struct Prepared {
    rule: Arc<TokenRule>,
    ids: SessionIds,
    /// A text that every message matching `when` contains. It is searched for before anything is parsed.
    when: Literal,
    accept: Option<Literal>,
    reject: Option<Literal>,
}

/// What a message of the client means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage {
    /// Nothing about tokens.
    Other,
    /// An offered token. The offer has no session ids if the message could not be read.
    Offer(Offer),
}

/// What a message of the app means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// Nothing about tokens.
    Other,
    /// It accepts this token.
    Accepted(SessionId),
    /// It hands this token out.
    Issued(SessionId),
    /// It accepts something that was not recognised as a token.
    Unrecognised,
}

impl InBandRules {
    pub(super) fn new(rules: &[Arc<TokenRule>], ids: &SessionIds) -> Self {
        Self(rules.iter().filter_map(|rule| Prepared::new(rule, ids).map(Arc::new)).collect())
    }

    pub(super) fn applying(&self, route: &Route) -> Self {
        Self(self.0.iter().filter(|prepared| prepared.rule.applies(route)).cloned().collect())
    }

    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rule with the shortest `required_within`, if any has one.
    #[must_use]
    pub fn requiring(&self) -> Option<&Arc<TokenRule>> {
        let requiring = self.0.iter().filter(|prepared| prepared.rule.required_within.is_some());
        requiring.min_by_key(|prepared| prepared.rule.required_within).map(|prepared| &prepared.rule)
    }

    /// Whether the client's messages must be examined.
    #[must_use]
    pub fn examine_client(&self) -> bool {
        self.0.iter().any(|prepared| matches!(prepared.rule.place, Location::WsClient { .. }))
    }

    /// Whether the app's messages must be examined.
    #[must_use]
    pub fn examine_server(&self) -> bool {
        !self.is_empty()
    }
}

impl Prepared {
    fn new(rule: &Arc<TokenRule>, ids: &SessionIds) -> Option<Self> {
        let (when, accept, reject) = match &rule.place {
            Location::WsClient { when, accept_when, reject_when, .. } => {
                (when, Some(Literal::of(accept_when)), reject_when.as_ref().map(Literal::of))
            }
            Location::WsServer { when, .. } => (when, None, None),
            _ => return None,
        };
        Some(Self { rule: Arc::clone(rule), ids: ids.clone(), when: Literal::of(when), accept, reject })
    }
}

/// The state of tokens on one tunnel.
#[derive(Debug)]
pub struct InBand {
    rules: InBandRules,
    offers: Offers,
    /// Whether the current long message was found to be an offer.
    spotted: bool,
    /// Whether a possibly missed answer was already reported.
    missed: bool,
}

impl InBand {
    /// A tunnel on which nothing was offered yet.
    #[must_use]
    pub fn new(rules: InBandRules) -> Self {
        Self { rules, offers: Offers::default(), spotted: false, missed: false }
    }

    /// The numbers of the rules that found an offer.
    pub fn rules_of<'a>(&'a self, offer: &'a Offer) -> impl Iterator<Item = usize> + 'a {
        offer.rules.iter().filter_map(|position| self.rules.0.get(*position)).map(|prepared| prepared.rule.number)
    }

    /// The first rule for the client's messages that refuses unknown tokens.
    #[must_use]
    pub fn first_refusing(&self) -> Option<&Arc<TokenRule>> {
        self.rules.0.iter().map(|prepared| &prepared.rule).find(|rule| rule.refuses_unknown)
    }

    /// The rule that refuses unknown tokens, of those that found an offer.
    #[must_use]
    pub fn refusing(&self, offer: &Offer) -> Option<&Arc<TokenRule>> {
        let rules = offer.rules.iter().filter_map(|position| self.rules.0.get(*position));
        rules.map(|prepared| &prepared.rule).find(|rule| rule.refuses_unknown)
    }

    /// Examines a complete message of the client. If an offer is forwarded, call [`InBand::offered`] with it.
    pub fn client_message(&mut self, message: &[u8]) -> ClientMessage {
        let mut offer = Offer { rules: Vec::new(), ids: Vec::new(), certain: true };
        let mut has_format = true;
        for (position, prepared) in self.rules.0.iter().enumerate() {
            let Location::WsClient { pointer, when, .. } = &prepared.rule.place else { continue };
            if !prepared.when.may_be_in(message) {
                continue;
            }
            match prepared.read(message, when, pointer) {
                Read::Holds(readings) => {
                    offer.rules.push(position);
                    has_format &= readings.iter().all(|reading| !reading.loose);
                    offer.ids.extend(readings.iter().map(|reading| reading.token.session_id(&prepared.ids)));
                }
                // Not valid JSON, but it contains the text of an offer. A more lenient app may read and accept it.
                Read::NotJson => offer.rules.push(position),
                Read::Other => {}
            }
        }
        if offer.rules.is_empty() {
            self.offers.other_message();
            return ClientMessage::Other;
        }
        offer.ids.sort_unstable();
        offer.ids.dedup();
        offer.certain = has_format && is_plain(message);
        ClientMessage::Offer(offer)
    }

    /// Examines the next piece of a message that is too long to examine as a whole. Returns up to one offer per
    /// message. Its token is unknown. `last` marks the last piece.
    pub fn client_piece(&mut self, piece: &[u8], last: bool) -> Option<Offer> {
        let mut rules = Vec::new();
        if !self.spotted {
            let client = |prepared: &Prepared| matches!(prepared.rule.place, Location::WsClient { .. });
            let spotted = self.rules.0.iter().enumerate();
            let spotted = spotted.filter(|(_, prepared)| client(prepared) && prepared.when.may_be_in(piece));
            rules.extend(spotted.map(|(position, _)| position));
            self.spotted = !rules.is_empty();
        }
        if last {
            // The message may also be something other than an offer.
            self.offers.other_message();
            self.spotted = false;
        }
        (!rules.is_empty()).then(|| Offer::unreadable(rules))
    }

    /// How many bytes of a piece must be repeated with the next one, so that a match across the border is found.
    #[must_use]
    pub fn overlap(&self) -> usize {
        self.rules.0.iter().map(|prepared| prepared.when.length()).max().unwrap_or(0)
    }

    /// Adds an offer that is forwarded to the app. Returns `false` if too many are waiting: the tunnel must be refused.
    #[must_use]
    pub fn offered(&mut self, offer: Offer) -> bool {
        self.offers.add(offer)
    }

    /// The app sends a message that is too long to examine. Returns `true` once if it may be the answer to an offer,
    /// whose session is then not tracked. The caller reports this.
    #[must_use]
    pub fn server_piece(&mut self) -> bool {
        self.offers.are_waiting() && !std::mem::replace(&mut self.missed, true)
    }

    /// Examines a complete message of the app. It may answer the oldest offer.
    pub fn server_message(&mut self, message: &[u8]) -> ServerMessage {
        let mut issued = None;
        let (mut accepting, mut rejecting) = (Vec::new(), Vec::new());
        for (position, prepared) in self.rules.0.iter().enumerate() {
            match &prepared.rule.place {
                Location::WsServer { pointer, when } if prepared.when.may_be_in(message) => {
                    if let Read::Holds(readings) = prepared.read(message, when, pointer) {
                        let mut certain = readings.iter().filter(|reading| !reading.loose);
                        issued = issued.or(certain.next().map(|reading| reading.token.session_id(&prepared.ids)));
                    }
                }
                Location::WsClient { accept_when, reject_when, .. } => {
                    if says(message, prepared.accept.as_ref(), Some(accept_when)) {
                        accepting.push(position);
                    } else if says(message, prepared.reject.as_ref(), reject_when.as_ref()) {
                        rejecting.push(position);
                    }
                }
                _ => {}
            }
        }
        if !accepting.is_empty() {
            let accepted = self.offers.accepted(&accepting);
            // If more than one token may have been offered, it is unknown which one the app accepted.
            return match (issued, accepted) {
                (Some(id), _) => ServerMessage::Issued(id),
                (None, Some(id)) => ServerMessage::Accepted(id),
                (None, None) => ServerMessage::Unrecognised,
            };
        }
        if !rejecting.is_empty() {
            self.offers.rejected(&rejecting);
        }
        issued.map_or(ServerMessage::Other, ServerMessage::Issued)
    }
}

/// What a message is to a rule.
enum Read {
    Holds(Vec<Reading>),
    Other,
    NotJson,
}

impl Prepared {
    /// Reads the tokens at `pointer` in a message that matches `when`.
    fn read(&self, message: &[u8], when: &Conditions, pointer: &Pointer) -> Read {
        let wanted: Vec<&Pointer> = when.pointers().chain([pointer]).collect();
        let Ok(found) = json::find(message, &wanted) else { return Read::NotJson };
        if !when.hold(&found) {
            return Read::Other;
        }
        let values: &[JsonValue] = found.get(when.0.len()).map_or(&[], Vec::as_slice);
        Read::Holds(values.iter().filter_map(|value| reading_of(value, &self.rule)).collect())
    }
}

fn says(message: &[u8], literal: Option<&Literal>, when: Option<&Conditions>) -> bool {
    let (Some(literal), Some(when)) = (literal, when) else { return false };
    literal.may_be_in(message) && when.hold_in(message)
}
