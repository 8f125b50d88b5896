//! Tokens in the messages of a tunnel: which were offered, and what the app answered.
//!
//! The client offers a token, the app accepts or rejects it some messages later, and answers carry no number. So
//! offers wait in a queue and answers match them in order. An offer that cannot be read still takes its place in the
//! queue: else the answer to it would be taken for the answer to the next one, and a dead token could hide behind it.

use super::http::token_of;
use super::json::{self, Found, Pointer};
use super::{Conditions, Place, Scalar, TokenRule};
use crate::route::NormalPath;
use crate::session::SessionId;
use memchr::memmem::Finder;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many offers may wait for an answer. A client that offers more is guessing tokens.
const OFFERS_AT_MOST: usize = 64;

/// The rules for the messages of tunnels, ready for use.
#[derive(Clone, Debug)]
pub struct InBandRules(Vec<Arc<Prepared>>);

#[derive(Debug)]
struct Prepared {
    rule: Arc<TokenRule>,
    /// Looks for what every message that `when` means must contain, before anything is parsed.
    when: Literal,
    accept: Option<Literal>,
    reject: Option<Literal>,
}

/// What the client says in a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage {
    /// Nothing about tokens.
    Other,
    /// It offers a token: these session ids were found, none where it could not be read.
    Offer(Offer),
}

/// A token offered by the client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Which rules saw it, by their positions.
    rules: Vec<usize>,
    /// The session ids of all tokens in it. Exactly one in the message of an honest client that sends a token; none
    /// where it logs in with a password, or the message could not be read.
    pub ids: Vec<SessionId>,
}

/// What the app says in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerMessage {
    /// Nothing about tokens.
    Other,
    /// It accepts this token, or issues it.
    Accepted(SessionId),
    /// It accepts something that was not recognised as a token.
    Unrecognised,
}

impl InBandRules {
    pub(super) fn new(rules: &[Arc<TokenRule>]) -> Self {
        Self(rules.iter().filter_map(|rule| Prepared::new(rule).map(Arc::new)).collect())
    }

    pub(super) fn applying(&self, path: &NormalPath) -> Self {
        Self(self.0.iter().filter(|prepared| prepared.rule.applies(path)).cloned().collect())
    }

    /// Whether there is no rule at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the client's messages must be examined.
    #[must_use]
    pub fn examine_client(&self) -> bool {
        self.0.iter().any(|prepared| matches!(prepared.rule.place, Place::WsClient { .. }))
    }

    /// Whether the app's messages must be examined.
    #[must_use]
    pub fn examine_server(&self) -> bool {
        !self.is_empty()
    }
}

impl Prepared {
    fn new(rule: &Arc<TokenRule>) -> Option<Self> {
        let (when, accept, reject) = match &rule.place {
            Place::WsClient { when, accept_when, reject_when, .. } => {
                (when, Some(Literal::of(accept_when)), reject_when.as_ref().map(Literal::of))
            }
            Place::WsServer { when, .. } => (when, None, None),
            _ => return None,
        };
        Some(Self { rule: Arc::clone(rule), when: Literal::of(when), accept, reject })
    }
}

/// The offers of one tunnel.
#[derive(Debug)]
pub struct InBand {
    rules: InBandRules,
    waiting: VecDeque<Offer>,
}

impl InBand {
    /// A tunnel on which nothing was offered yet.
    #[must_use]
    pub fn new(rules: InBandRules) -> Self {
        Self { rules, waiting: VecDeque::new() }
    }

    /// Examines a whole message of the client. Changes nothing: an offer that may pass is then [`InBand::offered`].
    #[must_use]
    pub fn client_message(&self, message: &[u8]) -> ClientMessage {
        let mut offer = Offer { rules: Vec::new(), ids: Vec::new() };
        for (position, prepared) in self.rules.0.iter().enumerate() {
            let Place::WsClient { pointer, when, .. } = &prepared.rule.place else { continue };
            if !prepared.when.may_be_in(message) {
                continue;
            }
            match read(message, when, Some(pointer)) {
                Read::Holds(tokens) => {
                    offer.rules.push(position);
                    offer.ids.extend(tokens);
                }
                // Not JSON to us, yet it contains what a token's message contains: an app that can read it may
                // accept it.
                Read::NotJson => offer.rules.push(position),
                Read::Other => {}
            }
        }
        offer.ids.sort_unstable();
        offer.ids.dedup();
        if offer.rules.is_empty() { ClientMessage::Other } else { ClientMessage::Offer(offer) }
    }

    /// A piece of a message too long to be examined as a whole. Where it may offer a token, the offer that cannot be
    /// read.
    #[must_use]
    pub fn client_piece(&self, piece: &[u8]) -> Option<Offer> {
        let spotted = self.rules.0.iter().enumerate().filter(|(_, prepared)| {
            matches!(prepared.rule.place, Place::WsClient { .. }) && prepared.when.is_written_in(piece)
        });
        let rules: Vec<usize> = spotted.map(|(position, _)| position).collect();
        (!rules.is_empty()).then(|| Offer { rules, ids: Vec::new() })
    }

    /// How many bytes of one piece must be seen again with the next, so that nothing is missed between them.
    #[must_use]
    pub fn overlap(&self) -> usize {
        self.rules.0.iter().map(|prepared| prepared.when.length()).max().unwrap_or(0)
    }

