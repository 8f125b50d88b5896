//! One session that this replica knows, shared by all of its connections.

use crate::clock::Moment;
use crate::session::{Beat, Pulse, SessionId, Source};
use crate::store::Ended;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A session in memory.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    pulse: Pulse,
    /// Set once, before `cut` fires: who is woken by the cut finds the reason.
    ended: OnceLock<Ended>,
    cut: CancellationToken,
    connections: AtomicUsize,
}

impl Session {
    pub(super) fn live(id: SessionId, beat: Beat) -> Self {
        Self {
            id,
            pulse: Pulse::new(beat),
            ended: OnceLock::new(),
            cut: CancellationToken::new(),
            connections: AtomicUsize::new(0),
        }
    }

    pub(super) fn dead(id: SessionId, now: Moment, ended: Ended) -> Self {
        let session = Self::live(id, Beat { at: now, source: ended.source });
        session.close(ended);
        session
    }

    /// Returns whether this was the first end.
    pub(super) fn close(&self, ended: Ended) -> bool {
        let first = self.ended.set(ended).is_ok();
        self.cut.cancel();
        first
    }

    /// The session id.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its activity, as this replica saw it.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Records activity. The hot path: one atomic operation.
    pub fn touch(&self, at: Moment, source: Source) {
        self.pulse.touch(Beat { at, source });
    }

    /// How it ended, where it has.
    #[must_use]
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.get()
    }

    /// Resolves when the session is cut; at once where it has been.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// How many connections it has on this replica: tunnels, and requests on their way.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection of a session, counted while this lives.
#[derive(Debug)]
pub struct Attached(Arc<Session>);

impl Attached {
    /// One more connection of `session`.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        session.connections.fetch_add(1, Ordering::Relaxed);
        Self(session)
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request whose answer has not begun: it keeps its session alive while this lives.
#[derive(Debug)]
pub struct Awaited(Arc<Session>);

impl Awaited {
    /// An answer for `session` is awaited from now on.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        session.pulse.await_answer();
        Self(session)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.pulse.answered();
    }
}
