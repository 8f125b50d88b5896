//! The `[[token]]` rules: where tokens are carried.

use super::acceptance::Acceptance;
use super::conditions::Conditions;
use super::json::Pointer;
use super::pattern::Pattern;
use crate::route::{PathSet, Route, includes};
use http::{HeaderName, Method};
use std::time::Duration;

/// Which token a rule requires (`required`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Required {
    /// `true`: its own.
    Own,
    /// A name: its own, or that of another rule with the same name.
    Group(String),
}

/// One `[[token]]` of the configuration.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// The index of the rule, from 0.
    pub number: usize,
    /// Where the token is carried.
    pub place: Location,
    /// `paths`: the rule applies only there; `None` means everywhere.
    pub paths: Option<PathSet>,
    /// `except_paths`: the rule does not apply there.
    pub except: PathSet,
    /// `methods`: the rule applies only to requests with these; `None` means all.
    pub methods: Option<Vec<Method>>,
    /// `required`: a request without this token is refused.
    pub required: Option<Required>,
    /// `required_within`: a tunnel is closed that has sent no token within this time.
    pub required_within: Option<Duration>,
    /// `unknown = "refuse"`: only tokens pass that the app was seen to hand out.
    pub refuses_unknown: bool,
    /// `unknown_message`: the answer to an unknown token in a message. Without it the tunnel is closed.
    pub unknown_message: Option<String>,
    /// `format`: what a token looks like. Any other value is not one.
    pub format: Option<Pattern>,
    /// `ends`: a 2xx response ends the session (logout) instead of refreshing it.
    pub ends: bool,
    /// Which responses mean that the app accepted the token.
    pub accept: Acceptance,
}

impl TokenRule {
    /// The rule for tokens carried there, without further keys.
    #[must_use]
    pub fn new(place: Location) -> Self {
        Self {
            number: 0,
            place,
            paths: None,
            except: PathSet::default(),
            methods: None,
            required: None,
            required_within: None,
            refuses_unknown: false,
            unknown_message: None,
            format: None,
            ends: false,
            accept: Acceptance::default(),
        }
    }

    /// `from`: the kind of the rule.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.place {
            Location::Header(_) => "header",
            Location::Bearer => "bearer",
            Location::Cookie(_) => "cookie",
            Location::Query(_) => "query",
            Location::RequestJson(_) => "request-json",
            Location::ResponseJson(_) => "response-json",
            Location::WsClient { .. } => "ws-client",
            Location::WsServer { .. } => "ws-server",
        }
    }

    /// The rule for display, such as `token.0 (cookie sid)`.
    #[must_use]
    pub fn label(&self) -> String {
        let what = match &self.place {
            Location::Header(name) => format!(" {name}"),
            Location::Cookie(name) | Location::Query(name) => format!(" {name}"),
            Location::Bearer => String::new(),
            Location::RequestJson(pointer)
            | Location::ResponseJson(pointer)
            | Location::WsClient { pointer, .. }
            | Location::WsServer { pointer, .. } => format!(" {pointer}"),
        };
        format!("token.{} ({}{what})", self.number, self.kind())
    }

    /// Whether the rule applies to a request with this route. A path that can be read in several ways is covered if one
    /// reading is, and excepted only if all are.
    #[must_use]
    pub fn applies(&self, route: &Route) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.contains(&route.path))
            && !self.except.contains_every_reading(&route.path)
            && self.methods.as_ref().is_none_or(|methods| includes(methods, &route.method))
    }

    /// Whether a token that `other` found is one that this rule requires.
    pub(super) fn is_satisfied_by(&self, other: &Self) -> bool {
        let group = matches!(self.required, Some(Required::Group(_)));
        self.number == other.number || group && self.required == other.required
    }

    /// Whether the rule is for where the app issues tokens.
    #[must_use]
    pub fn is_issuing(&self) -> bool {
        matches!(self.place, Location::ResponseJson(_) | Location::WsServer { .. })
    }

    /// Whether the app issues tokens on every reading of this route, by this rule.
    pub(super) fn issues_on(&self, route: &Route) -> bool {
        self.is_issuing()
            && self.paths.as_ref().is_none_or(|paths| paths.contains_every_reading(&route.path))
            && self.applies(route)
    }
}

/// Where a token is carried (`from`).
#[derive(Clone, Debug)]
pub enum Location {
    /// `header`: the whole value of the request header `name`.
    Header(HeaderName),
    /// `bearer`: `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// `cookie`: the cookie `name`.
    Cookie(String),
    /// `query`: the parameter `name` of the query.
    Query(String),
    /// `request-json`: at `pointer` in a JSON request body.
    RequestJson(Pointer),
    /// `response-json`: at `pointer` in a 2xx JSON response, such as that of a login.
    ResponseJson(Pointer),
    /// `ws-client`: in a message of the client.
    WsClient {
        /// The location of the token in a message that matches `when`.
        pointer: Pointer,
        /// Which messages carry a token.
        when: Conditions,
        /// Which messages of the app accept the oldest token that has no answer yet.
        accept_when: Conditions,
        /// Which messages reject it.
        reject_when: Option<Conditions>,
    },
    /// `ws-server`: in a message of the app that issues the token.
    WsServer {
        /// The location of the token in a message that matches `when`.
        pointer: Pointer,
        /// Which messages carry a token.
        when: Conditions,
    },
}
