//! The sessions in memory, in shards: each has a lock of its own, so that work on all sessions never blocks the admission of
//! a request.

use super::TrackedSession;
use crate::clock::Moment;
use crate::session::SessionId;
use crate::store::Ended;
use parking_lot::RwLock;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SHARDS: usize = 16;

/// How many of the oldest ends are searched for one that the store knows, when one must be forgotten.
const SEARCHED: usize = 8;

/// All sessions that this replica knows: at most `max` live ones, and about as many ended ones.
#[derive(Debug)]
pub(super) struct Sessions {
    shards: [RwLock<Shard>; SHARDS],
    max: usize,
    live: AtomicUsize,
    ended: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    by_id: HashMap<SessionId, Entry>,
    /// When to judge each live session.
    judged_at: BTreeSet<(Moment, SessionId)>,
    /// When to forget each ended session.
    forgotten_at: BTreeSet<(Moment, SessionId)>,
}

/// A session and its deadline.
#[derive(Debug)]
struct Entry {
    session: Arc<TrackedSession>,
    deadline: Moment,
}

/// The outcome of adding a session.
#[derive(Debug)]
pub(super) enum Added {
    New(Arc<TrackedSession>),
    /// Another connection has added it first. There must be one object per session, or a cut would miss connections.
    Known(Arc<TrackedSession>),
    /// There is no room for another live session.
    Full,
}

impl Shard {
    fn deadlines(&mut self, is_ended: bool) -> &mut BTreeSet<(Moment, SessionId)> {
        if is_ended { &mut self.forgotten_at } else { &mut self.judged_at }
    }

    fn set_deadline(&mut self, id: SessionId, was_ended: bool, is_ended: bool, deadline: Moment) {
        let Some(entry) = self.by_id.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.deadline, deadline);
        self.deadlines(was_ended).remove(&(before, id));
        self.deadlines(is_ended).insert((deadline, id));
    }

    fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        let is_ended = entry.session.ended().is_some();
        self.deadlines(is_ended).remove(&(entry.deadline, id));
        Some(entry)
    }

    /// The end to forget first where there are too many: the oldest, and rather one that the store knows.
    fn end_to_forget(&self, but_not: SessionId) -> Option<SessionId> {
        let oldest = || self.forgotten_at.iter().map(|(_, id)| *id).filter(|id| *id != but_not);
        let is_synced = |id: &SessionId| !self.by_id.get(id).is_some_and(|entry| entry.session.is_end_unsynced());
        oldest().take(SEARCHED).find(is_synced).or_else(|| oldest().next())
    }
}

impl Sessions {
    pub(super) fn new(max: usize) -> Self {
        Self { shards: Default::default(), max, live: AtomicUsize::new(0), ended: AtomicUsize::new(0) }
    }

    fn shard(&self, id: SessionId) -> &RwLock<Shard> {
        // An id is a hash: any byte of it spreads evenly.
        let [.., last] = id.to_bytes();
        &self.shards[usize::from(last) % SHARDS]
    }

    pub(super) fn get(&self, id: SessionId) -> Option<Arc<TrackedSession>> {
        self.shard(id).read().by_id.get(&id).map(|entry| Arc::clone(&entry.session))
    }

    /// How many are live.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    /// How many have ended and are remembered.
    pub(super) fn ended(&self) -> usize {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn is_full(&self) -> bool {
        self.live() >= self.max
    }

    pub(super) fn add(&self, session: TrackedSession, deadline: Moment) -> Added {
        let (id, is_ended) = (session.id(), session.ended().is_some());
        let mut shard = self.shard(id).write();
        if let Some(entry) = shard.by_id.get(&id) {
            return Added::Known(Arc::clone(&entry.session));
        }
        if is_ended {
            self.ended.fetch_add(1, Ordering::AcqRel);
        } else {
            let place = |live| (live < self.max).then_some(live + 1);
            if self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, place).is_err() {
                return Added::Full;
            }
        }
        let session = Arc::new(session);
        shard.by_id.insert(id, Entry { session: Arc::clone(&session), deadline });
        shard.deadlines(is_ended).insert((deadline, id));
        self.bound_ends(&mut shard, id);
        Added::New(session)
    }

