//! One exchange with the store: what this replica has to tell, and what it does with the reply.

use super::TrackedSession;
use super::issues::Issues;
use super::modes::Modes;
use super::services::Services;
use super::store_status::StoreState;
use super::table::Table;
use crate::clock::Moment;
use crate::session::{Activity, Mode, Source};
use crate::store::{Due, Ended, Known, Reply, Report, Touch, UnsyncedEnd};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long startup waits for the store.
const STARTUP_WAIT: Duration = Duration::from_secs(1);

/// The most sessions to judge in one exchange. The others stay due: other replicas wait for this one's mark, so verdicts
/// must not delay the next report.
const MAX_DUE: usize = 2_000;

/// The longest time for which activity may wait, in milliseconds.
const MAX_WAIT: u64 = 5_000;

/// Which activity is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchanged {
    /// All of it.
    Everything,
    /// Not activity that may wait: the store already knows recent activity of its session.
    WhatMatters,
}

/// What one exchange reports.
struct Collected {
    activity: Vec<(Arc<TrackedSession>, Activity)>,
    ends: Vec<Arc<TrackedSession>>,
    due: Vec<Arc<TrackedSession>>,
}

/// Exchanges with the store.
#[derive(Debug)]
pub struct Exchange {
    pub(super) services: Arc<Services>,
    pub(super) table: Arc<Table>,
    pub(super) modes: Arc<Modes>,
    pub(super) issues: Arc<Issues>,
    state: Arc<StoreState>,
    steps: AtomicU64,
}

impl Exchange {
    pub(super) fn new(
        services: Arc<Services>,
        table: Arc<Table>,
        modes: Arc<Modes>,
        issues: Arc<Issues>,
        state: Arc<StoreState>,
    ) -> Self {
        Self { services, table, modes, issues, state, steps: AtomicU64::new(0) }
    }

    /// A counter of its progress: it grows with each exchange, whether the store answered or not.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// The first exchange with the store, before any client is served. It reads the fleet's switch: the first clients
    /// must not meet a stricter mode here. If the store does not answer in time, startup continues without it.
    pub async fn first_report(&self) {
        if tokio::time::timeout(STARTUP_WAIT, self.run(Exchanged::Everything)).await.is_err() {
            tracing::debug!("the store did not answer in time; startup continues without it");
        }
    }

    /// Tells the store what it does not know, and has it judge the sessions that are due. Also without news it is told
    /// that there is none: other replicas wait for this replica's mark.
    ///
    /// Returns whether the store now knows everything.
    pub(super) async fn run(&self, exchanged: Exchanged) -> bool {
        // Read before activity is collected: activity after this moment belongs to the next report.
        let synced_to = self.services.clock.now();
        let mode = self.modes.to_report();
        let collected = self.collect(synced_to, mode, exchanged);
        let now = self.services.clock.now();
        let touches: Vec<Touch> = collected.activity.iter().map(|(session, _)| session.touch_for_store(now)).collect();
        let ends: Vec<_> = collected.ends.iter().filter_map(|session| unsynced_end(session, now)).collect();
        let due: Vec<_> = collected.due.iter().map(|session| session.due_for_store(now)).collect();
        let report = Report { activity: &touches, ends: &ends, due: &due, synced_to, mode };
        let notified = self.modes.fleet_notices();
        // The mark says that all issues are reported too.
        let reply = match self.issues.sync().await {
            Ok(()) => self.services.store.exchange(&report).await,
            Err(error) => Reply { failed: Some(error), ..Reply::default() },
        };
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.state.update(&touches, &reply);
        for (session, latest) in collected.activity.iter().take(reply.activity) {
            session.activity_record().acknowledged(*latest);
        }
        for session in collected.ends.iter().take(reply.ends) {
            session.set_end_unsynced(false);
        }
        self.take_verdicts(&reply, &collected.due);
        for (id, ended) in &reply.ended {
            if let Some(session) = self.table.known(*id) {
                self.table.end_if_enforced(&session, *ended);
            }
        }
        if reply.resync {
            self.resync();
        }
        if let Some(error) = &reply.failed {
            tracing::debug!(%error, sessions = touches.len(), "activity not reported; retried later");
            // A replica that was off has no activity to report, but must still report that it was off.
            return mode != Mode::Off && touches.is_empty() && ends.is_empty();
        }
        self.modes.reported(mode);
        match reply.fleet {
            Some(fleet) => self.modes.read_fleet(fleet, notified),
            None => self.modes.restore_fleet().await,
        }
        !reply.resync
    }

    fn collect(&self, now: Moment, mode: Mode, exchanged: Exchanged) -> Collected {
        // In `off` a replica reports only its mode, which all others need to know.
        let activity = if mode == Mode::Off { Vec::new() } else { self.unsynced(now, exchanged) };
        let ends = self.table.sessions.filtered(TrackedSession::is_end_unsynced);
        let due = self.table.sessions.due(now).into_iter();
        let due = due.filter(|session| self.is_to_judge(session, now, mode)).take(MAX_DUE).collect();
        Collected { activity, ends, due }
    }

