//! The sessions that this replica holds in memory. Requests are admitted from here, activity is recorded here, and each
//! session is judged when its deadline passes.
//!
//! A deadline never ends a session by itself. It triggers a request to the store, which merges the activity that this
//! replica saw and then decides. If there was activity in the meantime, the store returns a later deadline.
//!
//! Four owners. Each calls only those below it:
//!
//! ```text
//! Inspect    what operators ask and do            Exchange   with the store, once per interval
//!            └────────────────┬──────────────────────────────┘
//!                           Modes      the switches, and what a change of the mode does
//!                             │
//!                           Table      resolve a token, begin and end a session
//!                             │
//!            Sessions (in memory, in shards) · Issues (tokens handed out) · Decisions (log, metric, audit event) · Services (store, clock, limits)
//! ```

mod attachment;
mod decisions;
mod exchange;
#[cfg(test)]
mod fleet_tests;
mod inspect;
mod issues;
mod lookup;
mod modes;
#[cfg(test)]
mod modes_tests;
mod recent;
mod rounds;
mod services;
mod session_view;
mod sessions;
mod settings;
mod store_status;
#[cfg(test)]
mod store_tests;
mod switch;
mod table;
#[cfg(test)]
mod tests;
mod tracked_session;
mod traffic;
mod watch;

pub use attachment::{Attachment, AwaitingResponse, Tolerated};
pub use decisions::Decisions;
pub use exchange::Exchange;
pub use inspect::{FleetReply, Inspect, MAX_LISTED, Overview, Reach};
pub(crate) use issues::unissued_tokens;
pub use issues::{Issues, Origin};
pub use modes::Modes;
pub use recent::Past;
pub use services::Services;
pub use session_view::{End, LastClose, LastIgnored, LastRequest, SessionView, State, Timing};
pub use settings::{ExchangeSettings, UnknownTokens};
pub use store_status::{StoreState, StoreStatus};
pub use switch::{Setting, Switch};
pub use table::Table;
pub use tracked_session::{Closed, TrackedSession};
pub use traffic::Traffic;
pub use watch::{MAX_WATCH, TrafficTimes, TrafficWatch, Watched};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::session::{EpochSeconds, Limits, Mode};
use crate::store::{Ended, Notification};
use std::convert::Infallible;
use std::sync::Arc;

/// The result of resolving a token.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// The token is unknown. The app decides, and nothing is tracked until it accepts the token.
    Unknown,
    /// The app has handed the token out, and no client has used it yet.
    Issued,
    /// The token is unknown for certain: the app was not seen to hand it out, nor to accept it. Only where a rule refuses such.
    NeverSeen,
    /// A live session.
    Live(Arc<TrackedSession>),
    /// An ended session: the token is dead.
    Ended(Ended),
    /// The session has ended, but the mode tolerates its token. The app decides, and nothing is tracked.
    Tolerated(Tolerated),
    /// The store does not answer, and `unknown_tokens` refuses unknown tokens until it does.
    Undecided,
}

impl Resolved {
    fn of(session: Arc<TrackedSession>) -> Self {
        match session.ended() {
            Some(ended) => Self::Ended(*ended),
            None => Self::Live(session),
        }
    }
}

/// The sessions of this replica, by what is done with them.
#[derive(Debug)]
pub struct Registry {
    services: Arc<Services>,
    /// Resolves tokens, and begins and ends sessions.
    pub table: Arc<Table>,
    /// Knows which tokens the app hands out.
    pub issues: Arc<Issues>,
    /// Sets the mode.
    pub modes: Arc<Modes>,
    /// Exchanges with the store.
    pub exchange: Exchange,
    /// The state of the store.
    pub store: Arc<StoreState>,
    /// Answers operators.
    pub inspect: Inspect,
    /// Records decisions.
    pub decisions: Arc<Decisions>,
    /// Records what counts, while an operator watches.
    pub watch: TrafficWatch,
}

impl Registry {
    /// An empty registry for at most `max_sessions` live sessions.
    #[must_use]
    pub fn new(services: Services, max_sessions: usize) -> Self {
        let services = Arc::new(services);
        let decisions = Arc::new(Decisions::new(Arc::clone(&services)));
        let issues = Arc::new(Issues::new(Arc::clone(&services)));
        let table = Table::new(Arc::clone(&services), Arc::clone(&decisions), Arc::clone(&issues), max_sessions);
        let table = Arc::new(table);
        let modes = Arc::new(Modes::new(Arc::clone(&services), Arc::clone(&decisions), Arc::clone(&table)));
        let store = Arc::new(StoreState::new(Arc::clone(&services)));
        Self {
            exchange: Exchange::new(
                Arc::clone(&services),
                Arc::clone(&table),
                Arc::clone(&modes),
                Arc::clone(&issues),
                Arc::clone(&store),
            ),
            inspect: Inspect::new(
                Arc::clone(&services),
                Arc::clone(&decisions),
                Arc::clone(&table),
                Arc::clone(&modes),
            ),
            services,
            table,
            issues,
            modes,
            store,
            decisions,
            watch: TrafficWatch::default(),
        }
    }

    /// This replica's name.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.services.replica
    }

    /// When it started. A store in memory knows nothing from before.
    #[must_use]
    pub fn started(&self) -> EpochSeconds {
        self.services.started
    }

    /// The metrics of sessions and of the work done for them.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.services.metrics
    }

    /// The clock that stamps all activity.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.services.clock
    }

    /// The limits on sessions.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.services.limits
    }

    /// The mode in force: that of the least strict switch.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.services.mode()
    }

    /// The current time in epoch milliseconds, by the store's clock as last known.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.services.now()
    }

    /// The store's kind: `memory`, `file` or `redis`.
    #[must_use]
    pub fn store_kind(&self) -> &'static str {
        self.services.store.kind()
    }

    /// Receives the store's notifications. They only save time: the next report tells the same.
    pub async fn listen(&self) -> Infallible {
        loop {
            match self.services.store.next_notification().await {
                Ok(Notification::Hint) => self.table.hinted.notify_one(),
                Ok(Notification::Switched(fleet)) => self.modes.fleet_switched(fleet),
                Ok(Notification::Asked(question)) => self.inspect.answer(&question).await,
                Err(error) => tracing::debug!(%error, "could not receive notifications of the store"),
            }
        }
    }
}
