//! One session that this replica knows, shared by all of its connections.

use super::issues::Origin;
use super::traffic::{FrameLengths, IgnoredTraffic, LastIgnoredTraffic};
use crate::audit::Caller;
use crate::clock::Moment;
use crate::session::{Activity, EpochSeconds, LastActivity, Reason, SessionId, Source};
use crate::store::{Due, Ended, Touch};
use crate::websocket::Side;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Where the bits of the origin begin in [`TrackedSession::uses`].
const ORIGIN_BITS: usize = 62;

/// A session in memory.
#[derive(Debug)]
pub struct TrackedSession {
    id: SessionId,
    activity_record: LastActivity,
    /// When it began, by this replica's clock.
    created: Moment,
    /// When this replica began to see its activity.
    seen_since: Moment,
    /// Set once, before `cut` fires, so that a connection woken by it finds the reason. Boxed, so that a live session
    /// needs no memory for it.
    ended: OnceLock<Box<End>>,
    /// It has ended, and the store does not know this yet.
    end_unsynced: AtomicBool,
    /// It began while the mode was `off`, and the store was not asked.
    began_in_off: bool,
    /// How it began, as [`Origin`] in the upper two bits, 0 where this replica has not seen it; and a bit for each rule whose
    /// use of it was counted.
    uses: AtomicU64,
    overdue: Mutex<Option<Box<Overdue>>>,
    cut: CancellationToken,
    connections: AtomicU32,
    clients: Mutex<Clients>,
    frame_lengths: FrameLengths,
    /// What `[[ignore]]` rules kept from counting, from the first time on.
    ignored: OnceLock<Box<IgnoredTraffic>>,
}

/// What is known of those who use it.
#[derive(Default, Debug)]
struct Clients {
    /// The last request or tunnel that counted.
    caller: Option<Caller>,
    /// How the last of its tunnels ended.
    last_close: Option<Box<Closed>>,
}

/// How a session ended.
#[derive(Debug)]
struct End {
    record: Ended,
    /// When, by this replica's clock.
    at: Moment,
}

/// How a tunnel ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// When it ended.
    pub at: Moment,
    /// Who closed it: `client`, `app` or `idlegate`.
    pub by: &'static str,
    /// The code and reason of the Close frame, if there was one.
    pub close: Option<(u16, String)>,
}

/// The overdue state: past its timeout, and not cut.
#[derive(Clone, Copy, Debug)]
struct Overdue {
    /// Its last activity when it became overdue: later activity clears the state. `None` for a reason that activity
    /// does not clear.
    since: Option<Moment>,
    record: Ended,
}

impl TrackedSession {
    pub(super) fn live(id: SessionId, latest: Activity, created: Moment, seen_since: Moment) -> Self {
        Self {
            id,
            activity_record: LastActivity::new(latest),
            created,
            seen_since,
            ended: OnceLock::new(),
            end_unsynced: AtomicBool::new(false),
            began_in_off: false,
            uses: AtomicU64::new(0),
            overdue: Mutex::new(None),
            cut: CancellationToken::new(),
            connections: AtomicU32::new(0),
            clients: Mutex::default(),
            frame_lengths: FrameLengths::default(),
            ignored: OnceLock::new(),
        }
    }

    /// A session that begins while the mode is `off`: the store does not hear of it before the mode changes.
    pub(super) fn begun_in_off(id: SessionId, now: Moment) -> Self {
        let session = Self::live(id, Activity { at: now, source: Source::Accepted }, now, now);
        session.activity_record.mark_unknown();
        Self { began_in_off: true, ..session }
    }

    pub(super) fn set_origin(&self, origin: Origin) {
        self.uses.fetch_or((origin as u64) << ORIGIN_BITS, Ordering::Relaxed);
    }

    /// How it began, where this replica has seen it.
    pub(super) fn origin(&self) -> Option<Origin> {
        let code = self.uses.load(Ordering::Relaxed) >> ORIGIN_BITS;
        [Origin::Issued, Origin::Unseen].into_iter().find(|origin| *origin as u64 == code)
    }

