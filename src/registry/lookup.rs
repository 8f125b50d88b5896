//! Tokens that this replica does not know: one look-up each, shared by all who ask meanwhile.

use super::UnknownTokens;
use super::{Registry, Resolved, resolved};
use crate::session::{Mode, SessionId};
use crate::store::{Known, Live, StoreError, Touch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a look-up will have found, when it is through.
type LookupResult = watch::Receiver<Option<Resolved>>;

/// The look-ups that are under way.
#[derive(Debug, Default)]
pub(super) struct Lookups(Mutex<HashMap<SessionId, LookupResult>>);

impl Registry {
    /// What the token with this session id stands for. A known session is answered from memory. Only an unknown token
    /// asks the store, and waits up to `lookup_timeout`.
    pub async fn resolve(self: &Arc<Self>, id: SessionId) -> Resolved {
        if self.mode() == Mode::Off {
            return Resolved::Unknown;
        }
        let standing = match self.known(id) {
            Some(session) => resolved(session),
            None => self.bounded_lookup(id).await,
        };
        self.as_the_mode_has_it(id, standing)
    }

    async fn bounded_lookup(self: &Arc<Self>, id: SessionId) -> Resolved {
        let mut found = self.shared_lookup(id);
        let timeout = self.exchange.lookup_timeout;
        match tokio::time::timeout(timeout, found.wait_for(Option::is_some)).await {
            Ok(Ok(standing)) => standing.clone().unwrap_or(Resolved::Undecided),
            _ => self.lookup_failed(id, &StoreError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }

    /// Looks `id` up, or joins a lookup of it that is under way. The lookup continues after its callers have left or
    /// given up: so a slow store answers at least the next request, and a thousand reconnects cost one lookup.
    fn shared_lookup(self: &Arc<Self>, id: SessionId) -> LookupResult {
        let mut under_way = self.lookups.0.lock();
        if let Some(found) = under_way.get(&id) {
            return found.clone();
        }
        let (answer, found) = watch::channel(None);
        under_way.insert(id, found.clone());
        let registry = Arc::clone(self);
        tokio::spawn(async move {
            let standing = registry.lookup(id).await;
            registry.lookups.0.lock().remove(&id);
            answer.send_replace(Some(standing));
        });
        found
    }

    async fn lookup(&self, id: SessionId) -> Resolved {
        let known = match self.store.lookup(id).await {
            // It may have been idle too long while no replica knew it: that is decided before it is admitted.
            Ok(Known::Live(Live { age, source, created_age, due_in: 0 })) => {
                let judged = self.store.judge(Touch { id, age, source, created_age }, 0, self.mode()).await;
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

    fn lookup_failed(&self, id: SessionId, error: &StoreError) -> Resolved {
        let choice = self.exchange.unknown_tokens;
        tracing::debug!(session = %id, %error, ?choice, "a token could not be looked up");
        match choice {
            UnknownTokens::Admit => Resolved::Unknown,
            UnknownTokens::Refuse => Resolved::Undecided,
        }
    }
}
