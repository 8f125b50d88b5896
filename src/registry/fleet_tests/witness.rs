//! The witness sees everything that happens in the fleet, and records each violation as an objection.

use crate::session::SessionId;
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

    /// Checks the cut of a session at `now`. Until `told`, each replica had reported its activity. Later activity counts only
    /// where its replica is in `marks`: the others have been struck off.
    pub(super) fn check_cut(
        &mut self,
        id: SessionId,
        now: u64,
        timeout: u64,
        marks: &BTreeMap<usize, u64>,
        told: &BTreeMap<usize, u64>,
    ) {
        let limit = timeout * 1000;
        let seen = self.activity.get(&id).map_or(&[][..], Vec::as_slice);
        let is_told = |(at, replica): &&(u64, usize)| told.get(replica).is_some_and(|told| at < told);
        let last_told = seen.iter().filter(is_told).map(|(at, _)| *at).max();
        let counts = |seen: &&(u64, usize)| !is_told(seen) && marks.contains_key(&seen.1);
        let first_unsynced = seen.iter().filter(counts).map(|(at, _)| *at).min();
        let objection = match (last_told, first_unsynced) {
            (Some(last), _) if now - last <= limit => Some(format!("cut early: idle for {} ms", now - last)),
            // It was overdue when it was touched, and no replica had noticed: either outcome is correct.
            (Some(last), Some(first)) if first - last > limit => None,
            (_, Some(first)) => Some(format!("lost: activity {} ms before the cut", now - first)),
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
