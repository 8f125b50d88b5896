//! Lookups of tokens that this replica does not know: one per token, shared by concurrent requests.

use super::UnknownTokens;
use super::{Registry, Resolved};
use crate::clock::milliseconds;
use crate::session::{Mode, SessionId};
use crate::store::{Due, Known, Live, StoreError, Touch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How soon a token is looked up again that the store may have lost.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(30);

/// The result of a lookup, once it has finished.
type LookupResult = watch::Receiver<Option<Resolved>>;

/// The lookups in progress.
#[derive(Debug, Default)]
pub(super) struct Lookups(Mutex<HashMap<SessionId, LookupResult>>);

impl Registry {
    /// Resolves the token with this session id. A known session is resolved from memory. Only an unknown token is
    /// looked up in the store, and waits up to `lookup_timeout`.
    pub async fn resolve(self: &Arc<Self>, id: SessionId) -> Resolved {
        if self.mode() == Mode::Off {
            return Resolved::Unknown;
        }
        let resolved = match self.known(id) {
            Some(session) => Resolved::of(session),
            None => self.bounded_lookup(id).await,
        };
        self.under_mode(id, resolved)
    }

    async fn bounded_lookup(self: &Arc<Self>, id: SessionId) -> Resolved {
        let mut found = self.shared_lookup(id);
        let timeout = self.exchange.lookup_timeout;
        match tokio::time::timeout(timeout, found.wait_for(Option::is_some)).await {
            Ok(Ok(resolved)) => resolved.clone().unwrap_or(Resolved::Undecided),
            _ => self.lookup_failed(id, &StoreError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }

    /// Looks `id` up, or joins a lookup of it in progress. The lookup continues after its callers have given up, so
    /// that a slow store serves at least the next request, and a thousand reconnects cost one lookup.
    fn shared_lookup(self: &Arc<Self>, id: SessionId) -> LookupResult {
        let mut under_way = self.lookups.0.lock();
        if let Some(found) = under_way.get(&id) {
            return found.clone();
        }
        let (answer, found) = watch::channel(None);
        under_way.insert(id, found.clone());
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            let resolved = registry.lookup(id).await;
            registry.lookups.0.lock().remove(&id);
            answer.send_replace(Some(resolved));
        });
        found
    }

    async fn lookup(&self, id: SessionId) -> Resolved {
        let known = match self.lookup_complete(id).await {
            // Its timeout may have passed while no replica knew it. The store must judge it before it is admitted.
            Ok(Known::Live(Live { age, source, created_age, due_in: 0 })) => {
                let touch = Touch { id, age, source, created_age, begins: false };
                let judged = self.store.judge(Due { touch, seen_idle: 0 }, self.mode()).await;
                if let Ok(Known::Ended(ended)) = &judged {
                    self.record_end(id, ended, None);
                }
                judged
            }
            known => known,
        };
        match known {
            Ok(known) => self.adopt(id, known).0,
            Err(error) => self.lookup_failed(id, &error),
        }
    }

    /// A token that the store does not know is undecided while the replicas write back what the store has lost.
    async fn lookup_complete(&self, id: SessionId) -> Result<Known, StoreError> {
        let until = self.clock.now().plus(milliseconds(self.exchange.lookup_timeout));
        loop {
            let known = self.store.lookup(id).await;
            if !matches!(known, Err(StoreError::Recovering)) || self.clock.now() >= until {
                return known;
            }
            self.hinted.notify_one();
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn lookup_failed(&self, id: SessionId, error: &StoreError) -> Resolved {
        let choice = self.exchange.unknown_tokens;
        tracing::debug!(session = %id, %error, ?choice, "token lookup failed");
        match choice {
            UnknownTokens::Admit => Resolved::Unknown,
            UnknownTokens::Refuse => Resolved::Undecided,
        }
    }
}
