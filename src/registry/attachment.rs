//! What ties a connection to a session, and ends it.

use super::{Closed, TrackedSession};
use crate::clock::Moment;
use crate::session::{Reason, SessionId, Source};
use crate::store::Ended;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A dead token that the mode lets pass, until it enforces.
#[derive(Clone, Debug)]
pub struct Tolerated {
    /// Whose it is.
    pub id: SessionId,
    /// How that ended.
    pub ended: Ended,
    /// Fires when the mode enforces.
    pub(super) over: CancellationToken,
}

/// A connection, attached to what it belongs to while this lives.
#[derive(Debug)]
pub struct Attachment(To);

#[derive(Debug)]
enum To {
    /// A live session, which counts it.
    Session(Arc<TrackedSession>),
    /// A connection of an ended session that the mode tolerates. It must not stay open once the mode enforces again.
    Tolerated(Box<Tolerated>),
}

impl Attachment {
    /// One more connection of `session`.
    #[must_use]
    pub fn new(session: Arc<TrackedSession>) -> Self {
        session.attach();
        Self(To::Session(session))
    }

    /// A connection that is open only because its dead token is tolerated.
    #[must_use]
    pub fn tolerated(tolerated: Tolerated) -> Self {
        Self(To::Tolerated(Box::new(tolerated)))
    }

    /// The tolerated end, where this connection is open because of one.
    #[must_use]
    pub fn as_tolerated(&self) -> Option<&Tolerated> {
        match &self.0 {
            To::Session(_) => None,
            To::Tolerated(tolerated) => Some(tolerated),
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

    /// Whether the connection must close.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match &self.0 {
            To::Session(session) => session.ended().is_some(),
            To::Tolerated(tolerated) => tolerated.over.is_cancelled(),
        }
    }

    /// Why the connection must close, once it must.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match &self.0 {
            To::Session(session) => session.ended().map(|ended| ended.reason),
            To::Tolerated(tolerated) => tolerated.over.is_cancelled().then_some(tolerated.ended.reason),
        }
    }

    /// Resolves when the connection must close; at once if it already must.
    pub fn cut(&self) -> WaitForCancellationFutureOwned {
        match &self.0 {
            To::Session(session) => session.cut(),
            To::Tolerated(tolerated) => tolerated.over.clone().cancelled_owned(),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let To::Session(session) = &self.0 {
            session.detach();
        }
    }
}

/// A request whose answer has not begun: it keeps its session alive while this lives.
#[derive(Debug)]
pub struct AwaitingResponse(Arc<TrackedSession>);

impl AwaitingResponse {
    /// An answer for `session` is awaited from now on.
    #[must_use]
    pub fn new(session: Arc<TrackedSession>) -> Self {
        session.activity_record().await_answer();
        Self(session)
    }
}

impl Drop for AwaitingResponse {
    fn drop(&mut self) {
        self.0.activity_record().answered();
    }
}
