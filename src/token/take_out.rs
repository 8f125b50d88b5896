//! Removes tokens from a request that the app must not see.

use super::http::{PARAMETER_SEPARATORS, TokenMatch, TokenRules, cookie, is_spelling_of, parameter, text};
use super::{Location, Token, TokenRule};
use crate::session::SessionId;
use ::http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request, uri::PathAndQuery};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl TokenMatch {
    /// All rules that found the token.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<TokenRule>> {
        std::iter::once(&self.rule).chain(&self.also)
    }

    /// Whether the token can be removed wherever it was found, without changing the rest of the request.
    #[must_use]
    pub fn can_be_taken_out(&self) -> bool {
        let is_removable = |rule: &Arc<TokenRule>| {
            matches!(rule.place, Location::Cookie(_) | Location::Header(_) | Location::Query(_))
        };
        !self.loose && self.rules().all(is_removable)
    }
}

impl TokenRules {
    /// Removes these tokens from the head of a request: every cookie, header field and query parameter that a rule
    /// reads as one of them. Everything else keeps its bytes and its order.
    pub fn take_out(&self, head: &mut request::Parts, unwanted: &[TokenMatch]) {
        let mut by_rule: HashMap<usize, (&Location, HashSet<SessionId>)> = HashMap::new();
        for (token, rule) in unwanted.iter().flat_map(|token| token.rules().map(move |rule| (token, rule))) {
            let (_, ids) = by_rule.entry(rule.number).or_insert_with(|| (&rule.place, HashSet::new()));
            ids.insert(token.id);
        }
        for (place, ids) in by_rule.into_values() {
            let is_unwanted =
                |token: Option<Token>| token.is_some_and(|token| ids.contains(&token.session_id(&self.ids)));
            match place {
                Location::Cookie(name) => rewrite_cookies(&mut head.headers, |pair| !is_unwanted(cookie(pair, name))),
                Location::Header(name) => rewrite_fields(&mut head.headers, |other, value| {
                    let is_dropped = is_spelling_of(name, other) && is_unwanted(Token::new(&text(value.as_bytes())));
                    (!is_dropped).then(|| value.clone())
                }),
                Location::Query(name) => rewrite_query(&mut head.uri, |pair| !is_unwanted(parameter(pair, name))),
                Location::Bearer
                | Location::RequestJson(_)
                | Location::ResponseJson(_)
                | Location::WsClient { .. }
                | Location::WsServer { .. } => {}
            }
        }
    }
}

/// Keeps only the wanted pairs in each `Cookie` field. Removes a field without pairs.
fn rewrite_cookies(headers: &mut HeaderMap, is_wanted: impl Fn(&str) -> bool) {
    rewrite_fields(headers, |name, value| {
        if *name != header::COOKIE || text(value.as_bytes()).split(';').all(&is_wanted) {
            return Some(value.clone());
        }
        // Compare the decoded pair, but keep the bytes as sent.
        let pairs = value.as_bytes().split(|byte| *byte == b';').filter(|pair| is_wanted(&text(pair)));
        let line = pairs.collect::<Vec<_>>().join(&b';');
        HeaderValue::from_bytes(line.trim_ascii()).ok().filter(|line| !line.is_empty())
    });
}

/// Keeps the fields for which `edit` returns a value, in their order.
fn rewrite_fields(headers: &mut HeaderMap, edit: impl Fn(&HeaderName, &HeaderValue) -> Option<HeaderValue>) {
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter() {
        if let Some(value) = edit(name, value) {
            kept.append(name, value);
        }
    }
    *headers = kept;
}

/// Keeps only the wanted pairs in the query, each with the separator after it.
fn rewrite_query(uri: &mut Uri, is_wanted: impl Fn(&str) -> bool) {
    let Some(query) = uri.query() else { return };
    let mut kept = String::new();
    for piece in query.split_inclusive(PARAMETER_SEPARATORS) {
        if is_wanted(piece.trim_end_matches(PARAMETER_SEPARATORS)) {
            kept.push_str(piece);
        }
    }
    // If the last pair was removed, remove the separator before it.
    if !query.ends_with(PARAMETER_SEPARATORS) {
        kept.truncate(kept.trim_end_matches(PARAMETER_SEPARATORS).len());
    }
    let target = if kept.is_empty() { uri.path().to_owned() } else { format!("{}?{kept}", uri.path()) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(target).ok();
    // A valid target stays valid when pairs are removed.
    if let Ok(shorter) = Uri::from_parts(parts) {
        *uri = shorter;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_parameters_leave_the_rest_of_the_query_as_it_was() {
        for (before, after) in [
            ("/a?t=x", "/a"),
            ("/a?t=x&b=1", "/a?b=1"),
            ("/a?b=1&t=x", "/a?b=1"),
            ("/a?b=1&t=x;c=%20&t=y&d", "/a?b=1&t=y&d"),
            ("/a?b=1&&c=2", "/a?b=1&&c=2"),
            ("/a?b=1&t=x&", "/a?b=1&"),
            ("http://host/a?t=x&b=1", "http://host/a?b=1"),
            ("/a", "/a"),
        ] {
            let mut uri: Uri = before.parse().unwrap();
            rewrite_query(&mut uri, |pair| pair != "t=x" && pair != "c=%20");
            assert_eq!(uri.to_string(), after, "{before}");
        }
    }
}
