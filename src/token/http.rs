//! Tokens in requests and responses.

use super::json::{self, JsonValue, NotJson, Pointer};
use super::reading::Reading;
use super::{InBandRules, Location, Token, TokenRule};
use crate::route::Route;
use crate::session::{SessionId, SessionIds};
use ::http::header;
use ::http::request;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

/// How many words of `Authorization` are examined, in addition to the last one.
const MAX_WORDS: usize = 4;

/// Schemes of `Authorization`, from the IANA registry and from common use. These words are not tokens.
const SCHEMES: [&str; 7] = ["basic", "bearer", "digest", "dpop", "negotiate", "ntlm", "token"];

/// A token that a rule found in a request.
#[derive(Clone, Debug)]
pub struct TokenMatch {
    /// The session id of the token.
    pub id: SessionId,
    /// The rule that found it first.
    pub rule: Arc<TokenRule>,
    /// Further rules that found the same token, which then is in the request more than once.
    pub also: Vec<Arc<TokenRule>>,
    /// Whether only a lenient app would read this as a token. A loose match can be refused, but never starts a session.
    pub loose: bool,
}

/// All rules of the configuration.
#[derive(Clone, Debug)]
pub struct TokenRules {
    rules: Vec<Arc<TokenRule>>,
    in_band: InBandRules,
    pub(super) ids: SessionIds,
}

/// Whether these attributes of a `Set-Cookie` remove the cookie instead of setting it.
pub(crate) fn removes_cookie(attributes: &str) -> bool {
    attributes.split(';').any(|attribute| {
        let attribute = attribute.trim().to_ascii_lowercase();
        attribute.starts_with("max-age=0") || attribute.starts_with("max-age=-") || attribute.contains(" 1970 ")
    })
}

/// The `Max-Age` among these attributes of a `Set-Cookie`, in seconds. The last one counts (RFC 6265 §5.2).
fn max_age(attributes: &str) -> Option<u64> {
    let mut named = attributes.split(';').filter_map(|attribute| attribute.split_once('='));
    let (_, value) = named.rfind(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))?;
    value.trim().parse().ok()
}

impl TokenRules {
    /// Prepares the rules.
    #[must_use]
    pub fn new(rules: Vec<TokenRule>, ids: SessionIds) -> Self {
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let in_band = InBandRules::new(&rules, &ids);
        Self { rules, in_band, ids }
    }

    /// Every token that the rules for `route` find in the head of a request.
    #[must_use]
    pub fn in_head(&self, route: &Route, head: &request::Parts) -> Vec<TokenMatch> {
        let mut found = TokenMatches::of(&self.ids);
        for rule in self.applying(route) {
            let readings = match &rule.place {
                Location::Header(name) => in_header(head, name, rule),
                Location::Bearer => in_authorization(head, rule),
                Location::Cookie(name) => cookies(head, name, rule),
                Location::Query(name) => query(head.uri.query().unwrap_or_default(), name, rule),
                Location::RequestJson(_)
                | Location::ResponseJson(_)
                | Location::WsClient { .. }
                | Location::WsServer { .. } => {
                    continue;
                }
            };
            found.add(rule, readings);
        }
        found.found
    }

    /// The names of the cookies that rules look for.
    #[must_use]
    pub fn cookie_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .rules
            .iter()
            .filter_map(|rule| match &rule.place {
                Location::Cookie(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The session ids of the values that a response sets for the cookie `name`, and the `Max-Age` of each. Removing the cookie
    /// sets no value.
    pub fn set_cookies<'a>(
        &'a self,
        headers: &'a ::http::HeaderMap,
        name: &'a str,
    ) -> impl Iterator<Item = (SessionId, Option<u64>)> + 'a {
        headers.get_all(header::SET_COOKIE).iter().filter_map(move |line| {
            let line = text(line.as_bytes());
            let (pair, attributes) = line.split_once(';').unwrap_or((&line, ""));
            let token = cookie(pair, name)?;
            (!removes_cookie(attributes)).then(|| (token.session_id(&self.ids), max_age(attributes)))
        })
    }

    /// The cookies that a response hands out, of the rules for `route` that refuse unknown ones, and the `Max-Age` of each.
    #[must_use]
    pub fn issued_cookies(&self, route: &Route, headers: &::http::HeaderMap) -> Vec<(SessionId, Option<u64>)> {
        let mut issued = Vec::new();
        for rule in self.applying(route).filter(|rule| rule.refuses_unknown) {
            if let Location::Cookie(name) = &rule.place {
                issued.extend(self.set_cookies(headers, name));
            }
        }
        issued
    }

    /// Whether some rule looks for tokens in the query of a request.
    #[must_use]
    pub fn read_queries(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.place, Location::Query(_)))
    }

    /// Whether some rule refuses unknown tokens.
    #[must_use]
    pub fn refuse_unknown(&self) -> bool {
        self.rules.iter().any(|rule| rule.refuses_unknown)
    }

    /// Whether a rule for `route` reads request bodies.
    #[must_use]
    pub fn reads_requests(&self, route: &Route) -> bool {
        self.applying(route).any(|rule| matches!(rule.place, Location::RequestJson(_)))
    }

    /// Every token that the rules for `route` find in the body of a request.
    ///
    /// # Errors
    /// If the body is not JSON.
    pub fn in_request(&self, route: &Route, body: &[u8]) -> Result<Vec<TokenMatch>, NotJson> {
        let mut found = TokenMatches::of(&self.ids);
        for rule in self.applying(route) {
            if let Location::RequestJson(pointer) = &rule.place {
                found.add(rule, readings_at(body, pointer, rule)?);
            }
        }
        Ok(found.found)
    }

    /// Whether a rule for `route` reads response bodies.
    #[must_use]
    pub fn reads_responses(&self, route: &Route) -> bool {
        self.applying(route).any(|rule| matches!(rule.place, Location::ResponseJson(_)))
    }

    /// The session ids of the tokens that a 2xx response issues, each with the number of the rule that found it.
    #[must_use]
    pub fn in_response(&self, route: &Route, body: &[u8]) -> Vec<(usize, SessionId)> {
        let mut issued = Vec::new();
        for rule in self.applying(route) {
            let Location::ResponseJson(pointer) = &rule.place else { continue };
            let readings = readings_at(body, pointer, rule).unwrap_or_default();
            let certain = readings.into_iter().filter(|reading| !reading.loose);
            issued.extend(certain.map(|reading| (rule.number, reading.token.session_id(&self.ids))));
        }
        issued
    }

    /// The rules for messages in a tunnel that this route opens.
    #[must_use]
    pub fn in_band(&self, route: &Route) -> InBandRules {
        self.in_band.applying(route)
    }

    pub(super) fn applying<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = &'a Arc<TokenRule>> {
        self.rules.iter().filter(move |rule| rule.applies(route))
    }
}

