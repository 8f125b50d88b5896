//! `required`: requests that must carry a token.

use super::{Location, TokenMatch, TokenRule, TokenRules};
use crate::route::{PathSet, Route};
use ::http::{HeaderMap, Method, header, request};
use memchr::memmem;
use std::sync::Arc;

/// Whether one of these tokens is one that this rule requires.
fn is_satisfied(rule: &TokenRule, matches: &[TokenMatch]) -> bool {
    let certain = matches.iter().filter(|token_match| !token_match.loose);
    certain.flat_map(TokenMatch::rules).any(|found| rule.is_satisfied_by(found))
}

/// The rules that require a token of one request.
#[derive(Debug)]
pub(crate) struct Requirements<'h> {
    rules: Vec<Arc<TokenRule>>,
    headers: &'h HeaderMap,
}

impl<'h> Requirements<'h> {
    /// The rules that require a token of this request. None does of a preflight, which has no credentials; at the
    /// `logins`; or where the app issues tokens. A client must get there without one.
    pub(crate) fn of(all: &TokenRules, route: &Route, head: &'h request::Parts, logins: &PathSet) -> Self {
        let mut rules: Vec<_> = all.applying(route).filter(|rule| rule.required.is_some()).cloned().collect();
        let is_free = || {
            is_preflight(head)
                || logins.contains_every_reading(&route.path)
                || all.applying(route).any(|rule| rule.issues_on(route))
        };
        if !rules.is_empty() && is_free() {
            rules.clear();
        }
        Self { rules, headers: &head.headers }
    }

    /// The first of them without its token.
    pub(crate) fn missing(&self, matches: &[TokenMatch]) -> Option<&TokenRule> {
        self.rules.iter().find(|rule| !is_satisfied(rule, matches)).map(Arc::as_ref)
    }

    /// The cookies of these rules, if the request has anything by their names. A browser that only kept its cookie back,
    /// as after a link on another site, must not lose it.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for rule in &self.rules {
            let Location::Cookie(name) = &rule.place else { continue };
            let mut fields = self.headers.get_all(header::COOKIE).into_iter();
            if !names.contains(name) && fields.any(|field| memmem::find(field.as_bytes(), name.as_bytes()).is_some()) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Whether it is a CORS preflight, as browsers send them: without credentials (Fetch §4.8). With credentials an app
/// could take it for an ordinary request.
fn is_preflight(head: &request::Parts) -> bool {
    let has = |name| head.headers.contains_key(name);
    head.method == Method::OPTIONS
        && has(header::ORIGIN)
        && has(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !has(header::COOKIE)
        && !has(header::AUTHORIZATION)
}

#[cfg(test)]
mod tests;