    /// Ends a session. Its end and its new deadline change under one lock: otherwise it could be found ended with the deadline
    /// of a live one, and be forgotten. Returns whether this was the first end.
    pub(super) fn end(&self, session: &TrackedSession, ended: Ended, closed: Moment, forget_at: Moment) -> bool {
        let id = session.id();
        let mut shard = self.shard(id).write();
        if !session.close(ended, closed) {
            return false;
        }
        if shard.by_id.contains_key(&id) {
            shard.set_deadline(id, false, true, forget_at);
            self.live.fetch_sub(1, Ordering::AcqRel);
            self.ended.fetch_add(1, Ordering::AcqRel);
            self.bound_ends(&mut shard, id);
        }
        true
    }

    /// Forgets the oldest end of this shard where there are too many. The store still knows it.
    fn bound_ends(&self, shard: &mut Shard, but_not: SessionId) {
        if self.ended() > self.max
            && let Some(id) = shard.end_to_forget(but_not)
            && shard.remove(id).is_some()
        {
            self.ended.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Sets when a live session is judged again. One that ended while the store was asked keeps its deadline: otherwise it
    /// would be forgotten too early, and its token accepted again.
    pub(super) fn judge_at(&self, session: &TrackedSession, deadline: Moment) {
        let mut shard = self.shard(session.id()).write();
        if session.ended().is_none() {
            shard.set_deadline(session.id(), false, false, deadline);
        }
    }

    /// The live sessions that are due to be judged.
    pub(super) fn due(&self, now: Moment) -> Vec<Arc<TrackedSession>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            let due = shard.judged_at.iter().take_while(|(deadline, _)| *deadline <= now);
            all.extend(due.filter_map(|(_, id)| Some(Arc::clone(&shard.by_id.get(id)?.session))));
        }
        all
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let next = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            let first = |deadlines: &BTreeSet<(Moment, SessionId)>| deadlines.first().map(|(deadline, _)| *deadline);
            first(&shard.judged_at).into_iter().chain(first(&shard.forgotten_at)).min()
        };
        self.shards.iter().filter_map(next).min()
    }

    /// Forgets the ended sessions whose retention is over.
    pub(super) fn forget_ended(&self, now: Moment) {
        for shard in &self.shards {
            let is_due = |shard: &Shard| shard.forgotten_at.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id);
            if is_due(&shard.read()).is_none() {
                continue;
            }
            let mut shard = shard.write();
            while let Some(id) = is_due(&shard) {
                shard.remove(id);
                self.ended.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Forgets a live session, unless a connection or a request holds it. The caller holds one reference. Returns whether it
    /// is forgotten.
    pub(super) fn forget_unused(&self, session: &Arc<TrackedSession>) -> bool {
        /// The one here, and that of the caller.
        const OWN_REFERENCES: usize = 2;
        let mut shard = self.shard(session.id()).write();
        let is_unused = session.connections() == 0 && Arc::strong_count(session) <= OWN_REFERENCES;
        if !is_unused || session.ended().is_some() || shard.remove(session.id()).is_none() {
            return false;
        }
        self.live.fetch_sub(1, Ordering::AcqRel);
        true
    }

    /// What `pick` makes of each session.
    pub(super) fn pick<T>(&self, mut pick: impl FnMut(&Arc<TrackedSession>) -> Option<T>) -> Vec<T> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().by_id.values().filter_map(|entry| pick(&entry.session)));
        }
        all
    }

    /// The sessions that are wanted.
    pub(super) fn filtered(&self, is_wanted: impl Fn(&TrackedSession) -> bool) -> Vec<Arc<TrackedSession>> {
        self.pick(|session| is_wanted(session).then(|| Arc::clone(session)))
    }
}
