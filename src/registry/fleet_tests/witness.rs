//! The witness sees everything that happens in the fleet, and records each violation as an objection.

use crate::session::SessionId;
use crate::store::Ended;
use std::collections::{BTreeMap, HashMap, HashSet};

/// When the simulation begins, in epoch milliseconds. All other times here are milliseconds since then.
pub(super) const EPOCH: u64 = 1_792_890_000_123;

#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The activity of each session: when, and on which replica.
    activity: HashMap<SessionId, Vec<(u64, usize)>>,
    /// When the store ended each session.
    pub(super) ends: HashMap<SessionId, u64>,
    /// The replicas that know of each session's end.
    dead: HashSet<(SessionId, usize)>,
    objections: Vec<String>,
}

impl Witness {
    pub(super) fn object(&mut self, what: impl Into<String>) {
        self.objections.push(what.into());
    }

    pub(super) fn saw(&mut self, id: SessionId, at: u64, replica: usize) {
        if self.dead.contains(&(id, replica)) {
            self.object(format!("revived on replica {replica}, which knew of its end"));
        }
        self.activity.entry(id).or_default().push((at, replica));
    }

    pub(super) fn saw_dead(&mut self, id: SessionId, replica: usize) {
        self.dead.insert((id, replica));
    }

    /// All sessions that had activity, and the time of the last one.
    pub(super) fn all(&self) -> impl Iterator<Item = (SessionId, u64)> {
        self.activity.iter().map(|(id, seen)| (*id, seen.iter().map(|(at, _)| *at).max().unwrap_or(0)))
    }

    /// The replicas that know of each session's end.
    pub(super) fn dead(&self) -> impl Iterator<Item = (SessionId, usize)> {
        self.dead.iter().copied()
    }

    pub(super) fn saw_end(&mut self, id: SessionId, now: u64) {
        if self.ends.insert(id, now).is_some() {
            self.object("ended twice");
        }
    }

    /// Checks the cut of a session at `now`. Only activity seen by the replicas in `marks` counts: the others have been
    /// struck off.
    pub(super) fn check_cut(
        &mut self,
        id: SessionId,
        record: &Ended,
        now: u64,
        timeout: u64,
        marks: &BTreeMap<usize, u64>,
    ) {
        let limit = timeout * 1000;
        let seen = self.activity.get(&id).map_or(&[][..], Vec::as_slice);
        let is_reported = |at: u64| (EPOCH + at) / 1000 <= record.last_activity;
        let reported = seen.iter().map(|(at, _)| *at).filter(|at| is_reported(*at)).max();
        let reported = reported.unwrap_or((record.last_activity * 1000 + 999).saturating_sub(EPOCH));
        let counts = |(at, replica): &&(u64, usize)| !is_reported(*at) && marks.contains_key(replica);
        let unsynced: Vec<u64> = seen.iter().filter(counts).map(|(at, _)| *at).collect();
        let objection = match (unsynced.iter().min(), unsynced.iter().max()) {
            // It was already overdue when it was touched, and no replica had noticed: either outcome is correct.
            (Some(first), _) if *first - reported > limit => None,
            (Some(_), Some(last)) if now - last <= limit => Some(format!("cut early: idle for {} ms", now - last)),
            (Some(first), _) => Some(format!("lost: activity {} ms before the cut", now - first)),
            _ if now - reported <= limit => Some(format!("cut early: idle for {} ms by the reports", now - reported)),
            _ => None,
        };
        if let Some(objection) = objection {
            self.object(format!("{objection}; limit {limit} ms"));
        }
    }

    pub(super) fn assert_no_objections(&self) {
        assert!(self.objections.is_empty(), "{:#?}", self.objections);
    }
}
