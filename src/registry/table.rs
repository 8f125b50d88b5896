//! The sessions in memory, and one deadline for each.

use super::TrackedSession;
use crate::clock::Moment;
use crate::session::SessionId;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All sessions that this replica knows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) by_id: HashMap<SessionId, Entry>,
    /// One deadline per session: when to judge a live one, when to forget an ended one.
    pub(super) deadlines: BTreeSet<(Moment, SessionId)>,
    pub(super) live: usize,
}

/// A session and its deadline.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: Arc<TrackedSession>,
    pub(super) deadline: Moment,
}

impl Sessions {
    pub(super) fn arm(&mut self, id: SessionId, deadline: Moment) {
        if let Some(entry) = self.by_id.get_mut(&id) {
            self.deadlines.remove(&(entry.deadline, id));
            entry.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.deadlines.remove(&(entry.deadline, id));
        Some(entry)
    }

    pub(super) fn insert(&mut self, session: &Arc<TrackedSession>, deadline: Moment) {
        self.by_id.insert(session.id(), Entry { session: Arc::clone(session), deadline });
        self.deadlines.insert((deadline, session.id()));
        self.live += usize::from(session.ended().is_none());
    }
}
