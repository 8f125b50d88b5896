//! The sessions that this replica holds in memory. Requests are admitted from here, activity is recorded here, and each
//! session is judged when its deadline passes.
//!
//! A deadline never ends a session by itself. It triggers a request to the store, which merges the activity that this
//! replica saw and then decides. If there was activity in the meantime, the store returns a later deadline.

mod attachment;
mod decisions;
mod exchange;
#[cfg(test)]
mod fleet_tests;
mod inspect;
mod lookup;
mod mode;
#[cfg(test)]
mod mode_tests;
mod notifications;
mod recent;
mod rounds;
mod session_view;
mod settings;
mod store_status;
#[cfg(test)]
mod store_tests;
mod switch;
mod table;
#[cfg(test)]
mod tests;
mod tracked_session;

pub use attachment::{Attachment, AwaitingResponse, Tolerated};
pub use inspect::{FleetReply, MAX_LISTED, Overview, Reach};
pub use recent::Past;
pub use session_view::{End, LastClose, LastRequest, SessionView, State, Timing};
pub use settings::{ExchangeSettings, UnknownTokens};
pub use store_status::StoreStatus;
pub use switch::{Setting, Switch};
pub use tracked_session::{Closed, TrackedSession};

use crate::audit::Caller;
use crate::clock::{Clock, Moment, epoch_milliseconds};
use crate::metrics::Metrics;
use crate::replica;
use crate::session::{Activity, EpochSeconds, Limits, Mode, Reason, SessionId, Source};
use crate::store::{Ended, Fleet, Known, Live, Store, Touch};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A session up to this old by the store's clock, in milliseconds, counts as new: the store floors times to the second,
/// and messages take time. An older session existed before; this replica did not know it because the store was
/// unavailable.
const NEW_WITHIN: u64 = 2_000;

/// The result of resolving a token.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// The token is unknown. The app decides, and nothing is tracked until it accepts the token.
    Unknown,
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

/// Holds the sessions of this replica.
#[derive(Debug)]
pub struct Registry {
    store: Box<dyn Store>,
    clock: Clock,
    /// The limits that the store judges by. Explanations are computed from them.
    limits: Limits,
    max_sessions: usize,
    exchange: ExchangeSettings,
    sessions: RwLock<table::Sessions>,
    lookups: lookup::Lookups,
    switches: switch::Switches,
    /// Cancelled and replaced when the mode changes to `enforce`: closes tolerated connections.
    tolerated: Mutex<CancellationToken>,
    /// This replica's name.
    replica: String,
    fleet: Mutex<SeenFleet>,
    /// The state of the store, after the first report.
    store_state: Mutex<Option<store_status::Reported>>,
    recent: Mutex<recent::Recent>,
    /// Notified when the next round should come early.
    hinted: Notify,
    full: AtomicBool,
    /// The mode was `off`, however briefly, and the store does not know this yet.
    off_unsynced: AtomicBool,
    /// When this registry started, by the store's clock.
    started: EpochSeconds,
    /// When the mode last changed to `enforce`, in epoch seconds; 0 if it has not changed since the start.
    enforces_since: AtomicU64,
    steps: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The fleet's switch, as this replica knows it.
#[derive(Debug, Default)]
struct SeenFleet {
    /// The value seen last.
    latest: Option<Fleet>,
    /// The number of notifications about it. A value read before the latest notification may be older than that.
    notified: u64,
}

impl Registry {
    /// An empty registry. `limits` must be the store's limits.
    #[must_use]
    pub fn new(store: Box<dyn Store>, clock: Clock, limits: Limits, max_sessions: usize) -> Self {
        Self {
            started: store.now().unwrap_or_else(epoch_milliseconds) / 1000,
            store,
            clock,
            limits,
            max_sessions,
            exchange: ExchangeSettings::default(),
            sessions: RwLock::default(),
            lookups: lookup::Lookups::default(),
            switches: switch::Switches::default(),
            tolerated: Mutex::default(),
            replica: replica::new_name(),
            fleet: Mutex::default(),
            store_state: Mutex::default(),
            recent: Mutex::default(),
            hinted: Notify::new(),
            full: AtomicBool::new(false),
            off_unsynced: AtomicBool::new(false),
            enforces_since: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            metrics: Arc::default(),
        }
    }

    /// Sets how it exchanges data with the store. Otherwise the defaults apply.
    #[must_use]
    pub fn with_exchange(self, exchange: ExchangeSettings) -> Self {
        Self { exchange, ..self }
    }

    /// Sets this replica's name. Otherwise a new name is generated.
    #[must_use]
    pub fn named(self, replica: String) -> Self {
        Self { replica, ..self }
    }

    /// This replica's name.
    #[must_use]
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Sets the metrics to update. The store updates the same ones.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Self {
        metrics.sessions_max.set(i64::try_from(self.max_sessions).unwrap_or(i64::MAX));
        Self { metrics, ..self }
    }

    /// When it started. A store in memory knows nothing from before.
    #[must_use]
    pub fn started(&self) -> EpochSeconds {
        self.started
    }

    /// The metrics of sessions and of the work done for them.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The clock that stamps all activity.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The limits on sessions.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The session `id`, if this replica has it in memory. Does not ask the store.
    #[must_use]
    pub fn known(&self, id: SessionId) -> Option<Arc<TrackedSession>> {
        self.sessions.read().by_id.get(&id).map(|entry| Arc::clone(&entry.session))
    }

