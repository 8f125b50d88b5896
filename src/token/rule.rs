//! The rules of the configuration: where tokens are carried.

use super::acceptance::Acceptance;
use super::conditions::Conditions;
use super::json::Pointer;
use crate::route::{NormalPath, PathSet};
use http::HeaderName;

/// One `[[token]]` of the configuration.
#[derive(Clone, Debug)]
pub struct TokenRule {
    /// Which of the rules it is, counted from 0.
    pub number: usize,
    /// Where the token is carried.
    pub place: Location,
    /// `paths`: the rule applies only there; `None` means everywhere.
    pub paths: Option<PathSet>,
    /// `ends`: a 2xx answer ends the session (logout) instead of refreshing it.
    pub ends: bool,
    /// Which answers mean that the app accepted the token.
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

    /// The rule as people know it: `token.0 (cookie sid)`.
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
    /// `response-json`: at `pointer` in a JSON answer with status 2xx: a login.
    ResponseJson(Pointer),
    /// `ws-client`: in a message of the client.
    WsClient {
        /// Where the token stands in a message that `when` means.
        pointer: Pointer,
        /// Which messages carry a token.
        when: Conditions,
        /// Which message of the app accepts the oldest token not yet answered.
        accept_when: Conditions,
        /// Which one rejects it.
        reject_when: Option<Conditions>,
    },
    /// `ws-server`: in a message of the app, which so issues the token.
    WsServer {
        /// Where the token stands in a message that `when` means.
        pointer: Pointer,
        /// Which messages carry a token.
        when: Conditions,
    },
}
