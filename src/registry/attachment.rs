//! The attachment of a connection to its session: passes activity on, and says when the connection must close.

use super::{Closed, TrackedSession};
use crate::clock::Moment;
use crate::session::{Mode, Reason, SessionId, Source};
use crate::store::Ended;
use crate::websocket::Side;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A dead token that the mode lets through until it enforces.
#[derive(Clone, Debug)]
pub struct Tolerated {
    /// Its session id.
    pub id: SessionId,
    /// How that session ended.
    pub ended: Ended,
    /// Fires when the mode no longer tolerates it.
    pub(super) over: CancellationToken,
}

/// The signals that end the connections of tolerated tokens.
#[derive(Debug, Default)]
pub(super) struct Tolerations {
    /// Cancelled, and replaced, when the mode is no longer `off`.
    leaves_off: Mutex<CancellationToken>,
    /// Cancelled, and replaced, when the mode becomes `enforce`.
    enforces: Mutex<CancellationToken>,
}

impl Tolerations {
    /// A signal that fires when the mode is no longer `off`, and one for when it is `enforce`.
    pub(super) fn signals(&self) -> [CancellationToken; 2] {
        [&self.leaves_off, &self.enforces].map(|signal| signal.lock().clone())
    }

    /// The mode has changed to `mode`.
    pub(super) fn end(&self, mode: Mode) {
        if mode != Mode::Off {
            std::mem::take(&mut *self.leaves_off.lock()).cancel();
        }
        if mode == Mode::Enforce {
            std::mem::take(&mut *self.enforces.lock()).cancel();
        }
    }
}

/// Attaches a connection to its session, until this is dropped.
#[derive(Debug)]
pub struct Attachment(To);

#[derive(Debug)]
enum To {
    /// A live session, which counts the connection.
    Session(Arc<TrackedSession>),
    /// A connection of an ended session that the mode tolerates. It must not stay open once the mode enforces again.
    Tolerated(Box<Tolerated>),
}

impl Attachment {
    /// Attaches one more connection to `session`.
    ///
    /// # Errors
    /// The session has ended. This is checked after attaching: a connection attached before the end is closed by it.
    pub fn new(session: Arc<TrackedSession>) -> Result<Self, Ended> {
        session.attach();
        match session.ended().copied() {
            Some(ended) => {
                session.detach();
                Err(ended)
            }
            None => Ok(Self(To::Session(session))),
        }
    }

    /// A connection that is open only because its dead token is tolerated.
    #[must_use]
    pub fn tolerated(tolerated: Tolerated) -> Self {
        Self(To::Tolerated(Box::new(tolerated)))
    }

    /// The tolerated dead token, if this connection is open only because of one.
    #[must_use]
    pub fn as_tolerated(&self) -> Option<&Tolerated> {
        match &self.0 {
            To::Session(_) => None,
            To::Tolerated(tolerated) => Some(tolerated),
        }
    }

    /// The live session that the connection belongs to.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match &self.0 {
            To::Session(session) => Some(session.id()),
            To::Tolerated(_) => None,
        }
    }

    /// Records activity. The hot path: one atomic operation.
    pub fn touch(&self, at: Moment, source: Source) {
        if let To::Session(session) = &self.0 {
            session.touch(at, source);
        }
    }

    /// Records a data frame that counts. The hot path: two atomic operations.
    pub fn touch_by_frame(&self, at: Moment, frame: (Side, u64)) {
        if let To::Session(session) = &self.0 {
            session.touch_by_frame(at, frame);
        }
    }

    /// Records messages that an `[[ignore]]` rule keeps from counting: their side, the length of the last in bytes, and how many.
    pub fn ignored_messages(&self, at: Moment, rule: usize, messages: (Side, u64, u64)) {
        if let To::Session(session) = &self.0 {
            session.ignored_messages(at, rule, messages);
        }
    }

    /// Records how the connection, a WebSocket, ended.
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

    /// Resolves when the connection must close, or at once if it already must.
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

/// A request whose response has not begun. It keeps its session active until this is dropped.
#[derive(Debug)]
pub struct AwaitingResponse(Arc<TrackedSession>);

impl AwaitingResponse {
    /// Starts waiting for a response for `session`.
    #[must_use]
    pub fn new(session: Arc<TrackedSession>) -> Self {
        session.activity_record().await_response();
        Self(session)
    }
}

impl Drop for AwaitingResponse {
    fn drop(&mut self) {
        self.0.activity_record().response_begun();
    }
}
