//! Reports rules that never find a token. A rule with the wrong cookie name is valid, but no session would end.

use crate::counted::counted;
use crate::token::json::escape;
use http::{header, request};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The number of requests without a match after which this is reported.
const REPORT_AFTER: u64 = 20;

/// The maximum number and length of the names kept. Both are bounded because clients choose the names.
const MAX_NAMES: usize = 16;
const NAME_LENGTH: usize = 40;

/// The maximum number and size of the bodies and messages that are searched for names.
const MAX_LOOKED_AT: u64 = 200;
const MAX_JSON_BYTES: usize = 16 * 1024;

/// The maximum depth of JSON fields that are considered.
const MAX_DEPTH: usize = 3;

/// Substrings that are common in the names of tokens.
const LIKELY: [&str; 7] = ["sess", "token", "auth", "sid", "jwt", "key", "login"];

/// Headers with similar names that do not carry a session token.
const OTHERS: [&str; 4] = ["sec-websocket-key", "idempotency-key", "proxy-authorization", "x-csrf-token"];

/// Counts requests until a rule matches.
#[derive(Debug, Default)]
pub(crate) struct Unmatched {
    matched: AtomicBool,
    requests: AtomicU64,
    names: Mutex<BTreeSet<String>>,
    /// How many bodies and messages were searched for names.
    looked_at: AtomicU64,
    rules: OnceLock<Vec<String>>,
}

/// The report that no rule has matched so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NoMatch {
    /// The number of requests.
    pub(crate) requests: u64,
    /// The labels of the rules.
    #[serde(default)]
    pub(crate) rules: Vec<String>,
    /// Names that may belong to tokens: of cookies, headers, query parameters and JSON fields. Never values.
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
    /// Sets the labels of the token rules.
    pub(crate) fn look_for(&self, rules: Vec<String>) {
        // The rules never change while idlegate runs.
        let _ = self.rules.set(rules);
    }

    /// A rule has found a token.
    pub(crate) fn matched(&self) {
        // Load first, so that requests do not contend for the cache line with writes.
        if !self.matched.load(Ordering::Relaxed) {
            self.matched.store(true, Ordering::Relaxed);
            self.names.lock().clear();
        }
    }

    /// Counts a request in which no rule found a token. After [`REPORT_AFTER`] of them, this is logged once.
    pub(crate) fn request(&self, head: &request::Parts) {
        if self.matched.load(Ordering::Relaxed) {
            return;
        }
        self.keep(names_in(head));
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == REPORT_AFTER {
            tracing::warn!(
                requests = REPORT_AFTER,
                rules = self.rules().join(", "),
                names = self.names().join(", "),
                "no rule has matched so far, so no session will end; compare `from`, `name` and `paths` of the token \
                 rules with the names seen"
            );
        }
    }

    /// The report, if no rule has matched in [`REPORT_AFTER`] requests or more.
    pub(crate) fn report(&self) -> Option<NoMatch> {
        let requests = self.requests.load(Ordering::Relaxed);
        let is_so = requests >= REPORT_AFTER && !self.matched.load(Ordering::Relaxed);
        is_so.then(|| NoMatch { requests, rules: self.rules(), names: self.names() })
    }

    /// Searches JSON in which no rule found a token. `carrier` names its origin, such as `request-json` or `ws-client`.
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

/// The names in a request that may belong to tokens: all cookies, and headers and query parameters with likely names.
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

/// The pointers of text fields with likely names.
fn fields_of(value: &Value, at: &str, names: &mut Vec<String>) {
    let Value::Object(fields) = value else { return };
    if at.matches('/').count() >= MAX_DEPTH {
        return;
    }
    for (name, value) in fields {
        let pointer = format!("{at}/{}", escape(name));
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