/// The matches found so far, each token once.
struct TokenMatches<'r> {
    ids: &'r SessionIds,
    found: Vec<TokenMatch>,
    seen: HashSet<(SessionId, bool)>,
}

impl<'r> TokenMatches<'r> {
    fn of(ids: &'r SessionIds) -> Self {
        Self { ids, found: Vec::new(), seen: HashSet::new() }
    }

    fn add(&mut self, rule: &Arc<TokenRule>, readings: Vec<Reading>) {
        for Reading { token, loose } in readings {
            let id = token.session_id(self.ids);
            // A token found twice counts once, unless only one of the two rules ends the session.
            if self.seen.insert((id, rule.ends)) {
                self.found.push(TokenMatch { id, rule: Arc::clone(rule), also: Vec::new(), loose });
            } else if let Some(found) =
                self.found.iter_mut().find(|found| found.id == id && found.rule.ends == rule.ends)
            {
                // Certain for one rule is certain.
                found.loose &= loose;
                if loose || !found.rules().any(|other| Arc::ptr_eq(other, rule)) {
                    found.also.push(Arc::clone(rule));
                }
            }
        }
    }
}

/// The values of a header, one per line.
fn values<'a>(head: &'a request::Parts, name: &'a header::HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    head.headers.get_all(name).iter().map(|value| text(value.as_bytes()))
}

/// Header bytes as text: as UTF-8 if valid, otherwise as ISO-8859-1, in which every byte string is valid.
pub(super) fn text(value: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.iter().map(|byte| char::from(*byte)).collect()),
    }
}

