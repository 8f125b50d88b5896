//! `[[ignore]]`: requests and messages that are not activity, since a page or a client library sends them by itself.
//!
//! A rule that ignores too much cuts people who work. So whatever cannot be decided counts as activity: a path that can be
//! read in several ways, a body or message that is too long, a compressed one.

mod message;
mod request;
#[cfg(test)]
mod tests;

pub use message::{MAX_MESSAGE_BYTES, Message, MessageMatch, MessageRules};
pub use request::RequestMatch;

use crate::route::{PathSet, Route};
use crate::websocket::Side;
use http::request::Parts;
use parking_lot::Mutex;
use std::sync::Arc;

/// How many rules there may be, those of presets included.
pub const MAX_RULES: usize = 250;

/// One `[[ignore]]` of the configuration, or of a preset.
#[derive(Clone, Debug)]
pub struct IgnoreRule {
    /// `name`, or the name of the preset, or `ignore.N`.
    pub name: String,
    /// `paths`: the rule applies only there; for messages, the path of the handshake. `None` means everywhere.
    pub paths: Option<PathSet>,
    /// What is ignored.
    pub what: Ignored,
}

/// What a rule ignores.
#[derive(Clone, Debug)]
pub enum Ignored {
    /// Requests.
    Request(RequestMatch),
    /// WebSocket messages of this side.
    Message(Side, MessageMatch),
}

impl IgnoreRule {
    /// Whether the rule applies to every reading of this path.
    fn applies(&self, route: &Route) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.contains_every_reading(&route.path))
    }
}

/// How many sets of rules for messages are shared by the tunnels they apply to. Paths decide which rules those are.
const MAX_SETS: usize = 64;

/// All rules. A rule is known by its position.
#[derive(Default, Debug)]
pub struct IgnoreRules {
    rules: Vec<IgnoreRule>,
    /// The rules for messages of one side, which all tunnels share that have the same.
    sets: Mutex<Vec<(Side, Arc<MessageRules>)>>,
}

/// Whether a request is ignored, by what its head tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ByHead {
    /// No rule applies.
    Counts,
    /// This rule ignores it.
    Ignored(usize),
    /// One of these rules ignores it if its `json` holds in the body.
    AsksBody(Vec<usize>),
}

impl IgnoreRules {
    /// Prepares rules for use.
    #[must_use]
    pub fn new(rules: Vec<IgnoreRule>) -> Self {
        Self { rules, sets: Mutex::default() }
    }

    /// The names of the rules, by position.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.rules.iter().map(|rule| rule.name.clone()).collect()
    }

    /// Whether a request is ignored, by what its head tells.
    #[must_use]
    pub fn by_head(&self, route: &Route, head: &Parts) -> ByHead {
        let mut asking = Vec::new();
        for (position, rule) in self.rules.iter().enumerate() {
            let Ignored::Request(request) = &rule.what else { continue };
            if !rule.applies(route) || !request.matches(head) {
                continue;
            }
            if request.json.is_none() {
                return ByHead::Ignored(position);
            }
            asking.push(position);
        }
        if asking.is_empty() { ByHead::Counts } else { ByHead::AsksBody(asking) }
    }

    /// The first of these rules whose `json` holds in the body.
    #[must_use]
    pub fn by_body(&self, asking: &[usize], body: &[u8]) -> Option<usize> {
        asking.iter().copied().find(|position| match self.rules.get(*position).map(|rule| &rule.what) {
            Some(Ignored::Request(request)) => request.json.as_ref().is_some_and(|json| json.hold_in(body)),
            _ => false,
        })
    }

    /// The rules for the messages of one side on a WebSocket with this route, if there are any.
    #[must_use]
    pub fn for_messages(&self, route: &Route, side: Side) -> Option<Arc<MessageRules>> {
        let rules = self.rules.iter().enumerate().filter(|(_, rule)| rule.applies(route));
        let rules = rules.filter_map(|(position, rule)| match &rule.what {
            Ignored::Message(from, message) if *from == side => Some((position, message)),
            _ => None,
        });
        let rules: Vec<_> = rules.collect();
        if rules.is_empty() {
            return None;
        }
        let mut sets = self.sets.lock();
        let is_this = |set: &MessageRules| set.positions().eq(rules.iter().map(|(position, _)| *position));
        if let Some((_, set)) = sets.iter().find(|(of, set)| *of == side && is_this(set)) {
            return Some(Arc::clone(set));
        }
        let cloned = rules.into_iter().map(|(position, message)| (position, message.clone()));
        let set = Arc::new(MessageRules::new(cloned.collect())?);
        if sets.len() < MAX_SETS {
            sets.push((side, Arc::clone(&set)));
        }
        Some(set)
    }
}
