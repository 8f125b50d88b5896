//! Removes tokens from a request that the app must not see.

use super::http::{PARAMETER_SEPARATORS, TokenMatch, TokenRules, cookie, is_spelling_of, parameter, text};
use super::{Location, Token, TokenRule};
use crate::route::Route;
use crate::session::SessionId;
use ::http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
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

impl TokenRules {
    /// Removes what an app may read as a token of a rule that refuses unknown ones, and what is none of the `admitted` tokens:
    /// every cookie and query parameter that carries the rule's name in some form. So beside a live token no other one reaches
    /// the app.
    pub fn keep_admitted(&self, route: &Route, head: &mut request::Parts, admitted: &[SessionId]) {
        for rule in self.applying(route).filter(|rule| rule.refuses_unknown) {
            let is_admitted =
                |token: Option<Token>| token.is_some_and(|token| admitted.contains(&token.session_id(&self.ids)));
            match &rule.place {
                Location::Cookie(name) => {
                    rewrite_cookies(&mut head.headers, |pair| {
                        !mentions(pair, name) || is_plain(pair, name) && is_admitted(cookie(pair, name))
                    });
                }
                Location::Query(name) => rewrite_query(&mut head.uri, |pair| {
                    !is_form_of(pair.split('=').next().unwrap_or_default(), name) || is_admitted(parameter(pair, name))
                }),
                _ => {}
            }
        }
    }
}

/// As PHP sees a name: these characters become an underscore.
fn mangled(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    name.chars().map(|c| if matches!(c, '.' | ' ' | '+' | '[' | '\t') { '_' } else { c }).collect()
}

/// Whether a parameter's name may be read as `name`: in another case, mangled, as a list, or percent-encoded.
fn is_form_of(key: &str, name: &str) -> bool {
    let decoded = percent_decode_str(key).decode_utf8_lossy();
    let outside_brackets = decoded.split('[').next().unwrap_or_default();
    let whole_or_list = [decoded.as_ref(), outside_brackets].map(mangled);
    whole_or_list.iter().any(|key| key.trim_start_matches('_') == mangled(name).trim_start_matches('_'))
}

/// Whether a pair is the cookie `name`, written plainly, and nothing else.
fn is_plain(pair: &str, name: &str) -> bool {
    let value = pair.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
    value.is_some_and(|value| !value.contains([' ', '\t', ',']))
}

/// Whether an app may find the cookie `name` in a pair: anywhere before a `=`, in another case or mangled.
fn mentions(pair: &str, name: &str) -> bool {
    let (pair, name) = (mangled(pair), mangled(name));
    let is_inside = |before: Option<char>| before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-');
    pair.match_indices(&name).any(|(at, _)| {
        let after = pair[at + name.len()..].trim_start_matches(['_', ']', '"']);
        !is_inside(pair[..at].chars().next_back()) && after.starts_with('=')
    })
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
    fn every_form_of_a_name_is_found_and_other_names_are_left_alone() {
        for pair in
            ["s_id=x", " S_ID=x", "a=1 s_id=x", "a=1,s_id=x", "s.id=x", "s[id=x", "s_id []=x", "s_id =x", "\"s_id\"=x"]
        {
            assert!(mentions(pair, "s_id"), "{pair}");
        }
        for pair in ["sidebar=1", "as_id=x", "my-s_id=x", "a=s_id", "s_ids=x", "{\"s_id\":1}", "s_id_type=x"] {
            assert!(!mentions(pair, "s_id"), "{pair}");
        }
        for key in ["s_id", "s.id", "s_id[]", "+s_id", "%73_id", "S_ID", "s[id"] {
            assert!(is_form_of(key, "s_id"), "{key}");
        }
        for key in ["sid", "s_ids", "s_id_type", "a", "a[s_id]"] {
            assert!(!is_form_of(key, "s_id"), "{key}");
        }
        assert!(is_plain(" s_id=x", "s_id") && !is_plain("s_id=x a=1", "s_id") && !is_plain("a=1 s_id=x", "s_id"));
    }

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