/// The tokens that a pasted text may mean: the text itself, the value of a cookie, a query parameter or `Authorization`
/// as browsers show it, or the value in `name=value`. Without duplicates, the likeliest first.
#[must_use]
pub fn pasted(pasted: &[u8]) -> Vec<Token> {
    let pasted = text(pasted);
    let cookie = Token::percent_encoded(&unquote(pasted.trim()), false);
    let value = pasted.trim().split_once('=').filter(|(name, _)| is_cookie_name(name)).map(|(_, value)| value);
    let of_pair = value.and_then(|value| Token::percent_encoded(&unquote(value), false));
    let readings = [Token::new(&pasted), cookie, Token::percent_encoded(&pasted, true), bearer(&pasted), of_pair];
    let mut tokens = Vec::new();
    for token in readings.into_iter().flatten() {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

fn is_cookie_name(name: &str) -> bool {
    header::HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// `Bearer` SP token (RFC 6750 §2.1); the scheme in any case (RFC 9110 §11.1). White space around the token is kept.
fn bearer_value(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim_start().split_once([' ', '\t'])?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn bearer(value: &str) -> Option<Token> {
    bearer_value(value).and_then(Token::new)
}

/// The bearer tokens, and the words that only a lenient app reads as one.
fn in_authorization(head: &request::Parts, rule: &TokenRule) -> Vec<Reading> {
    let mut readings = Vec::new();
    for value in values(head, &header::AUTHORIZATION) {
        let token = bearer_value(&value);
        readings.extend(token.and_then(|token| rule.reading(token.as_bytes(), Token::new(token))));
    }
    for value in values(head, &header::AUTHORIZATION) {
        let has_format = |token: &Token| rule.format.as_ref().is_none_or(|format| token.has(format));
        let words = words(&value).into_iter().filter(has_format);
        readings.extend(words.map(|token| Reading { token, loose: true }));
    }
    readings
}

/// The values of a header, in any spelling of its name.
fn in_header(head: &request::Parts, name: &header::HeaderName, rule: &TokenRule) -> Vec<Reading> {
    let named = head.headers.iter().filter(|(other, _)| is_spelling_of(name, other));
    named.filter_map(|(_, value)| rule.reading(value.as_bytes(), Token::new(&text(value.as_bytes())))).collect()
}

/// Whether a header name equals `name`, with `_` and `-` treated as equal. CGI and WSGI do not distinguish them.
pub(super) fn is_spelling_of(name: &header::HeaderName, other: &header::HeaderName) -> bool {
    let plain = |byte| if byte == b'_' { b'-' } else { byte };
    let (name, other) = (name.as_str().bytes().map(plain), other.as_str().bytes().map(plain));
    name.eq(other)
}

/// The words of `Authorization` that a lenient app may read as the token, because it ignores the scheme or reads a
/// single word. The scheme itself is not a token.
fn words(value: &str) -> Vec<Token> {
    let is_scheme = |word: &str| SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(word));
    let words = || value.split_ascii_whitespace().enumerate().filter(|(at, word)| *at > 0 || !is_scheme(word));
    words().take(MAX_WORDS).chain(words().last()).filter_map(|(_, word)| Token::new(word)).collect()
}

/// The values of a cookie (RFC 6265 §5.4). Several cookies may have the same name, with different paths.
fn cookies(head: &request::Parts, name: &str, rule: &TokenRule) -> Vec<Reading> {
    let mut readings = Vec::new();
    for line in values(head, &header::COOKIE) {
        let values = line.split(';').filter_map(|pair| cookie_value(pair, name));
        readings.extend(values.filter_map(|value| rule.reading(value.as_bytes(), decoded(value))));
    }
    readings
}

/// The value in a pair of a `Cookie` field, if the pair has this name.
fn cookie_value<'p>(pair: &'p str, name: &str) -> Option<&'p str> {
    let (key, value) = pair.split_once('=')?;
    (key.trim() == name).then(|| value.trim_matches([' ', '\t']))
}

/// The token in a pair of a `Cookie` field, if the pair has this name.
pub(super) fn cookie(pair: &str, name: &str) -> Option<Token> {
    cookie_value(pair, name).and_then(decoded)
}

/// The token in the value of a cookie, which an app may have quoted or percent-encoded.
fn decoded(value: &str) -> Option<Token> {
    Token::percent_encoded(&unquote(value.trim()), false)
}

/// Removes the quotes of a quoted value and decodes escapes such as `\"` and `\141`, as Python's http.cookies does.
fn unquote(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    let mut plain = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        // Exclude `\+12`: Rust parses `+12` as a number.
        let octal = after.get(..3).filter(|digits| !digits.starts_with('+'));
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (character, length) = match octal {
            Some(byte) => (char::from(byte), 3),
            None => match after.chars().next() {
                Some(character) => (character, character.len_utf8()),
                None => ('\\', 0),
            },
        };
        plain.push(character);
        rest = &after[length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// The values of a query parameter.
fn query(query: &str, name: &str, rule: &TokenRule) -> Vec<Reading> {
    let values = query.split(PARAMETER_SEPARATORS).filter_map(|pair| parameter_value(pair, name));
    values.filter_map(|value| rule.reading(value.as_bytes(), Token::new(&value))).collect()
}

/// `;` separates parameters too: some frameworks still accept it.
pub(super) const PARAMETER_SEPARATORS: [char; 2] = ['&', ';'];

/// A name or value of a query, percent-decoded and with `+` for a space.
pub(crate) fn decoded_parameter(text: &str) -> Vec<u8> {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).collect()
}

/// The value in a pair of a query, if it is the parameter of this name.
fn parameter_value(pair: &str, name: &str) -> Option<String> {
    let (key, value) = pair.split_once('=')?;
    let decoded = |text: &str| String::from_utf8_lossy(&decoded_parameter(text)).into_owned();
    (decoded(key) == name).then(|| decoded(value))
}

/// The token in a pair of a query, if it is the parameter of this name.
pub(super) fn parameter(pair: &str, name: &str) -> Option<Token> {
    parameter_value(pair, name).and_then(|value| Token::new(&value))
}

fn readings_at(body: &[u8], pointer: &Pointer, rule: &TokenRule) -> Result<Vec<Reading>, NotJson> {
    let found = json::find(body, &[pointer])?;
    Ok(found.into_iter().flatten().filter_map(|value| reading_of(&value, rule)).collect())
}

/// A token is a string; any other value is not.
pub(super) fn reading_of(value: &JsonValue, rule: &TokenRule) -> Option<Reading> {
    match value {
        JsonValue::Text(text) => rule.reading(text.as_bytes(), Token::new(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
