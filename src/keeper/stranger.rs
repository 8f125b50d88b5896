//! Tokens that this replica does not know: one look-up each, shared by all who ask meanwhile.

use super::{Keeper, Standing, standing_of};
use crate::config::UnknownTokens;
use crate::session::{Mode, SessionId};
use crate::store::{Known, Live, StoreError, Touch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a look-up will have found, when it is through.
type Found = watch::Receiver<Option<Standing>>;

/// The look-ups that are under way.
#[derive(Debug, Default)]
pub(super) struct LookUps(Mutex<HashMap<SessionId, Found>>);

impl Keeper {
    /// What the token with this session id stands for. A known session is answered from memory; the store is asked
    /// only about a stranger, who waits for `lookup_timeout` at most.
    pub async fn standing(self: &Arc<Self>, id: SessionId) -> Standing {
        if self.mode() == Mode::Off {
            return Standing::Unknown;
        }
        let standing = match self.known(id) {
            Some(session) => standing_of(session),
            None => self.ask_about(id).await,
        };
        self.as_the_mode_has_it(id, standing)
    }

    async fn ask_about(self: &Arc<Self>, id: SessionId) -> Standing {
        let mut found = self.look_up_once(id);
        let timeout = self.dealings.lookup_timeout;
        match tokio::time::timeout(timeout, found.wait_for(Option::is_some)).await {
            Ok(Ok(standing)) => standing.clone().unwrap_or(Standing::Undecided),
            _ => self.not_looked_up(id, &StoreError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }

    /// Looks `id` up, or joins whoever does. The look-up goes on when those who asked have gone, or have waited long
    /// enough: a slow store is known to the next request at least, and a thousand reconnects are one question.
    fn look_up_once(self: &Arc<Self>, id: SessionId) -> Found {
        let mut under_way = self.look_ups.0.lock();
        if let Some(found) = under_way.get(&id) {
            return found.clone();
        }
        let (tell, found) = watch::channel(None);
        under_way.insert(id, found.clone());
        let keeper = Arc::clone(self);
        tokio::spawn(async move {
            let standing = keeper.look_up(id).await;
            keeper.look_ups.0.lock().remove(&id);
            tell.send_replace(Some(standing));
        });
        found
    }

    async fn look_up(&self, id: SessionId) -> Standing {
        let known = match self.store.look_up(id).await {
            // Idle for too long while nobody here knew it: that is to be decided before it is admitted.
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
            Err(error) => self.not_looked_up(id, &error),
        }
    }

    fn not_looked_up(&self, id: SessionId, error: &StoreError) -> Standing {
        let choice = self.dealings.unknown_tokens;
        tracing::debug!(session = %id, %error, ?choice, "a token could not be looked up");
        match choice {
            UnknownTokens::Admit => Standing::Unknown,
            UnknownTokens::Refuse => Standing::Undecided,
        }
    }
}
