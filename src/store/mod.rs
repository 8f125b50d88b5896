//! The store: the one truth about sessions, in epoch seconds.
//!
//! Nobody tells the store what time it is. Callers say how long ago something was; the store turns that age into an
//! epoch second with its own clock, in the same step in which it decides. So no two clocks are ever compared.

#[cfg(test)]
mod contract;
mod file;
mod memory;
mod table;

pub use file::{FileError, FileStore};
pub use memory::MemoryStore;

use crate::session::{EpochSeconds, Reason, SessionId, Source};
use std::fmt;
use std::pin::Pin;

/// The answer of a store, when it comes.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store gave no answer.
#[derive(Debug)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time.
    Unavailable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(cause) => {
                write!(f, "the store does not answer ({cause}); check [store] url and that the store is running")
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// Activity to be told to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// Whose.
    pub id: SessionId,
    /// How many milliseconds ago.
    pub age: u64,
    /// What it was.
    pub source: Source,
}

/// What a store knows of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing.
    Unknown,
    /// It is live.
    Live(Live),
    /// It has ended, and its token is dead.
    Ended(Ended),
}

/// A live session, in milliseconds from the store's now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live {
    /// How long ago the last activity was. Up to a second more than it really was: the store floors.
    pub age: u64,
    /// What it was.
    pub source: Source,
    /// When the session can be over, if nothing happens until then.
    pub due_in: u64,
}

/// An ended session: the record that explains the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The last activity.
    pub last_activity: EpochSeconds,
    /// What it was.
    pub source: Source,
    /// When the session began.
    pub created: EpochSeconds,
    /// When it ended.
    pub ended: EpochSeconds,
    /// Why.
    pub reason: Reason,
    /// Up to when every replica's activity was known when this was decided.
    pub watermark: EpochSeconds,
    /// For how many milliseconds from now the store will remember this.
    pub remembered_for: u64,
}

/// Where sessions are kept. Each call is one atomic step for the session it names.
pub trait Store: Send + Sync + fmt::Debug {
    /// What is known of `id`.
    fn look_up(&self, id: SessionId) -> Answer<'_, Known>;

    /// Begins the session of `touch`, or merges the activity where it is known. An ended one stays ended.
    fn begin(&self, touch: Touch) -> Answer<'_, Known>;

    /// Merges activity, by maximum. Sessions that have ended, or are unknown, are left as they are.
    fn flush<'a>(&'a self, touches: &'a [Touch]) -> Answer<'a, ()>;

    /// Merges the activity of `touch`, then compares and ends: the session is over for all, or the newer activity
    /// that forbids it comes back.
    fn judge(&self, touch: Touch) -> Answer<'_, Known>;

    /// Ends a live session whatever its activity. One that has ended keeps its first end; an unknown one leaves
    /// no trace.
    fn end(&self, id: SessionId, reason: Reason) -> Answer<'_, Known>;

    /// Keeps what must outlive this process, before it ends. Nothing to do where nothing does.
    fn close(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