    fn unsynced(&self, now: Moment, exchanged: Exchanged) -> Vec<(Arc<TrackedSession>, Activity)> {
        let wait = match exchanged {
            Exchanged::Everything => 0,
            Exchanged::WhatMatters => MAX_WAIT.min(self.services.timeout() / 100),
        };
        self.table.sessions.pick(|session| {
            // An unsynced end may be reported after this report, but the mark of this report covers the activity before
            // that end. So that activity must be in it.
            if session.ended().is_some() && !session.is_end_unsynced() {
                return None;
            }
            // While a response has not begun, the session counts as active.
            if session.activity_record().is_awaiting() && session.ended().is_none() {
                session.touch(now, Source::Request);
            }
            Some((Arc::clone(session), session.activity_record().unsynced(now, wait)?))
        })
    }

    /// Whether a session that is due can be judged now. If not, it gets another deadline, or is forgotten.
    fn is_to_judge(&self, session: &Arc<TrackedSession>, now: Moment, mode: Mode) -> bool {
        if (mode == Mode::Off || session.overdue().is_some()) && self.table.forget_unused(session, now) {
            // Before the store is asked: it has forgotten the session by now, and would begin it again.
            return false;
        }
        if mode == Mode::Off {
            // Idle time does not count in `off`, and starts again in the next mode. If the mode has already changed,
            // judge again soon: the lifetime goes on in `off`.
            let is_off = self.services.mode() == Mode::Off;
            let wait = if is_off { self.services.timeout() } else { self.flush_interval() };
            self.judge_at(session, now.plus(wait));
        }
        mode != Mode::Off
    }

    fn judge_at(&self, session: &TrackedSession, deadline: Moment) {
        self.table.sessions.judge_at(session, deadline);
    }

    fn take_verdicts(&self, reply: &Reply, due: &[Arc<TrackedSession>]) {
        let now = self.services.clock.now();
        let mut verdicts: HashMap<_, _> = reply.verdicts.iter().copied().collect();
        for session in due {
            match verdicts.remove(&session.id()) {
                Some(Known::Ended(ended)) => drop(self.apply_verdict(session, ended)),
                Some(Known::Overdue(live, record)) => {
                    session.touch(now.minus(live.age), live.source);
                    if self.services.mode() == Mode::Enforce {
                        // The mode has changed meanwhile, but the store has not ended it: it must be asked again.
                        self.judge_at(session, now);
                    } else {
                        self.table.mark_overdue(session, record);
                        self.judge_at(session, now.plus(self.services.timeout()));
                    }
                }
                Some(Known::Live(live)) => {
                    session.touch(now.minus(live.age), live.source);
                    self.judge_at(session, now.plus(live.due_in));
                }
                // The store has lost the session. The next report writes it back.
                Some(Known::Unknown | Known::Issued) => {
                    session.activity_record().mark_unsynced();
                    self.judge_at(session, now.plus(self.flush_interval()));
                }
                None => self.not_judged(session, now),
            }
        }
    }

    /// The store has not answered for a session.
    fn not_judged(&self, session: &Arc<TrackedSession>, now: Moment) {
        let Due { touch, seen_idle } = session.due_for_store(now);
        if let Some(ended) = self.services.store.decide_alone(touch, seen_idle) {
            let ends = self.apply_verdict(session, ended);
            return session.set_end_unsynced(ends);
        }
        tracing::debug!(session = %session.id(), "no verdict; the session stays until the store answers");
        self.judge_at(session, now.plus(self.flush_interval()));
    }

    /// Handles the verdict that a session has expired. If the mode lets it live on, it is next judged one timeout
    /// later. Returns whether it ends.
    fn apply_verdict(&self, session: &TrackedSession, ended: Ended) -> bool {
        let ends = self.table.end_if_enforced(session, ended);
        self.judge_at(session, self.services.clock.now().plus(self.services.timeout()));
        ends
    }

    /// The store has lost data: the next report tells everything again.
    fn resync(&self) {
        let all = self.table.sessions.filtered(|_| true);
        tracing::info!(sessions = all.len(), "the store has lost data; known sessions are reported again");
        for session in all {
            if session.ended().is_some() {
                session.set_end_unsynced(true);
            } else {
                session.activity_record().mark_unsynced();
            }
        }
        self.table.hinted.notify_one();
    }
}

fn unsynced_end(session: &TrackedSession, now: Moment) -> Option<UnsyncedEnd> {
    let reason = session.ended()?.reason;
    Some(UnsyncedEnd { touch: session.touch_for_store(now), reason, age: session.ended_for(now) })
}
