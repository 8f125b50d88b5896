//! Ends that other replicas have decided: heard of, or found by looking again.

use super::{Keeper, Session};
use crate::store::{Heard, Known};
use std::time::Duration;

/// How often known sessions are looked up again, for an end that was not heard of.
const LOOKED_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// How many look-ups are under way at once then.
const LOOKED_UP_AT_ONCE: usize = 64;

impl Keeper {
    /// Hears, for ever, what the store tells by itself. Beside the rounds: looking up all sessions may take longer than
    /// a report may be late.
    pub async fn listen(&self) {
        let mut looked = self.clock.now();
        loop {
            let wait = LOOKED_AGAIN_EVERY.saturating_sub(Duration::from_millis(self.clock.now().since(looked)));
            match tokio::time::timeout(wait, self.store.heard()).await {
                Ok(Ok(heard)) => self.hear(heard).await,
                Ok(Err(error)) => tracing::debug!(%error, "the store cannot be heard"),
                Err(_) => {
                    looked = self.clock.now();
                    self.look_again_at_all().await;
                }
            }
        }
    }

    async fn hear(&self, heard: Heard) {
        match heard {
            Heard::Ended(id) => {
                if let Some(session) = self.known(id).filter(|session| session.ended().is_none()) {
                    self.look_again(&session).await;
                }
            }
            Heard::Switched(fleet) => self.hear_of_fleet(fleet),
            Heard::Asked(question) => self.answer(&question).await,
            Heard::Gap => self.look_again_at_all().await,
        }
    }

    /// Looks up again what may have ended elsewhere.
    pub(super) async fn look_again(&self, session: &Session) {
        match self.store.look_up(session.id()).await {
            Ok(Known::Ended(ended)) => self.over(session, ended),
            Ok(Known::Live(_) | Known::Lapsed(..)) => {}
            // Lost there, known here: it is written back by judging it with the next round. Only so the store learns that
            // it was lost, and counts anew: others may have told of later activity, and will not tell of it again.
            Ok(Known::Unknown) => self.judge_at(session, self.clock.now()),
            Err(error) => {
                tracing::debug!(session = %session.id(), %error, "a session could not be looked up again");
                // A round has more patience than a look-up, and it comes again until there is an answer.
                self.judge_at(session, self.clock.now());
            }
        }
    }

    pub(crate) async fn look_again_at_all(&self) {
        let live: Vec<_> = self.all().into_iter().filter(|session| session.ended().is_none()).collect();
        for some in live.chunks(LOOKED_UP_AT_ONCE) {
            futures_util::future::join_all(some.iter().map(|session| self.look_again(session))).await;
        }
    }
}
