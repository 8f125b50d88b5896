//! Ends that other replicas have decided: heard of, or found by looking again.

use super::{Keeper, Session};
use crate::store::{Heard, Known, StoreError};
use futures_util::future::join_all;
use std::convert::Infallible;
use std::time::Duration;

/// How often known sessions are looked up again, for an end that was not heard of.
const LOOKED_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// How soon it is tried again where the store did not answer.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How many look-ups are under way at once then.
pub(super) const LOOKED_UP_AT_ONCE: usize = 64;

impl Keeper {
    /// Hears, for ever, what the store tells by itself, and looks again now and then for what was not heard. Beside the
    /// rounds, and beside each other: looking up all sessions takes longer than a report, or word of an end, may be late.
    pub async fn listen(&self) -> Infallible {
        tokio::select! {
            never = self.hear_all() => never,
            never = self.look_again_now_and_then() => never,
        }
    }

    async fn hear_all(&self) -> Infallible {
        loop {
            match self.store.heard().await {
                Ok(heard) => self.hear(heard).await,
                Err(error) => tracing::debug!(%error, "the store cannot be heard"),
            }
        }
    }

    async fn look_again_now_and_then(&self) -> Infallible {
        let mut pause = LOOKED_AGAIN_EVERY;
        loop {
            // Sooner where something may have been missed.
            let _ = tokio::time::timeout(pause, self.missed.notified()).await;
            pause = match self.look_again_at_all().await {
                Ok(()) => LOOKED_AGAIN_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "what may have ended elsewhere is looked up when the store answers");
                    TRIED_AGAIN_AFTER
                }
            };
        }
    }

    async fn hear(&self, heard: Heard) {
        match heard {
            Heard::Ended(id) => {
                if let Some(session) = self.known(id).filter(|session| session.ended().is_none())
                    && let Err(error) = self.look_again(&session).await
                {
                    tracing::debug!(session = %id, %error, "a session could not be looked up again");
                    // A round has more patience than a look-up, and it comes again until there is an answer.
                    self.judge_at(&session, self.clock.now());
                }
            }
            Heard::Switched(fleet) => self.hear_of_fleet(fleet),
            Heard::Asked(question) => self.answer(&question).await,
            Heard::Gap => self.missed.notify_one(),
        }
    }

    /// Looks up again what may have ended elsewhere.
    async fn look_again(&self, session: &Session) -> Result<(), StoreError> {
        match self.store.look_up(session.id()).await? {
            Known::Ended(ended) => drop(self.over(session, ended)),
            Known::Live(_) | Known::Lapsed(..) => {}
            // Lost there, known here: it is written back by judging it with the next round. Only so the store learns that
            // it was lost, and counts anew: others may have told of later activity, and will not tell of it again.
            Known::Unknown => self.judge_at(session, self.clock.now()),
        }
        Ok(())
    }

    /// Looks up again all that is live. Where the store does not answer it goes no further: in an outage that would be
    /// work for nothing, for each session, each time.
    pub(crate) async fn look_again_at_all(&self) -> Result<(), StoreError> {
        let live: Vec<_> = self.all().into_iter().filter(|session| session.ended().is_none()).collect();
        for some in live.chunks(LOOKED_UP_AT_ONCE) {
            join_all(some.iter().map(|session| self.look_again(session)))
                .await
                .into_iter()
                .collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}
