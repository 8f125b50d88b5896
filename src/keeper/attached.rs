//! What ties a connection to a session, and ends it.

use super::{Closed, Session};
use crate::clock::Moment;
use crate::session::{Reason, SessionId, Source};
use crate::store::Ended;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A dead token that the mode lets pass, until it enforces.
#[derive(Clone, Debug)]
pub struct Excuse {
    /// Whose it is.
    pub id: SessionId,
    /// How that ended.
    pub ended: Ended,
    /// Fires when the mode enforces.
    pub(super) over: CancellationToken,
}

/// A connection, attached to what it belongs to while this lives.
#[derive(Debug)]
pub struct Attached(To);

#[derive(Debug)]
enum To {
    /// A live session, which counts it.
    Session(Arc<Session>),
    /// A dead one. Whoever connected while the mode cut nobody must not stay when it cuts again.
    Excuse(Box<Excuse>),
}

impl Attached {
    /// One more connection of `session`.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        session.attach();
        Self(To::Session(session))
    }

    /// A connection that is there by this excuse.
    #[must_use]
    pub fn excused(excuse: Excuse) -> Self {
        Self(To::Excuse(Box::new(excuse)))
    }

    /// The excuse, where it is there by one.
    #[must_use]
    pub fn excuse(&self) -> Option<&Excuse> {
        match &self.0 {
            To::Session(_) => None,
            To::Excuse(excuse) => Some(excuse),
        }
    }

    /// Records activity. The hot path: one atomic operation.
    pub fn touch(&self, at: Moment, source: Source) {
        if let To::Session(session) = &self.0 {
            session.touch(at, source);
        }
    }

    /// The connection, a WebSocket, has ended.
    pub fn closed_by(&self, closed: Closed) {
        if let To::Session(session) = &self.0 {
            session.closed_by(closed);
        }
    }

    /// Whether the connection is to end.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match &self.0 {
            To::Session(session) => session.ended().is_some(),
            To::Excuse(excuse) => excuse.over.is_cancelled(),
        }
    }

    /// Why the connection is to end, once it is.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match &self.0 {
            To::Session(session) => session.ended().map(|ended| ended.reason),
            To::Excuse(excuse) => excuse.over.is_cancelled().then_some(excuse.ended.reason),
        }
    }

    /// Resolves when the connection is to end; at once where it is to.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        match &self.0 {
            To::Session(session) => session.cut(),
            To::Excuse(excuse) => excuse.over.clone().cancelled_owned(),
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let To::Session(session) = &self.0 {
            session.detach();
        }
    }
}

/// A request whose answer has not begun: it keeps its session alive while this lives.
#[derive(Debug)]
pub struct Awaited(Arc<Session>);

impl Awaited {
    /// An answer for `session` is awaited from now on.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        session.pulse().await_answer();
        Self(session)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.pulse().answered();
    }
}
