//! Receives the store's notifications.

use super::Registry;
use crate::store::Notification;
use std::convert::Infallible;

impl Registry {
    /// Receives the store's notifications. They only save time: an end on another replica is also told by the next report.
    pub async fn listen(&self) -> Infallible {
        loop {
            match self.store.next_notification().await {
                Ok(notification) => self.notified(notification).await,
                Err(error) => tracing::debug!(%error, "could not receive notifications of the store"),
            }
        }
    }

    async fn notified(&self, notification: Notification) {
        match notification {
            Notification::Hint => self.hinted.notify_one(),
            Notification::Switched(fleet) => self.fleet_switched(fleet),
            Notification::Asked(question) => self.answer(&question).await,
        }
    }
}
