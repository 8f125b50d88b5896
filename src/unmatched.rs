//! Whether any rule finds a token: a rule that names the wrong cookie is valid, and no session would ever end.

use http::{header, request};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// After how many requests without a match it is said.
const SAID_AFTER: u64 = 20;

/// How many names are kept, and how long they may be. They come from clients.
const NAMES_AT_MOST: usize = 16;
const NAME_LENGTH: usize = 40;

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
}

/// That no rule has matched so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NoMatch {
    /// In how many requests.
    pub(crate) requests: u64,
    /// What came and may be a token: names of cookies, headers and query parameters, never values.
    pub(crate) names: Vec<String>,
}

impl Unmatched {
    /// A rule has found a token.
    pub(crate) fn matched(&self) {
        // Read first: requests do not write to what they share.
        if !self.matched.load(Ordering::Relaxed) {
            self.matched.store(true, Ordering::Relaxed);
            self.names.lock().clear();
        }
    }

    /// A request in which no rule has found a token. Says so once, when there were enough of them.
    pub(crate) fn request(&self, head: &request::Parts) {
        if self.matched.load(Ordering::Relaxed) {
            return;
        }
        let mut names = self.names.lock();
        for name in names_in(head) {
            if names.len() < NAMES_AT_MOST {
                names.insert(name);
            }
        }
        drop(names);
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == SAID_AFTER {
            let names = self.names();
            tracing::warn!(
                requests = SAID_AFTER,
                names = names.join(", "),
                "no rule has matched so far, and no session will end; compare `from`, `name` and `paths` of the token rules \
                 with the names that came"
            );
        }
    }

    /// That no rule has matched, where there were enough requests to tell.
    pub(crate) fn report(&self) -> Option<NoMatch> {
        let requests = self.requests.load(Ordering::Relaxed);
        let is_so = requests >= SAID_AFTER && !self.matched.load(Ordering::Relaxed);
        is_so.then(|| NoMatch { requests, names: self.names() })
    }

    fn names(&self) -> Vec<String> {
        self.names.lock().iter().cloned().collect()
    }
}

/// The names in a request that may be those of tokens: all cookies, and what sounds like it.
fn names_in(head: &request::Parts) -> Vec<String> {
    let is_likely = |name: &str| {
        let name = name.to_ascii_lowercase();
        LIKELY.iter().any(|part| name.contains(part)) && !OTHERS.contains(&name.as_str())
    };
    let lines = head.headers.get_all(header::COOKIE).iter();
    let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let pairs = lines.iter().flat_map(|line| line.split(';')).filter_map(|pair| Some(pair.split_once('=')?.0.trim()));
    let cookies = pairs.map(|name| ("cookie", name));
    let headers = head.headers.keys().map(header::HeaderName::as_str).filter(|name| is_likely(name));
    let query = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| Some(pair.split_once('=')?.0));
    let query = query.filter(|name| is_likely(name));
    let all = cookies.chain(headers.map(|name| ("header", name))).chain(query.map(|name| ("query", name)));
    let is_shown =
        |name: &str| (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    all.filter(|(_, name)| is_shown(name)).map(|(kind, name)| format!("{kind} {name}")).collect()
}
