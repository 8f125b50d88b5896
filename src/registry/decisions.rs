//! Records each decision: log line, metric and audit event.

use super::recent::{Past, Recent};
use super::services::Services;
use super::{Switch, TrackedSession};
use crate::audit::{self, Caller, Decision, DecisionContext, IgnoredBefore};
use crate::metrics::Refused;
use crate::session::{EpochSeconds, Mode, Reason, SessionId};
use crate::store::Ended;
use crate::token::Carrier;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long before an end ignored traffic is worth a word, in seconds.
const IGNORED_BEFORE_END: EpochSeconds = 60;

/// Records decisions, and keeps the recent ones.
#[derive(Debug)]
pub struct Decisions {
    services: Arc<Services>,
    recent: Mutex<Recent>,
    /// When the mode last changed to `enforce`, in epoch seconds; 0 if it has not changed since the start.
    enforces_since: AtomicU64,
}

impl Decisions {
    pub(super) fn new(services: Arc<Services>) -> Self {
        Self { services, recent: Mutex::default(), enforces_since: AtomicU64::new(0) }
    }

    /// The most recent events of this replica, latest first. Starts of sessions are not among them.
    #[must_use]
    pub fn recent(&self) -> Vec<Past> {
        self.recent.lock().latest_first()
    }

    /// A session began `created_age` milliseconds ago, by the store's clock.
    pub(super) fn start(&self, id: SessionId, created_age: u64, caller: Option<&Caller>) {
        // Rounded to the nearest second: the store sent a whole second as an age, and its clock is known only to within
        // one message delay.
        let created = self.services.store.now().map(|now| (now.saturating_sub(created_age) + 500) / 1000);
        self.record(Decision::Start { created }, Some(id), caller);
    }

    /// A session has ended. `session` is `None` if this replica did not have it in memory.
    pub(super) fn end(&self, id: SessionId, ended: &Ended, session: Option<&TrackedSession>) {
        self.services.metrics.ended(ended.reason, self.lateness(ended));
        self.verdict(id, ended, session, true);
    }

    /// The seconds from the last one within the limit to the cut. `None` if an operator or a logout ended the session.
    /// Time during which the mode cut no session does not count.
    fn lateness(&self, ended: &Ended) -> Option<EpochSeconds> {
        let idle_since = ended.counting.unwrap_or(ended.last_activity);
        let allowed = match ended.reason {
            Reason::Idle => idle_since.saturating_add(self.services.limits.timeout),
            Reason::Lifetime => ended.created.saturating_add(self.services.limits.lifetime?),
            Reason::Logout | Reason::Operator => return None,
        };
        Some(ended.ended.saturating_sub(allowed.max(self.enforces_since.load(Ordering::Relaxed))))
    }

    /// A session would have ended in `enforce`.
    pub(super) fn would_end(&self, session: &TrackedSession, ended: &Ended) {
        self.services.metrics.would_cut(ended.reason);
        self.verdict(session.id(), ended, Some(session), false);
    }

    /// Records how and why a session ended, or would have ended if not `done`.
    pub(super) fn verdict(&self, id: SessionId, ended: &Ended, session: Option<&TrackedSession>, done: bool) {
        let connections = session.map_or(0, TrackedSession::connections);
        tracing::info!(
            session = %id,
            reason = %ended.reason,
            last_activity = ended.last_activity,
            source = %ended.source,
            created = ended.created,
            now = ended.ended,
            counting = ended.counting,
            idle = ended.idle(),
            limit = self.services.limits.timeout,
            mode = %self.services.mode(),
            watermark = ended.watermark,
            connections,
            "{}",
            if done { "session ended" } else { "session would be cut" }
        );
        let caller = session.and_then(TrackedSession::caller);
        let ignored = session.and_then(|session| self.ignored_before(session, ended));
        self.record(Decision::End { ended, done, connections, ignored }, Some(id), caller.as_ref());
    }

    /// What a rule ignored of the session in the last minute before its end.
    fn ignored_before(&self, session: &TrackedSession, ended: &Ended) -> Option<IgnoredBefore<'_>> {
        let ignored = session.last_ignored()?;
        let last = self.services.second_of(ignored.at);
        let is_recent = ended.ended.saturating_sub(last) <= IGNORED_BEFORE_END;
        is_recent.then(|| IgnoredBefore { rule: self.services.ignore_rule(ignored.rule), count: ignored.count, last })
    }

    /// A dead token was refused, over HTTP or on a tunnel.
    pub fn refusal(&self, id: SessionId, ended: &Ended, carrier: Carrier, caller: Option<&Caller>) {
        self.services.metrics.refused(carrier);
        tracing::debug!(session = %id, carrier = carrier.name(), "a dead token was refused");
        self.record(Decision::Refusal { ended, done: true, carrier }, Some(id), caller);
    }

    /// A dead token would have been refused in `enforce`. In `off` nothing is recorded.
    pub fn would_refuse(&self, id: SessionId, ended: &Ended, carrier: Carrier, caller: Option<&Caller>) {
        if self.services.mode() == Mode::Off {
            return;
        }
        tracing::debug!(session = %id, carrier = carrier.name(), "a dead token would be refused");
        self.record(Decision::Refusal { ended, done: false, carrier }, Some(id), caller);
    }

    /// A token was missing or unknown: what came was refused, or would have been if not `done`. `left_out` such records were
    /// left out since the last one.
    pub(crate) fn unadmitted(
        &self,
        (reason, rule, token): (Refused, &str, Option<SessionId>),
        (carrier, caller): (Carrier, &Caller),
        done: bool,
        left_out: u64,
    ) {
        self.record(Decision::Unadmitted { reason, rule, done, carrier, left_out }, token, Some(caller));
    }

    /// The mode has changed.
    pub(super) fn mode_changed(&self, before: Mode, after: Mode, by: &str, past_the_limit: usize) {
        if after == Mode::Enforce {
            self.enforces_since.store(self.services.now() / 1000, Ordering::Relaxed);
        }
        self.services.metrics.mode(self.services.mode());
        tracing::info!(mode = %after, %before, by, past_the_limit, "mode changed");
        self.record(Decision::Mode { before, after, by, set: None, past_the_limit }, None, None);
    }

    /// A switch was set without changing the mode in force.
    pub(super) fn switch_set(&self, mode: Mode, by: Switch, set: Mode) {
        tracing::info!(%mode, switch = %by, %set, "switch set; the mode does not change");
        let (by, set) = (by.name(), Some(set));
        self.record(Decision::Mode { before: mode, after: mode, by, set, past_the_limit: 0 }, None, None);
    }

    fn record(&self, decision: Decision<'_>, session: Option<SessionId>, caller: Option<&Caller>) {
        let struck_off = match decision {
            Decision::End { ended, .. } if ended.reason == Reason::Idle => self.services.store.struck_off(ended.ended),
            _ => Vec::new(),
        };
        let scene = DecisionContext {
            replica: &self.services.replica,
            mode: self.services.mode(),
            limit: self.services.limits.timeout,
            lifetime: self.services.limits.lifetime,
            now: self.services.store.now().map(|now| -> EpochSeconds { now / 1000 }),
            session,
            caller,
            struck_off: &struck_off,
        };
        if matches!(decision, Decision::Start { .. }) {
            return audit::write(|| audit::line(decision, &scene));
        }
        let line = audit::line(decision, &scene);
        audit::write(|| &line);
        self.recent.lock().keep(
            session,
            matches!(decision, Decision::Refusal { .. } | Decision::Unadmitted { .. }),
            line,
        );
    }
}