    /// The app has accepted the token with this session id: its session begins, unless it is already known. `caller` is
    /// the client that sent the token, if known.
    pub async fn accept(&self, id: SessionId, caller: Option<&Caller>) -> Resolved {
        if self.mode() == Mode::Off {
            return Resolved::Unknown;
        }
        let resolved = self.begin(id, caller).await;
        if let (Resolved::Live(session), Some(caller)) = (&resolved, caller) {
            session.called_by(caller);
        }
        self.under_mode(id, resolved)
    }

    async fn begin(&self, id: SessionId, caller: Option<&Caller>) -> Resolved {
        if let Some(session) = self.known(id) {
            return Resolved::of(session);
        }
        if self.sessions.read().live >= self.max_sessions {
            self.note_full();
            return Resolved::Unknown;
        }
        self.metrics.active(Source::Accepted);
        let begun = Touch { id, age: 0, source: Source::Accepted, created_age: 0, begins: true };
        let from_store = self.store.begin(begun).await;
        let known = from_store.as_ref().copied().unwrap_or_else(|error| {
            tracing::debug!(session = %id, %error, "session begins here; reported to the store when it answers");
            Known::Live(Live { age: 0, source: Source::Accepted, created_age: 0, due_in: self.limit_ms() })
        });
        let (resolved, is_new) = self.adopt(id, known);
        if let (Resolved::Live(session), Err(_)) = (&resolved, from_store) {
            session.activity_record().mark_unknown();
        }
        if let (Known::Live(live), true) = (known, is_new)
            && live.created_age < NEW_WITHIN
        {
            self.record_start(id, live.created_age, caller);
        }
        resolved
    }

    fn limit_ms(&self) -> u64 {
        self.limits.timeout.saturating_mul(1000)
    }

    /// Ends a session regardless of its activity: the user logged out, or an operator ends it. An operator's end holds
    /// in any mode; a logout ends the session only in `enforce`. If the store does not know the session or does not
    /// answer, the session still ends here, and a later report sends the end to the store.
    pub async fn end(&self, session: &TrackedSession, reason: Reason) {
        let end_record = || self.store.end_record(session.touch_for_store(self.clock.now()), reason);
        if self.mode() != Mode::Enforce && reason != Reason::Operator {
            return self.mark_overdue(session, end_record());
        }
        let asked = self.store.end(session.id(), reason).await;
        if let Ok(Known::Ended(ended)) = asked {
            return self.close(session, ended);
        }
        tracing::debug!(session = %session.id(), ?asked, "session ends here; reported to the store when it answers");
        session.set_end_unsynced(true);
        self.close(session, end_record());
    }

    /// Adds a session that this replica did not know, with what the store knows of it. Returns whether it was new here.
    fn adopt(&self, id: SessionId, known: Known) -> (Resolved, bool) {
        let now = self.clock.now();
        let (session, deadline) = match known {
            Known::Unknown => return (Resolved::Unknown, false),
            Known::Live(live) | Known::Overdue(live, _) => {
                let Live { age, source, created_age, due_in } = live;
                let latest = Activity { at: now.minus(age), source };
                (TrackedSession::live(id, latest, now.minus(created_age), now), now.plus(due_in))
            }
            Known::Ended(ended) => {
                (TrackedSession::dead(id, now, ended, self.moment_of(&ended)), now.plus(ended.remembered_for))
            }
        };
        let mut sessions = self.sessions.write();
        // Another connection may have added it first. There must be one object per session, or a cut would miss
        // connections.
        if let Some(entry) = sessions.by_id.get(&id) {
            return (Resolved::of(Arc::clone(&entry.session)), false);
        }
        if session.ended().is_none() {
            self.metrics.tracked.inc();
            tracing::debug!(session = %id, "a session is tracked");
        }
        let session = Arc::new(session);
        sessions.insert(&session, deadline);
        self.update_gauge(&sessions);
        drop(sessions);
        (Resolved::of(session), true)
    }

    /// When a session ended, by this replica's clock: if the store loses the record, the end is reported again, as an
    /// age.
    fn moment_of(&self, ended: &Ended) -> Moment {
        let ago = self.store.now().map_or(0, |now| now.saturating_sub(ended.ended.saturating_mul(1000)));
        self.clock.now().minus(ago)
    }

    fn update_gauge(&self, sessions: &table::Sessions) {
        self.metrics.sessions.set(i64::try_from(sessions.live).unwrap_or(i64::MAX));
    }

    /// A live session has ended, or is forgotten.
    fn count_one_less(&self, sessions: &mut table::Sessions) {
        sessions.live = sessions.live.saturating_sub(1);
        if sessions.live < self.max_sessions {
            self.full.store(false, Ordering::Relaxed);
        }
        self.update_gauge(sessions);
    }

    /// Records the end and notifies every connection of the session. Later ends are ignored.
    fn close(&self, session: &TrackedSession, ended: Ended) {
        let closed = self.moment_of(&ended);
        // The end and its new deadline change under one lock. Otherwise a round could see the session as ended with the
        // deadline of a live one, and forget it.
        let mut sessions = self.sessions.write();
        if !session.close(ended, closed) {
            return;
        }
        self.count_one_less(&mut sessions);
        sessions.arm(session.id(), self.clock.now().plus(ended.remembered_for));
        drop(sessions);
        self.record_end(session.id(), &ended, Some(session));
    }

    /// Logs once that the table is full, until there is room again: otherwise the warning would flood the log.
    fn note_full(&self) {
        self.metrics.untracked.inc();
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                max_sessions = self.max_sessions,
                "max_sessions reached; further sessions are not tracked and never expire; raise max_sessions"
            );
        }
    }
}
