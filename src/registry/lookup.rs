//! Lookups of tokens that this replica does not know: one per token, shared by concurrent requests.

use super::Resolved;
use crate::session::SessionId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// The result of a lookup, once it has finished.
pub(super) type LookupResult = watch::Receiver<Option<Resolved>>;

/// The lookups in progress.
#[derive(Debug, Default)]
pub(super) struct Lookups(Mutex<HashMap<SessionId, LookupResult>>);

impl Lookups {
    /// Starts `lookup` for `id`, or joins one in progress. It continues after its callers have given up, so that a slow store
    /// serves at least the next request, and a thousand reconnects cost one lookup.
    pub(super) fn shared<F>(self: &Arc<Self>, id: SessionId, lookup: impl FnOnce() -> F) -> LookupResult
    where
        F: Future<Output = Resolved> + Send + 'static,
    {
        let mut under_way = self.0.lock();
        if let Some(found) = under_way.get(&id) {
            return found.clone();
        }
        let (answer, found) = watch::channel(None);
        under_way.insert(id, found.clone());
        let (lookups, lookup) = (Arc::clone(self), lookup());
        tokio::spawn(async move {
            let resolved = lookup.await;
            lookups.0.lock().remove(&id);
            answer.send_replace(Some(resolved));
        });
        found
    }
}
