//! Tokens in requests and responses.

use super::json::{self, JsonValue, NotJson, Pointer};
use super::{InBandRules, Location, Token, TokenRule};
use crate::route::NormalPath;
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

impl TokenRules {
    /// Prepares the rules.
    #[must_use]
    pub fn new(rules: Vec<TokenRule>, ids: SessionIds) -> Self {
        let rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        let in_band = InBandRules::new(&rules, &ids);
        Self { rules, in_band, ids }
    }

    /// Every token that the rules for `path` find in the head of a request.
    #[must_use]
    pub fn in_head(&self, path: &NormalPath, head: &request::Parts) -> Vec<TokenMatch> {
        let mut found = TokenMatches::of(&self.ids);
        for rule in self.applying(path) {
            let tokens = match &rule.place {
                Location::Header(name) => in_header(head, name),
                Location::Bearer => values(head, &header::AUTHORIZATION).filter_map(|value| bearer(&value)).collect(),
                Location::Cookie(name) => cookies(head, name),
                Location::Query(name) => query(head.uri.query().unwrap_or_default(), name),
                Location::RequestJson(_)
                | Location::ResponseJson(_)
                | Location::WsClient { .. }
                | Location::WsServer { .. } => {
                    continue;
                }
            };
            found.add(rule, &tokens, false);
            if matches!(rule.place, Location::Bearer) {
                let values = values(head, &header::AUTHORIZATION);
                found.add(rule, &values.flat_map(|value| words(&value)).collect::<Vec<_>>(), true);
            }
        }
        found.found
    }

    /// The session ids of the values that a response sets for the cookie `name`. Removing the cookie sets no value.
    pub fn set_cookies<'a>(
        &'a self,
        headers: &'a ::http::HeaderMap,
        name: &'a str,
    ) -> impl Iterator<Item = SessionId> + 'a {
        headers.get_all(header::SET_COOKIE).iter().filter_map(move |line| {
            let line = text(line.as_bytes());
            let mut parts = line.split(';');
            let token = cookie(parts.next()?, name)?;
            let is_removal = parts.any(|attribute| {
                let attribute = attribute.trim().to_ascii_lowercase();
                attribute.starts_with("max-age=0") || attribute.starts_with("max-age=-") || attribute.contains(" 1970 ")
            });
            (!is_removal).then(|| token.session_id(&self.ids))
        })
    }

    /// Whether a rule for `path` reads request bodies.
    #[must_use]
    pub fn reads_requests(&self, path: &NormalPath) -> bool {
        self.applying(path).any(|rule| matches!(rule.place, Location::RequestJson(_)))
    }

    /// Every token that the rules for `path` find in the body of a request.
    ///
    /// # Errors
    /// If the body is not JSON.
    pub fn in_request(&self, path: &NormalPath, body: &[u8]) -> Result<Vec<TokenMatch>, NotJson> {
        let mut found = TokenMatches::of(&self.ids);
        for rule in self.applying(path) {
            if let Location::RequestJson(pointer) = &rule.place {
                found.add(rule, &tokens_at(body, pointer)?, false);
            }
        }
        Ok(found.found)
    }

    /// Whether a rule for `path` reads response bodies.
    #[must_use]
    pub fn reads_responses(&self, path: &NormalPath) -> bool {
        self.applying(path).any(|rule| matches!(rule.place, Location::ResponseJson(_)))
    }

    /// The session ids of the tokens that a 2xx response issues, each with the number of the rule that found it.
    #[must_use]
    pub fn in_response(&self, path: &NormalPath, body: &[u8]) -> Vec<(usize, SessionId)> {
        let rules = self.applying(path).filter_map(|rule| match &rule.place {
            Location::ResponseJson(pointer) => Some((rule.number, pointer)),
            _ => None,
        });
        rules
            .flat_map(|(number, pointer)| {
                let tokens = tokens_at(body, pointer).unwrap_or_default();
                tokens.into_iter().map(move |token| (number, token.session_id(&self.ids)))
            })
            .collect()
    }

    /// The rules for messages in a tunnel at `path`.
    #[must_use]
    pub fn in_band(&self, path: &NormalPath) -> InBandRules {
        self.in_band.applying(path)
    }

    fn applying<'a>(&'a self, path: &'a NormalPath) -> impl Iterator<Item = &'a Arc<TokenRule>> {
        self.rules.iter().filter(move |rule| rule.applies(path))
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

    fn add(&mut self, rule: &Arc<TokenRule>, tokens: &[Token], loose: bool) {
        for token in tokens {
            let id = token.session_id(self.ids);
            // A token found twice counts once, unless only one of the two rules ends the session.
            if self.seen.insert((id, rule.ends)) {
                self.found.push(TokenMatch { id, rule: Arc::clone(rule), also: Vec::new(), loose });
            } else if let Some(found) =
                self.found.iter_mut().find(|found| found.id == id && found.rule.ends == rule.ends)
                && (loose || !found.rules().any(|other| Arc::ptr_eq(other, rule)))
            {
                found.also.push(Arc::clone(rule));
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

/// `Bearer` SP token (RFC 6750 §2.1); the scheme in any case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<Token> {
    let (scheme, token) = value.trim_start().split_once([' ', '\t'])?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::new(token)).flatten()
}

/// The values of a header, in any spelling of its name.
fn in_header(head: &request::Parts, name: &header::HeaderName) -> Vec<Token> {
    let named = head.headers.iter().filter(|(other, _)| is_spelling_of(name, other));
    named.filter_map(|(_, value)| Token::new(&text(value.as_bytes()))).collect()
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
fn cookies(head: &request::Parts, name: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for line in values(head, &header::COOKIE) {
        tokens.extend(line.split(';').filter_map(|pair| cookie(pair, name)));
    }
    tokens
}

/// The token in a pair of a `Cookie` field, if the pair has this name.
pub(super) fn cookie(pair: &str, name: &str) -> Option<Token> {
    let (key, value) = pair.split_once('=')?;
    if key.trim() == name { Token::percent_encoded(&unquote(value.trim()), false) } else { None }
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
fn query(query: &str, name: &str) -> Vec<Token> {
    query.split(PARAMETER_SEPARATORS).filter_map(|pair| parameter(pair, name)).collect()
}

/// `;` separates parameters too: some frameworks still accept it.
pub(super) const PARAMETER_SEPARATORS: [char; 2] = ['&', ';'];

/// The token in a pair of a query, if it is the parameter of this name.
pub(super) fn parameter(pair: &str, name: &str) -> Option<Token> {
    let (key, value) = pair.split_once('=')?;
    let key = key.replace('+', " ");
    let is_named = percent_encoding::percent_decode_str(&key).decode_utf8_lossy() == name;
    if is_named { Token::percent_encoded(value, true) } else { None }
}

fn tokens_at(body: &[u8], pointer: &Pointer) -> Result<Vec<Token>, NotJson> {
    let found = json::find(body, &[pointer])?;
    Ok(found.into_iter().flatten().filter_map(|value| token_of(&value)).collect())
}

/// A token is a string; any other value is not.
pub(super) fn token_of(value: &JsonValue) -> Option<Token> {
    match value {
        JsonValue::Text(text) => Token::new(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
