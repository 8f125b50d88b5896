//! Whether any rule finds a token: a rule that names the wrong cookie is valid, and no session would ever end.

use crate::counted::counted;
use http::{header, request};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The number of requests without a match after which it is reported.
const SAID_AFTER: u64 = 20;

/// How many names are kept, and how long they may be. They come from clients.
const MAX_NAMES: usize = 16;
const NAME_LENGTH: usize = 40;

/// How many bodies and messages are looked at for names, and how long one may be.
const MAX_LOOKED_AT: u64 = 200;
const MAX_JSON_BYTES: usize = 16 * 1024;

/// How deep in JSON fields are looked at.
const MAX_DEPTH: usize = 3;

/// Parts of names that tokens often have.
const LIKELY: [&str; 7] = ["sess", "token", "auth", "sid", "jwt", "key", "login"];

/// Headers of other use, whose names look like it.
const OTHERS: [&str; 4] = ["sec-websocket-key", "idempotency-key", "proxy-authorization", "x-csrf-token"];

/// Counts requests until a rule matches.
#[derive(Debug, Default)]
pub(crate) struct Unmatched {
    matched: AtomicBool,
    requests: AtomicU64,
    names: Mutex<BTreeSet<String>>,
    /// How many bodies and messages were looked at for names.
    looked_at: AtomicU64,
    rules: OnceLock<Vec<String>>,
}

/// That no rule has matched so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NoMatch {
    /// In how many requests.
    pub(crate) requests: u64,
    /// What was looked for: the rules.
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    /// What came and may be a token: names of cookies, headers, query parameters and JSON fields, never values.
    pub(crate) names: Vec<String>,
}

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let came =
            if self.names.is_empty() { "nothing that looks like a token".to_owned() } else { self.names.join(", ") };
        let (requests, rules) = (counted(self.requests, "request"), self.rules.join(", "));
        write!(f, "No rule has matched in {requests}, so no session will end. Rules: {rules}. Seen: {came}.")
    }
}

impl Unmatched {
    /// These rules look for tokens.
    pub(crate) fn look_for(&self, rules: Vec<String>) {
        // The rules never change while idlegate runs.
        let _ = self.rules.set(rules);
    }

    /// A rule has found a token.
    pub(crate) fn matched(&self) {
        // Read first: requests do not write to what they share.
        if !self.matched.load(Ordering::Relaxed) {
            self.matched.store(true, Ordering::Relaxed);
            self.names.lock().clear();
        }
    }

    /// A request in which no rule has found a token. Logged once, after enough of them.
    pub(crate) fn request(&self, head: &request::Parts) {
        if self.matched.load(Ordering::Relaxed) {
            return;
        }
        self.keep(names_in(head));
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == SAID_AFTER {
            tracing::warn!(
                requests = SAID_AFTER,
                rules = self.rules().join(", "),
                names = self.names().join(", "),
                "no rule has matched so far, and no session will end; compare `from`, `name` and `paths` of the token rules \
                 with the names that came"
            );
        }
    }

    /// That no rule has matched, after enough requests to tell.
    pub(crate) fn report(&self) -> Option<NoMatch> {
        let requests = self.requests.load(Ordering::Relaxed);
        let is_so = requests >= SAID_AFTER && !self.matched.load(Ordering::Relaxed);
        is_so.then(|| NoMatch { requests, rules: self.rules(), names: self.names() })
    }

    /// JSON in which the rules have found no token. `carrier` names where it came: `request-json` or `ws-client`, for
    /// example.
    pub(crate) fn json(&self, carrier: &str, text: &[u8]) {
        let is_needed = !self.matched.load(Ordering::Relaxed)
            && text.len() <= MAX_JSON_BYTES
            && self.looked_at.fetch_add(1, Ordering::Relaxed) < MAX_LOOKED_AT;
        if is_needed && let Ok(value) = serde_json::from_slice(text) {
            let mut names = Vec::new();
            fields_of(&value, "", &mut names);
            self.keep(names.into_iter().map(|pointer| format!("{carrier} {pointer}")));
        }
    }

    fn keep(&self, names: impl IntoIterator<Item = String>) {
        let mut kept = self.names.lock();
        for name in names {
            if kept.len() < MAX_NAMES {
                kept.insert(name);
            }
        }
    }

    fn rules(&self) -> Vec<String> {
        self.rules.get().cloned().unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        self.names.lock().iter().cloned().collect()
    }
}

/// The names in a request that may be those of tokens: all cookies, and what sounds like it.
fn names_in(head: &request::Parts) -> Vec<String> {
    let lines = head.headers.get_all(header::COOKIE).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let pairs = lines.iter().flat_map(|line| line.split(';')).filter_map(|pair| Some(pair.split_once('=')?.0.trim()));
    let cookies = pairs.map(|name| ("cookie", name));
    let headers = head.headers.keys().map(header::HeaderName::as_str).filter(|name| is_likely(name));
    let query = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.0));
    let query = query.filter(|name| is_likely(name));
    let all = cookies.chain(headers.map(|name| ("header", name))).chain(query.map(|name| ("query", name)));
    all.filter(|(_, name)| is_shown(name)).map(|(kind, name)| format!("{kind} {name}")).collect()
}

/// The pointers of text fields whose names sound like a token's.
fn fields_of(value: &Value, at: &str, names: &mut Vec<String>) {
    let Value::Object(fields) = value else { return };
    if at.matches('/').count() >= MAX_DEPTH {
        return;
    }
    for (name, value) in fields {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        if value.is_string() && is_likely(name) && is_shown(&pointer) {
            names.push(pointer);
        } else {
            fields_of(value, &pointer, names);
        }
    }
}

fn is_likely(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    LIKELY.iter().any(|part| name.contains(part)) && !OTHERS.contains(&name.as_str())
}

fn is_shown(name: &str) -> bool {
    (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}