    /// Whether it was not used by this rule before. Rules from the 62nd on share a bit.
    pub(super) fn is_first_use_by(&self, rule: usize) -> bool {
        let bit = 1 << rule.min(ORIGIN_BITS - 1);
        self.uses.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    pub(super) fn began_in_off(&self) -> bool {
        self.began_in_off
    }

    pub(super) fn dead(id: SessionId, now: Moment, ended: Ended, closed: Moment) -> Self {
        let ago = |second: EpochSeconds| now.minus(ended.ended.saturating_sub(second).saturating_mul(1000));
        let latest = Activity { at: ago(ended.last_activity), source: ended.source };
        let session = Self::live(id, latest, ago(ended.created), now);
        session.close(ended, closed);
        session
    }

    /// Returns whether this was the first end.
    pub(super) fn close(&self, ended: Ended, closed: Moment) -> bool {
        let first = self.ended.set(Box::new(End { record: ended, at: closed })).is_ok();
        self.cut.cancel();
        first
    }

    /// The session id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its activity, as seen by this replica or reported by the store.
    #[must_use]
    pub fn activity_record(&self) -> &LastActivity {
        &self.activity_record
    }

    pub(super) fn created(&self) -> Moment {
        self.created
    }

    /// Its last activity as an age, for the report.
    pub(super) fn touch_for_store(&self, now: Moment) -> Touch {
        let Activity { at, source } = self.activity_record.last();
        let begins = self.activity_record.is_unknown();
        Touch { id: self.id, age: now.since(at), source, created_age: now.since(self.created), begins }
    }

    /// Its last activity, and how long this replica has seen it idle, for a verdict.
    pub(super) fn due_for_store(&self, now: Moment) -> Due {
        Due { touch: self.touch_for_store(now), seen_idle: self.seen_idle(now) }
    }

    /// How many milliseconds ago it ended, by this replica's clock; 0 if it has not ended.
    pub(super) fn ended_for(&self, now: Moment) -> u64 {
        self.ended.get().map_or(0, |end| now.since(end.at))
    }

    /// Whether the end is still unsynced.
    pub(super) fn is_end_unsynced(&self) -> bool {
        self.end_unsynced.load(Ordering::Acquire)
    }

    pub(super) fn set_end_unsynced(&self, end_unsynced: bool) {
        self.end_unsynced.store(end_unsynced, Ordering::Release);
    }

    /// Marks it as overdue, with the record that its end would have had. Returns whether this is new: once for each
    /// idle period.
    pub(super) fn mark_overdue(&self, record: Ended) -> bool {
        let since = (record.reason == Reason::Idle).then(|| self.activity_record.last().at);
        let mut overdue = self.overdue.lock();
        let is_new = overdue.as_ref().is_none_or(|before| before.since != since);
        if is_new {
            *overdue = Some(Box::new(Overdue { since, record }));
        }
        is_new
    }

    /// The record that its end would have had, if it is overdue and has had no activity since.
    #[must_use]
    pub fn overdue(&self) -> Option<Ended> {
        let overdue = self.overdue.lock();
        let last = self.activity_record.last().at;
        overdue.as_ref().filter(|overdue| overdue.since.is_none_or(|since| since == last)).map(|overdue| overdue.record)
    }

    /// Whether it is overdue for this reason.
    pub(super) fn is_overdue_by(&self, reason: Reason) -> bool {
        self.overdue().is_some_and(|record| record.reason == reason)
    }

    /// Clears the overdue mark, so that it can be judged again.
    pub(super) fn clear_overdue(&self) {
        *self.overdue.lock() = None;
    }

    /// How many milliseconds this replica itself has seen it idle.
    fn seen_idle(&self, now: Moment) -> u64 {
        now.since(self.activity_record.last().at.max(self.seen_since))
    }

    /// Records activity. The hot path: one atomic operation.
    pub fn touch(&self, at: Moment, source: Source) {
        self.activity_record.touch(Activity { at, source });
    }

    /// Records a data frame that counts. The hot path: two atomic operations.
    pub(super) fn touch_by_frame(&self, at: Moment, (side, length): (Side, u64)) {
        let source = if side == Side::Client { Source::ClientFrame } else { Source::ServerFrame };
        self.frame_lengths.set(side, length);
        self.touch(at, source);
    }

    /// The length of the last data frame of this side that counted, in bytes.
    pub(super) fn frame_length(&self, side: Side) -> u32 {
        self.frame_lengths.get(side)
    }

    /// Records a request that an `[[ignore]]` rule keeps from counting.
    pub fn ignored_request(&self, at: Moment, rule: usize, caller: &Caller) {
        self.ignored_traffic().request(at, rule, caller);
    }

    /// Records messages that an `[[ignore]]` rule keeps from counting: their side, the length of the last in bytes, and how many.
    pub(super) fn ignored_messages(&self, at: Moment, rule: usize, messages: (Side, u64, u64)) {
        self.ignored_traffic().messages(at, rule, messages);
    }

    fn ignored_traffic(&self) -> &IgnoredTraffic {
        self.ignored.get_or_init(|| Box::new(IgnoredTraffic::new()))
    }

    /// What was ignored last, if anything was.
    pub(super) fn last_ignored(&self) -> Option<LastIgnoredTraffic> {
        self.ignored.get()?.last()
    }

    /// Records the client that uses it, by a request or a tunnel.
    pub fn called_by(&self, caller: &Caller) {
        self.clients.lock().caller = Some(caller.clone());
    }

    /// The client that used it last on this replica, if any.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        self.clients.lock().caller.clone()
    }

    /// Records how one of its tunnels ended.
    pub fn closed_by(&self, closed: Closed) {
        self.clients.lock().last_close = Some(Box::new(closed));
    }

    /// How the last of its tunnels ended, if one has.
    #[must_use]
    pub fn last_close(&self) -> Option<Closed> {
        self.clients.lock().last_close.as_deref().cloned()
    }

    /// The record of its end, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get().map(|end| &end.record)
    }

    /// Resolves when the session is cut, or at once if it already was.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// Counts one more connection.
    pub(super) fn attach(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn detach(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The number of its connections on this replica: tunnels and requests in progress.
    #[must_use]
    pub fn connections(&self) -> usize {
        usize::try_from(self.connections.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
}
