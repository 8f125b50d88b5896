//! Receives the store's notifications, and rechecks sessions periodically to find ends whose notification was missed.

use super::{Registry, TrackedSession};
use crate::store::{Known, Notification, StoreError};
use futures_util::future::join_all;
use std::convert::Infallible;
use std::time::Duration;

/// How often known sessions are looked up again, to find ends whose notification was missed.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// The pause before a retry if the store did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The maximum number of concurrent lookups.
pub(super) const MAX_CONCURRENT_LOOKUPS: usize = 64;

impl Registry {
    /// Receives the store's notifications, and rechecks all sessions periodically for missed ones. Both run
    /// concurrently with each other and with the reports: looking up all sessions takes longer than a report or a
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
                Err(error) => tracing::debug!(%error, "could not receive notifications of the store"),
            }
        }
    }

    async fn recheck_periodically(&self) -> Infallible {
        let mut pause = RECHECK_EVERY;
        loop {
            // Recheck sooner if notifications may have been missed.
            let _ = tokio::time::timeout(pause, self.missed.notified()).await;
            pause = match self.recheck_all().await {
                Ok(()) => RECHECK_EVERY,
                Err(error) => {
                    tracing::debug!(%error, "recheck for missed ends failed; retried until the store answers");
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
                    tracing::debug!(session = %id, %error, "lookup failed; the next round judges the session");
                    // A round waits longer than a lookup, and retries until the store answers.
                    self.judge_at(&session, self.clock.now());
                }
            }
            Notification::Switched(fleet) => self.fleet_switched(fleet),
            Notification::Asked(question) => self.answer(&question).await,
            Notification::Gap => self.missed.notify_one(),
        }
    }

    /// Looks up a session that may have ended on another replica.
    async fn recheck(&self, session: &TrackedSession) -> Result<(), StoreError> {
        match self.store.lookup(session.id()).await? {
            Known::Ended(ended) => drop(self.end_if_enforced(session, ended)),
            Known::Live(_) | Known::Overdue(..) => {}
            // The store lost a session that is known here. The next round asks for a verdict, which writes it back. Only
            // a verdict request shows the store that it lost the session, and restarts idle time. Other replicas may
            // have reported later activity, and will not report it again.
            Known::Unknown => self.judge_at(session, self.clock.now()),
        }
        Ok(())
    }

    /// Looks up all live sessions. Stops at the first error: in an outage, the remaining lookups would fail as well.
    pub(crate) async fn recheck_all(&self) -> Result<(), StoreError> {
        let live: Vec<_> = self.all().into_iter().filter(|session| session.ended().is_none()).collect();
        for some in live.chunks(MAX_CONCURRENT_LOOKUPS) {
            join_all(some.iter().map(|session| self.recheck(session))).await.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }
}
