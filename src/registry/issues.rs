//! Which tokens the app hands out: what makes a token unknown for certain, and whether a rule sees enough to refuse such.

use super::TrackedSession;
use super::services::Services;
use crate::clock::{Moment, milliseconds};
use crate::session::{EpochSeconds, SessionId};
use crate::store::{Issued, Knowledge, MAX_ISSUED, StoreError};
use crate::token::TokenRule;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;

/// How many requests with an unknown token may wait at a time.
const MAX_WAITING: usize = 1_000;

/// How many unknown tokens are remembered, with the time when each came first.
const MAX_FIRST_SEEN: usize = 10_000;

/// How many of the latest sessions of a rule are looked at.
const WINDOW: u32 = 32;

/// How many sessions must have begun before a rule is reported that misses their issues.
const REPORTED_FROM: u32 = 8;

/// How a session began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The app was seen to hand the token out.
    Issued = 1,
    /// The app accepted a token that it was not seen to hand out.
    Unseen = 2,
}

/// What is known of the tokens that the app hands out.
#[derive(Debug)]
pub struct Issues {
    services: Arc<Services>,
    rules: RwLock<Vec<Watched>>,
    /// Handed out, and not acknowledged by the store.
    unsynced: Mutex<HashMap<SessionId, Issued>>,
    /// When each unknown token came first, in epoch seconds of the store.
    first_seen: Mutex<HashMap<SessionId, EpochSeconds>>,
    pub(super) waiting: Semaphore,
}

/// A rule with `unknown = "refuse"`.
#[derive(Debug)]
struct Watched {
    number: usize,
    from: &'static str,
    label: String,
    latest: Latest,
    is_reported: AtomicBool,
}

/// For the latest sessions of a rule, whether their tokens were issued: a bit for each, and their number above.
#[derive(Debug, Default)]
struct Latest(AtomicU64);

impl Latest {
    fn push(&self, origin: Origin) {
        let issued = u64::from(origin == Origin::Issued);
        let next = |word: u64| {
            let (bits, count) = (word & u64::from(u32::MAX), (word >> 32) + 1);
            Some(((bits << 1 | issued) & u64::from(u32::MAX)) | count.min(u64::from(WINDOW)) << 32)
        };
        // It always succeeds.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }

    /// How many of the latest sessions were issued, and how many there are.
    fn counts(&self) -> (u32, u32) {
        let word = self.0.load(Ordering::Acquire);
        let bits = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        (bits.count_ones(), u32::try_from(word >> 32).unwrap_or(WINDOW))
    }

    /// Whether most of the latest sessions were issued. Before the first one, nothing is known.
    fn are_issued(&self) -> bool {
        let (issued, count) = self.counts();
        issued > 0 && issued * 2 >= count
    }
}

impl Issues {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self {
            services,
            rules: RwLock::default(),
            unsynced: Mutex::default(),
            first_seen: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    /// Watches the rules with `unknown = "refuse"`.
    pub fn watch<'r>(&self, rules: impl IntoIterator<Item = &'r TokenRule>) {
        let watched = rules.into_iter().filter(|rule| rule.refuses_unknown).map(|rule| Watched {
            number: rule.number,
            from: rule.kind(),
            label: rule.label(),
            latest: Latest::default(),
            is_reported: AtomicBool::new(false),
        });
        *self.rules.write() = watched.collect();
    }

    /// Whether some rule refuses unknown tokens.
    #[must_use]
    pub fn are_watched(&self) -> bool {
        !self.rules.read().is_empty()
    }

    /// Whether this rule sees the app hand its tokens out. Otherwise it must not refuse those that it does not know.
    #[must_use]
    pub fn are_seen(&self, rule: usize) -> bool {
        self.rules.read().iter().any(|watched| watched.number == rule && watched.latest.are_issued())
    }

    /// A session was used by a token that this rule found. Each session counts once for a rule.
    pub fn used(&self, rule: &TokenRule, session: &TrackedSession) {
        if rule.refuses_unknown
            && let Some(origin) = session.origin()
            && session.is_first_use_by(rule.number)
            && let Some(watched) = self.rules.read().iter().find(|watched| watched.number == rule.number)
        {
            watched.latest.push(origin);
        }
    }

    /// Keeps tokens that the app hands out, before a client can use them. Waits for the store, `lookup_timeout` at most; what
    /// it does not take in time is reported later.
    pub async fn hand_out(&self, issued: &[Issued]) {
        self.keep_unsynced(issued);
        let timeout = self.services.exchange.lookup_timeout;
        if let Ok(Ok(())) = tokio::time::timeout(timeout, self.services.store.issue(issued)).await {
            self.synced(issued);
        }
    }

