//! Which sessions there are here: a token is resolved, a session begins, and ends.

use super::attachment::{Tolerated, Tolerations};
use super::decisions::Decisions;
use super::issues::{Issues, Origin};
use super::lookup::Lookups;
use super::services::Services;
use super::sessions::{Added, Sessions};
use super::settings::UnknownTokens;
use super::{Resolved, TrackedSession};
use crate::audit::Caller;
use crate::clock::{Moment, milliseconds};
use crate::session::{Activity, Mode, Reason, SessionId, Source};
use crate::store::{Due, Ended, Known, Live, StoreError, Touch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// A session up to this old by the store's clock, in milliseconds, counts as new: the store floors times to the second,
/// and messages take time. An older session existed before; this replica did not know it because the store was
/// unavailable.
const NEW_WITHIN: u64 = 2_000;

/// How soon a token is looked up again that the store may have lost.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(30);

/// The sessions of this replica: requests are admitted from here.
#[derive(Debug)]
pub struct Table {
    services: Arc<Services>,
    decisions: Arc<Decisions>,
    pub(super) sessions: Sessions,
    lookups: Arc<Lookups>,
    issues: Arc<Issues>,
    tolerations: Tolerations,
    /// Notified when the next exchange with the store should come early.
    pub(super) hinted: Notify,
    /// Whether the table is full, and that was logged.
    full: AtomicBool,
}

impl Table {
    pub(super) fn new(
        services: Arc<Services>,
        decisions: Arc<Decisions>,
        issues: Arc<Issues>,
        max_sessions: usize,
    ) -> Self {
        services.metrics.sessions_max.set(i64::try_from(max_sessions).unwrap_or(i64::MAX));
        Self {
            services,
            decisions,
            sessions: Sessions::new(max_sessions),
            lookups: Arc::default(),
            issues,
            tolerations: Tolerations::default(),
            hinted: Notify::new(),
            full: AtomicBool::new(false),
        }
    }

    /// The session `id`, if this replica has it in memory. Does not ask the store.
    #[must_use]
    pub fn known(&self, id: SessionId) -> Option<Arc<TrackedSession>> {
        self.sessions.get(id)
    }

    /// Resolves the token with this session id. A known session is resolved from memory. Only an unknown token is
    /// looked up in the store, and waits up to `lookup_timeout`. In `off` nothing waits.
    pub async fn resolve(self: &Arc<Self>, id: SessionId) -> Resolved {
        match self.resolve_for(id, false).await {
            Resolved::NeverSeen => Resolved::Unknown,
            resolved => resolved,
        }
    }

    /// The same for a rule that refuses unknown tokens: waits, `lookup_timeout` at most, until a token is unknown for certain.
    pub async fn resolve_strictly(self: &Arc<Self>, id: SessionId) -> Resolved {
        self.resolve_for(id, true).await
    }

    async fn resolve_for(self: &Arc<Self>, id: SessionId, strictly: bool) -> Resolved {
        let resolved = match self.known(id) {
            Some(session) => {
                self.confirm(&session).await;
                Resolved::of(session)
            }
            None if self.services.mode() == Mode::Off => Resolved::Unknown,
            None if strictly => self.certain_lookup(id).await,
            None => self.bounded_lookup(id).await,
        };
        self.under_mode(id, resolved)
    }

    /// A session that began while the mode was `off` may have ended elsewhere: the store was not asked. Asks it, until it has
    /// heard of the session.
    async fn confirm(&self, session: &TrackedSession) {
        if !session.began_in_off() || !session.activity_record().is_unknown() || self.services.mode() == Mode::Off {
            return;
        }
        let lookup = self.services.store.lookup(session.id());
        if let Ok(Ok(Known::Ended(ended))) = tokio::time::timeout(self.services.exchange.lookup_timeout, lookup).await {
            self.close(session, ended);
        }
    }

    async fn certain_lookup(self: &Arc<Self>, id: SessionId) -> Resolved {
        let Ok(_permit) = self.issues.waiting.try_acquire() else { return Resolved::Undecided };
        let until = self.issues.until();
        loop {
            match self.bounded_lookup(id).await {
                Resolved::NeverSeen if self.issues.is_unsynced(id) => return Resolved::Issued,
                Resolved::NeverSeen if self.issues.may_be_older() => return Resolved::Unknown,
                Resolved::NeverSeen if self.issues.is_certain(id) => return Resolved::NeverSeen,
                // Another replica may just have seen the app hand it out.
                Resolved::NeverSeen if self.now() < until => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Resolved::NeverSeen => return Resolved::Undecided,
                resolved => return resolved,
            }
        }
    }

    async fn bounded_lookup(self: &Arc<Self>, id: SessionId) -> Resolved {
        let table = Arc::clone(self);
        let mut found = self.lookups.shared(id, || async move { table.lookup(id).await });
        let timeout = self.services.exchange.lookup_timeout;
        match tokio::time::timeout(timeout, found.wait_for(Option::is_some)).await {
            // The session may have ended since the lookup.
            Ok(Ok(resolved)) => match resolved.clone() {
                Some(Resolved::Live(session)) => Resolved::of(session),
                resolved => resolved.unwrap_or(Resolved::Undecided),
            },
            _ => self.lookup_failed(id, &StoreError::Unavailable(format!("no answer within {timeout:?}"))),
        }
    }

    async fn lookup(&self, id: SessionId) -> Resolved {
        let known = match self.lookup_complete(id).await {
            // Its timeout may have passed while no replica knew it. The store must judge it before it is admitted.
            Ok(Known::Live(Live { age, source, created_age, due_in: 0 })) => {
                let touch = Touch { id, age, source, created_age, begins: false };
                let judged = self.services.store.judge(Due { touch, seen_idle: 0 }, self.services.mode()).await;
                if let Ok(Known::Ended(ended)) = &judged {
                    self.decisions.end(id, ended, None);
                }
                judged
            }
            known => known,
        };
        match known {
            Ok(known) => self.adopt(id, known).0,
            Err(error) => self.lookup_failed(id, &error),
        }
    }

    /// A token that the store does not know is undecided while the replicas write back what the store has lost.
    async fn lookup_complete(&self, id: SessionId) -> Result<Known, StoreError> {
        let until = self.services.clock.now().plus(milliseconds(self.services.exchange.lookup_timeout));
        loop {
            let known = self.services.store.lookup(id).await;
            if !matches!(known, Err(StoreError::Recovering)) || self.services.clock.now() >= until {
                return known;
            }
            self.hinted.notify_one();
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn lookup_failed(&self, id: SessionId, error: &StoreError) -> Resolved {
        let choice = self.services.exchange.unknown_tokens;
        tracing::debug!(session = %id, %error, ?choice, "token lookup failed");
        match choice {
            UnknownTokens::Admit => Resolved::Unknown,
            UnknownTokens::Refuse => Resolved::Undecided,
        }
    }

    /// The app has accepted the token with this session id: its session begins, unless it is already known. `caller` is
    /// the client that sent the token, if known. `origin` is how it begins, where that counts. In `off` the session is only
    /// noted: the store is not asked.
    pub async fn accept(&self, id: SessionId, caller: Option<&Caller>, origin: Option<Origin>) -> Resolved {
        let resolved = match self.known(id) {
            Some(session) => Resolved::of(session),
            None if self.sessions.is_full() => {
                self.note_full();
                Resolved::Unknown
            }
            None if self.services.mode() == Mode::Off => {
                let now = self.now();
                self.add(TrackedSession::begun_in_off(id, now), now.plus(self.services.timeout())).0
            }
            None => self.begin(id, caller, origin).await,
        };
        if let (Resolved::Live(session), Some(caller)) = (&resolved, caller) {
            session.called_by(caller);
        }
        self.under_mode(id, resolved)
    }

    async fn begin(&self, id: SessionId, caller: Option<&Caller>, origin: Option<Origin>) -> Resolved {
        self.services.metrics.active(Source::Accepted);
        let begun = Touch { id, age: 0, source: Source::Accepted, created_age: 0, begins: true };
        let from_store = self.services.store.begin(begun).await;
        let known = from_store.as_ref().copied().unwrap_or_else(|error| {
            tracing::debug!(session = %id, %error, "session begins here; reported to the store when it answers");
            Known::Live(Live { age: 0, source: Source::Accepted, created_age: 0, due_in: self.services.timeout() })
        });
        let (resolved, is_new) = self.adopt(id, known);
        if let (Resolved::Live(session), Err(_)) = (&resolved, from_store) {
            session.activity_record().mark_unknown();
        }
        if let (Known::Live(live), true) = (known, is_new)
            && live.created_age < NEW_WITHIN
        {
            if let (Resolved::Live(session), Some(origin)) = (&resolved, origin) {
                session.set_origin(origin);
            }
            self.decisions.start(id, live.created_age, caller);
        }
        resolved
    }

    /// Adds a session that this replica did not know, with what the store knows of it. Returns whether it was new here.
    fn adopt(&self, id: SessionId, known: Known) -> (Resolved, bool) {
        let now = self.now();
        let (session, deadline) = match known {
            Known::Unknown => return (Resolved::NeverSeen, false),
            Known::Issued => return (Resolved::Issued, false),
            Known::Live(live) | Known::Overdue(live, _) => {
                let Live { age, source, created_age, due_in } = live;
                let latest = Activity { at: now.minus(age), source };
                (TrackedSession::live(id, latest, now.minus(created_age), now), now.plus(due_in))
            }
            Known::Ended(ended) => {
                let closed = self.services.moment_of(&ended);
                (TrackedSession::dead(id, now, ended, closed), now.plus(ended.remembered_for))
            }
        };
        self.add(session, deadline)
    }

    /// Adds a session, unless it is known. Returns whether it was new.
    fn add(&self, session: TrackedSession, deadline: Moment) -> (Resolved, bool) {
        let session = match self.sessions.add(session, deadline) {
            Added::New(session) => session,
            Added::Known(session) => return (Resolved::of(session), false),
            Added::Full => {
                self.note_full();
                return (Resolved::Unknown, false);
            }
        };
        if session.ended().is_none() {
            self.full.store(false, Ordering::Relaxed);
            self.services.metrics.tracked.inc();
            tracing::debug!(session = %session.id(), "a session is tracked");
        }
        self.update_gauges();
        (Resolved::of(session), true)
    }

    /// Ends a session regardless of its activity: the user logged out, or an operator ends it. An operator's end holds
    /// in any mode; a logout ends the session only in `enforce`. If the store does not know the session or does not
    /// answer, the session still ends here, and a later report sends the end to the store.
    pub async fn end(&self, session: &TrackedSession, reason: Reason) {
        let store = &self.services.store;
        let end_record = || store.end_record(session.touch_for_store(self.now()), reason);
        match self.services.mode() {
            _ if reason == Reason::Operator => {}
            Mode::Enforce => {}
            Mode::Observe => return self.mark_overdue(session, end_record()),
            Mode::Off => return,
        }
        let asked = store.end(session.id(), reason).await;
        if let Ok(Known::Ended(ended)) = asked {
            return self.close(session, ended);
        }
        tracing::debug!(session = %session.id(), ?asked, "session ends here; reported to the store when it answers");
        session.set_end_unsynced(true);
        self.close(session, end_record());
    }

    /// Handles the store's verdict that a session is past a limit or has ended. Returns whether it ends in this mode.
    pub(super) fn end_if_enforced(&self, session: &TrackedSession, ended: Ended) -> bool {
        let ends = self.services.mode() == Mode::Enforce || ended.reason == Reason::Operator;
        if ends {
            self.close(session, ended);
        } else {
            self.mark_overdue(session, ended);
        }
        ends
    }

    /// Marks a session as overdue, and records it in `observe`.
    pub(super) fn mark_overdue(&self, session: &TrackedSession, record: Ended) {
        if session.mark_overdue(record) && self.services.mode() == Mode::Observe {
            self.decisions.would_end(session, &record);
        }
    }

    /// Records the end and notifies every connection of the session. Later ends are ignored.
    fn close(&self, session: &TrackedSession, ended: Ended) {
        let closed = self.services.moment_of(&ended);
        if self.sessions.end(session, ended, closed, self.now().plus(ended.remembered_for)) {
            self.update_gauges();
            self.decisions.end(session.id(), &ended, Some(session));
        }
    }

    /// The overdue sessions: past a limit, and alive because the mode does not cut them.
    #[must_use]
    pub fn overdue(&self) -> Vec<Arc<TrackedSession>> {
        self.sessions.filtered(|session| session.ended().is_none() && session.overdue().is_some())
    }

    /// Forgets a session that the mode lets live on, once it has been idle for timeout and retention and nothing holds it:
    /// no connection, and no request. Returns whether it is forgotten.
    pub(super) fn forget_unused(&self, session: &Arc<TrackedSession>, now: Moment) -> bool {
        let limits = &self.services.limits;
        let kept = limits.timeout.saturating_add(limits.retention).saturating_mul(1000);
        let is_old = now.since(session.activity_record().last().at) > kept;
        let is_forgotten = is_old && self.sessions.forget_unused(session);
        if is_forgotten {
            self.update_gauges();
        }
        is_forgotten
    }

    /// Forgets the ended sessions whose retention is over.
    pub(super) fn forget_ended(&self, now: Moment) {
        self.sessions.forget_ended(now);
        self.update_gauges();
    }

    /// Applies the current mode to a resolved token.
    fn under_mode(&self, id: SessionId, resolved: Resolved) -> Resolved {
        let ended = match resolved {
            Resolved::Ended(ended) => ended,
            Resolved::Undecided if self.services.mode() != Mode::Enforce => return Resolved::Unknown,
            resolved => return resolved,
        };
        // Taken before the mode is read: if the mode changes in between, this signal has fired.
        let [leaves_off, enforces] = self.tolerations.signals();
        match self.services.mode() {
            Mode::Off if ended.reason.is_by_hand() => Resolved::Tolerated(Tolerated { id, ended, over: leaves_off }),
            Mode::Observe if ended.reason.is_by_hand() => Resolved::Ended(ended),
            Mode::Off | Mode::Observe => Resolved::Tolerated(Tolerated { id, ended, over: enforces }),
            Mode::Enforce => Resolved::Ended(ended),
        }
    }

    /// Closes the connections of dead tokens that `mode`, now in force, does not tolerate.
    pub(super) fn end_tolerations(&self, mode: Mode) {
        self.tolerations.end(mode);
    }

    fn now(&self) -> Moment {
        self.services.clock.now()
    }

    fn update_gauges(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.services.metrics.sessions.set(number(self.sessions.live()));
        self.services.metrics.remembered_ends.set(number(self.sessions.ended()));
    }

    /// Logs once that the table is full, until there is room again: otherwise the warning would flood the log.
    fn note_full(&self) {
        self.services.metrics.untracked.inc();
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                max_sessions = self.sessions.max(),
                "max_sessions reached; further sessions are not tracked and never expire; raise max_sessions"
            );
        }
    }
}