    /// The client's offer is passed on to the app. `false` where too many wait for an answer: the tunnel is to be
    /// refused.
    #[must_use]
    pub fn offered(&mut self, offer: Offer) -> bool {
        if self.waiting.len() >= OFFERS_AT_MOST {
            return false;
        }
        self.waiting.push_back(offer);
        true
    }

    /// Examines a whole message of the app, which may answer the oldest offer.
    pub fn server_message(&mut self, message: &[u8]) -> ServerMessage {
        let mut issued = None;
        let (mut accepting, mut rejecting) = (Vec::new(), Vec::new());
        for (position, prepared) in self.rules.0.iter().enumerate() {
            match &prepared.rule.place {
                Place::WsServer { pointer, when } if prepared.when.may_be_in(message) => {
                    if let Read::Holds(tokens) = read(message, when, Some(pointer)) {
                        issued = issued.or(tokens.first().copied());
                    }
                }
                Place::WsClient { accept_when, reject_when, .. } => {
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
            let answered = self.answered(&accepting);
            return match (issued, answered.as_ref().map(|offer| offer.ids.as_slice())) {
                (Some(id), _) => ServerMessage::Accepted(id),
                (None, Some([id])) => ServerMessage::Accepted(*id),
                // Nothing readable was offered, or several tokens at once and nobody knows which the app took.
                (None, _) => ServerMessage::Unrecognised,
            };
        }
        if !rejecting.is_empty() {
            self.answered(&rejecting);
        }
        issued.map_or(ServerMessage::Other, ServerMessage::Accepted)
    }

    /// Takes the oldest offer that one of these rules saw.
    fn answered(&mut self, rules: &[usize]) -> Option<Offer> {
        let oldest = self.waiting.iter().position(|offer| offer.rules.iter().any(|rule| rules.contains(rule)))?;
        self.waiting.remove(oldest)
    }
}

/// What a message is to a rule.
enum Read {
    Holds(Vec<SessionId>),
    Other,
    NotJson,
}

/// Reads the tokens at `pointer` in a message that `when` means.
fn read(message: &[u8], when: &Conditions, pointer: Option<&Pointer>) -> Read {
    let wanted: Vec<&Pointer> = when.0.iter().map(|(place, _)| place).chain(pointer).collect();
    let Ok(found) = json::find(message, &wanted) else { return Read::NotJson };
    let hold = when.0.iter().zip(&found).all(|((_, scalar), values)| json::matches(values, scalar));
    if !hold {
        return Read::Other;
    }
    let values: &[Found] = found.get(when.0.len()).map_or(&[], Vec::as_slice);
    Read::Holds(values.iter().filter_map(token_of).map(|token| token.session_id()).collect())
}

fn says(message: &[u8], literal: Option<&Literal>, when: Option<&Conditions>) -> bool {
    let (Some(literal), Some(when)) = (literal, when) else { return false };
    literal.may_be_in(message) && matches!(read(message, when, None), Read::Holds(_))
}

/// Text that every message meant by some conditions contains: a string in its quotes, as it stands in JSON.
///
/// With its quotes it is not found in a program text that merely contains the word: there the quotes are escaped.
#[derive(Debug)]
struct Literal(Option<Finder<'static>>);

impl Literal {
    fn of(conditions: &Conditions) -> Self {
        let strings = conditions.0.iter().filter_map(|(_, scalar)| match scalar {
            Scalar::Text(text) => Some(text.as_str()),
            Scalar::Number(_) | Scalar::Bool(_) => None,
        });
        let keys = conditions.0.iter().filter_map(|(pointer, _)| pointer.segments().last().map(String::as_str));
        // Keys come second: `"type"` is in every message. One that is a number may be an array index, without quotes.
        let keys = keys.filter(|key| key.parse::<usize>().is_err());
        let plain = strings.chain(keys).find(|text| text.bytes().all(is_written_plainly));
        Self(plain.map(|text| Finder::new(&format!("\"{text}\"")).into_owned()))
    }

    /// Whether a message may be meant; it is parsed then. `\u0061` could spell any of the letters.
    fn may_be_in(&self, message: &[u8]) -> bool {
        self.0.is_none() || self.is_written_in(message)
    }

    fn is_written_in(&self, text: &[u8]) -> bool {
        let Some(finder) = &self.0 else { return false };
        let text = without_nul(text);
        finder.find(&text).is_some() || escapes_one_of(finder.needle(), &text)
    }

    /// How long it is, and an escape at the least.
    fn length(&self) -> usize {
        self.0.as_ref().map_or(0, |finder| finder.needle().len()).max(6)
    }
}

/// Characters that JSON writers do not escape, none of them.
fn is_written_plainly(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'/')
}

/// UTF-16 and UTF-32, which Python's json.loads takes from a binary message, are ASCII with NULs in between.
fn without_nul(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(0, text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.iter().copied().filter(|byte| *byte != 0).collect())
}

/// Whether one of these letters is written as `\u00xx`, which nobody does but to hide it.
fn escapes_one_of(letters: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\\u00").any(|at| {
        let digits = text.get(at + 4..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(|byte| letters.contains(&byte))
    })
}
