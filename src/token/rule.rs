//! The `[[token]]` rules: where tokens are carried.

use super::acceptance::Acceptance;
use super::conditions::Conditions;
use super::json::Pointer;
use crate::route::{NormalPath, PathSet};
use http::HeaderName;

/// One `[[token]]` of the configuration.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// The index of the rule, from 0.
    pub number: usize,
    /// Where the token is carried.
    pub place: Location,
    /// `paths`: the rule applies only there; `None` means everywhere.
    pub paths: Option<PathSet>,
    /// `ends`: a 2xx response ends the session (logout) instead of refreshing it.
    pub ends: bool,
    /// Which responses mean that the app accepted the token.
    pub accept: Acceptance,
}

impl TokenRule {
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

    /// Whether the rule applies to `path`.
    #[must_use]
    pub fn applies(&self, path: &NormalPath) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.contains(path))
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