    fn keep_unsynced(&self, issued: &[Issued]) {
        let mut unsynced = self.unsynced.lock();
        let room = MAX_ISSUED.saturating_sub(unsynced.len());
        unsynced.extend(issued.iter().take(room).map(|issued| (issued.id, *issued)));
    }

    fn synced(&self, issued: &[Issued]) {
        let mut unsynced = self.unsynced.lock();
        for issued in issued {
            unsynced.remove(&issued.id);
        }
    }

    /// Reports what the store does not know yet. The mark of the next report says that all of it is reported.
    pub(super) async fn sync(&self) -> Result<(), StoreError> {
        let issued: Vec<_> = self.unsynced.lock().values().copied().collect();
        if issued.is_empty() {
            return Ok(());
        }
        self.services.store.issue(&issued).await?;
        self.synced(&issued);
        Ok(())
    }

    /// Whether a token was handed out here, and the store does not know it yet.
    pub(super) fn is_unsynced(&self, id: SessionId) -> bool {
        self.unsynced.lock().contains_key(&id)
    }

    /// Whether a token that the store does not know may be one from before its knowledge began. Such a token counts as last
    /// active then, and until it has been idle for the timeout the app alone decides about it.
    #[must_use]
    pub fn may_be_older(&self) -> bool {
        let Knowledge { since, .. } = self.services.store.knowledge();
        let now = self.services.now() / 1000;
        now.saturating_sub(since) <= self.services.limits.timeout
    }

    /// Whether every replica has reported up to the time when this unknown token came first.
    pub(super) fn is_certain(&self, id: SessionId) -> bool {
        let now = self.services.now() / 1000;
        let mut first_seen = self.first_seen.lock();
        if first_seen.len() >= MAX_FIRST_SEEN && !first_seen.contains_key(&id) {
            first_seen.clear();
        }
        let first = *first_seen.entry(id).or_insert(now);
        self.services.store.knowledge().until > first
    }

    /// Logs where a rule must go on admitting unknown tokens, since it does not see the app hand tokens out.
    pub(super) fn review(&self) {
        if self.may_be_older() {
            return;
        }
        for watched in self.rules.read().iter() {
            let (issued, count) = watched.latest.counts();
            let is_blind = count >= REPORTED_FROM && !watched.latest.are_issued();
            self.services.metrics.unissued(watched.number, watched.from, is_blind);
            if is_blind && !watched.is_reported.swap(true, Ordering::AcqRel) {
                tracing::error!(
                    rule = watched.label,
                    issued,
                    sessions = count,
                    "a rule with unknown = \"refuse\" goes on admitting unknown tokens, since most of its latest sessions began with \
                    a token that the app was not seen to hand out; add a rule for where the app issues it (response-json, \
                    ws-server, or the cookie's own name on the login's path), or set unknown = \"admit\""
                );
            } else if !is_blind {
                watched.is_reported.store(false, Ordering::Release);
            }
        }
    }

    /// The rules that go on admitting unknown tokens for this reason.
    #[must_use]
    pub fn blind_rules(&self) -> Vec<String> {
        let rules = self.rules.read();
        let blind = rules.iter().filter(|watched| watched.is_reported.load(Ordering::Acquire));
        blind.map(|watched| watched.label.clone()).collect()
    }

    /// When a request that waits for certainty gives up.
    pub(super) fn until(&self) -> Moment {
        self.services.clock.now().plus(milliseconds(self.services.exchange.lookup_timeout))
    }
}

/// Says which rules go on admitting unknown tokens, and why.
pub(crate) fn unissued_tokens(rules: &[String]) -> String {
    format!(
        "Unknown tokens are admitted in spite of unknown = \"refuse\" ({}): the app was not seen to issue most of the latest ones.",
        rules.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_the_latest_sessions_must_be_issued() {
        let latest = Latest::default();
        assert!(!latest.are_issued(), "nothing is known yet");
        for _ in 0..40 {
            latest.push(Origin::Unseen);
        }
        assert_eq!(latest.counts(), (0, 32));
        for number in 1..=16 {
            assert!(!latest.are_issued(), "{number}");
            latest.push(Origin::Issued);
        }
        assert!(latest.are_issued() && latest.counts() == (16, 32));
        latest.push(Origin::Unseen);
        assert!(latest.are_issued(), "one of the earlier unseen ones has gone");
    }
}
