//! Ends that other replicas have decided: heard of, or found by looking again.

use super::{Registry, TrackedSession};
use crate::store::{Known, Notification, StoreError};
use futures_util::future::join_all;
use std::convert::Infallible;
use std::time::Duration;

/// How often known sessions are looked up again, for an end that was not heard of.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// How soon it is tried again where the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many look-ups are under way at once then.
pub(super) const MAX_CONCURRENT_LOOKUPS: usize = 64;

impl Registry {
    /// Hears, for ever, what the store tells by itself, and looks again now and then for what was not heard. Beside the
    /// rounds, and beside each other: looking up all sessions takes longer than a report, or word of an end, may be late.
    pub async fn listen(&self) -> Infallible {
        tokio::select! {
            never = self.receive_all() => never,
            never = self.recheck_periodically() => never,
        }
    }

    async fn receive_all(&self) -> Infallible {
        loop {
            match self.store.heard().await {
                Ok(heard) => self.hear(heard).await,
                Err(error) => tracing::debug!(%error, "the store cannot be heard"),
            }
        }
    }

    async fn recheck_periodically(&self) -> Infallible {
        let mut pause = RECHECK_EVERY;
        loop {
            // Sooner where something may have been missed.
            let _ = tokio::time::timeout(pause, self.missed.notified()).await;
            pause = match self.recheck_all().await {
                Ok(()) => RECHECK_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "what may have ended elsewhere is looked up when the store answers");
                    RETRY_AFTER
                }
            };
        }
    }

    async fn hear(&self, heard: Notification) {
        match heard {
            Notification::Ended(id) => {
                if let Some(session) = self.known(id).filter(|session| session.ended().is_none())
                    && let Err(error) = self.recheck(&session).await
                {
                    tracing::debug!(session = %id, %error, "a session could not be looked up again");
                    // A round has more patience than a look-up, and it comes again until there is an answer.
                    self.judge_at(&session, self.clock.now());
                }
            }
            Notification::Switched(fleet) => self.fleet_switched(fleet),
            Notification::Asked(question) => self.answer(&question).await,
            Notification::Gap => self.missed.notify_one(),
        }
    }

    /// Looks up again what may have ended elsewhere.
    async fn recheck(&self, session: &TrackedSession) -> Result<(), StoreError> {
        match self.store.lookup(session.id()).await? {
            Known::Ended(ended) => drop(self.over(session, ended)),
            Known::Live(_) | Known::Overdue(..) => {}
            // Lost there, known here: it is written back by judging it with the next round. Only so the store learns that
            // it was lost, and counts anew: others may have told of later activity, and will not tell of it again.
            Known::Unknown => self.judge_at(session, self.clock.now()),
        }
        Ok(())
    }

    /// Looks up again all that is live. Where the store does not answer it goes no further: in an outage that would be
    /// work for nothing, for each session, each time.
    pub(crate) async fn recheck_all(&self) -> Result<(), StoreError> {
        let live: Vec<_> = self.all().into_iter().filter(|session| session.ended().is_none()).collect();
        for some in live.chunks(MAX_CONCURRENT_LOOKUPS) {
            join_all(some.iter().map(|session| self.recheck(session))).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}
