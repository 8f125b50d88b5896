//! Ends decided by other replicas: by notification, or by a periodic recheck.

use super::{Registry, TrackedSession};
use crate::store::{Known, Notification, StoreError};
use futures_util::future::join_all;
use std::convert::Infallible;
use std::time::Duration;

/// How often known sessions are looked up again, to find ends whose notification was missed.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// How soon it is tried again where the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many look-ups are under way at once then.
pub(super) const MAX_CONCURRENT_LOOKUPS: usize = 64;

impl Registry {
    /// Receives the store's notifications for ever, and rechecks sessions now and then for missed ones. It runs beside
    /// the reports, and both parts run concurrently: looking up all sessions takes longer than a report or a
    /// notification may wait.
    pub async fn listen(&self) -> Infallible {
        tokio::select! {
            never = self.receive_all() => never,
            never = self.recheck_periodically() => never,
        }
    }

    async fn receive_all(&self) -> Infallible {
        loop {
            match self.store.next_notification().await {
                Ok(notification) => self.notified(notification).await,
                Err(error) => tracing::debug!(%error, "the store's notifications cannot be received"),
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
                    tracing::debug!(%error, "sessions that may have ended elsewhere are looked up when the store \
                    answers");
                    RETRY_AFTER
                }
            };
        }
    }

    async fn notified(&self, notification: Notification) {
        match notification {
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
            // The store lost a session that is known here: the next report asks for a verdict, which writes it back.
            // Only this tells the store that it lost the session, so that idle time starts again: other replicas may
            // have reported later activity, and will not report it again.
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
