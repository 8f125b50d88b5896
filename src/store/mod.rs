//! The store: the one truth about sessions, in epoch seconds.
//!
//! Callers never send a time, only ages. The store turns an age into an epoch second by its own clock, in the same step
//! in which it decides. So no two clocks are ever compared.

#[cfg(test)]
mod contract;
mod file;
mod memory;
mod redis;
mod table;

pub use file::{FileError, FileStore};
pub use memory::MemoryStore;
pub use redis::{AddressError, RedisSettings, RedisStore};
#[cfg(test)]
pub(crate) use redis::{
    EXCHANGE, Link,
    simulated::{Simulated, hash_of, words_of},
};
pub use table::EndsBound;

use crate::clock::Moment;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId, Source, Times, counts_from, idle_at};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

/// `[store]`: where the truth about sessions is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreSettings {
    /// `url = "memory"`: in this process, gone when it ends.
    Memory,
    /// `url = "file:/path"`: in this process, and in a file that outlives it.
    File(PathBuf),
    /// `url = "redis://…"`: in Redis, for any number of replicas.
    Redis(RedisSettings),
}

/// The pending result of a store call.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The pending reply to a report.
pub type ReplyFuture<'a> = Pin<Box<dyn Future<Output = Reply> + Send + 'a>>;

/// Why a store gave no answer.
#[derive(Debug)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time.
    Unavailable(String),
    /// The settings are wrong: the store can never be reached with them.
    Settings(String),
    /// It has lost data, and the replicas are writing back what they know: ask again soon.
    Recovering,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(cause) => write!(f, "[store]: {cause}"),
            Self::Recovering => f.write_str("the store lost data, and the replicas are still writing it back"),
            Self::Unavailable(cause) => {
                write!(f, "the store does not answer ({cause}); check [store] url and that the store is running")
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// Activity to report to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The session.
    pub id: SessionId,
    /// How long ago it happened, in milliseconds.
    pub age: u64,
    /// The kind of activity.
    pub source: Source,
    /// How long ago the session began, in milliseconds. A store that has lost the session needs it.
    pub created_age: u64,
    /// Whether the store has never heard of the session, so that it begins with this.
    pub begins: bool,
}

impl Touch {
    /// Its times at `now` (in epoch milliseconds), where counting is unbroken since `counting`.
    pub(crate) fn times(&self, now: u64, counting: EpochSeconds) -> Times {
        let (created, last_activity) = (second_of(now, self.created_age), second_of(now, self.age));
        Times { created, last_activity, counting }
    }
}

/// An end that the store does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsyncedEnd {
    /// The session, with its last activity.
    pub touch: Touch,
    /// Why it ended.
    pub reason: Reason,
    /// How long ago it ended, in milliseconds.
    pub age: u64,
}

/// A session whose deadline has passed: the store judges it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The session, with its last activity.
    pub touch: Touch,
    /// How long this replica itself has seen it idle, in milliseconds.
    pub seen_idle: u64,
}

/// What a replica tells the store, about once a second.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Activity that the store has not acknowledged.
    pub activity: &'a [Touch],
    /// Ends that the store does not know.
    pub ends: &'a [UnsyncedEnd],
    /// Sessions to judge.
    pub due: &'a [Due],
    /// The mark: with `activity`, everything up to here that could end any session is reported.
    pub synced_to: Moment,
    /// The mode of this replica. In any mode other than `enforce` nothing ends: a session past its timeout is overdue.
    /// While any replica is `off`, and when the last of them returns, counting starts again for every session: what an
    /// `off` replica did not see may have been activity.
    pub mode: Mode,
}

/// What the store answers to a report. It may have failed half-way: what is acknowledged before stays so.
#[derive(Debug, Default)]
pub struct Reply {
    /// How many of the reported activities the store has: the first ones.
    pub activity: usize,
    /// How many of the reported ends the store has: the first ones.
    pub ends: usize,
    /// The verdict on each session that was judged.
    pub verdicts: Vec<(SessionId, Known)>,
    /// Sessions that have ended: reported ones, and those that ended anywhere since the last reply.
    pub ended: Vec<(SessionId, Ended)>,
    /// The store has lost data: everything must be reported again.
    pub resync: bool,
    /// The mode set for the whole fleet, if one was ever set.
    pub fleet: Option<Fleet>,
    /// The store cannot persist what it accepts, and keeps it in memory only.
    pub unkept: bool,
    /// Why the rest was not reported.
    pub failed: Option<StoreError>,
}

/// A token that the app has handed out, and no client has used yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The session id of the token.
    pub id: SessionId,
    /// How long it may stay unused, in seconds. At least 1.
    pub lasts: u64,
}

/// How long a token may stay unused after it was handed out, in seconds.
pub const UNUSED_FOR: u64 = 600;

/// How many tokens that are handed out and not yet used a store keeps.
pub(crate) const MAX_ISSUED: usize = 100_000;

/// Which tokens the store knows for certain, in epoch seconds: all that were used or handed out in this time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knowledge {
    /// The start. A token that is unknown counts as last active then.
    pub since: EpochSeconds,
    /// The end: every replica has reported up to here.
    pub until: EpochSeconds,
}

/// What a store knows of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Nothing.
    Unknown,
    /// The app has handed its token out, and no client has used it yet.
    Issued,
    /// It is live.
    Live(Live),
    /// Overdue: the session lives on because the mode does not end it. Carries the record that its end would have had.
    Overdue(Live, Ended),
    /// It has ended, and its token is dead.
    Ended(Ended),
}

/// A live session, in milliseconds from the store's now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live {
    /// The age of the last activity. Up to a second too high, because the store rounds its time down.
    pub age: u64,
    /// The source of the last activity.
    pub source: Source,
    /// How long ago the session began.
    pub created_age: u64,
    /// The time left until the session can expire, if there is no activity until then.
    pub due_in: u64,
}

/// An ended session: the record that explains the cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The last activity.
    pub last_activity: EpochSeconds,
    /// Its source.
    pub source: Source,
    /// When the session began.
    pub created: EpochSeconds,
    /// When it ended.
    pub ended: EpochSeconds,
    /// Why it ended.
    pub reason: Reason,
    /// The start of unbroken counting then, if later than the last activity: idle time counts from there.
    pub counting: Option<EpochSeconds>,
    /// The watermark of the decision: the activity of every replica was known up to this second.
    pub watermark: EpochSeconds,
    /// How long the store will remember this end, in milliseconds from now.
    pub remembered_for: u64,
}

impl Ended {
    /// How many seconds the session had been idle when it ended.
    #[must_use]
    pub fn idle(&self) -> u64 {
        idle_at(self.ended, self.last_activity, self.counting)
    }

    /// The record of an end at `now` (in epoch milliseconds), built from what a replica knows. Counting is unbroken
    /// since `counting`.
    pub(crate) fn of(touch: Touch, reason: Reason, now: u64, limits: &Limits, counting: EpochSeconds) -> Self {
        let (last_activity, ended) = (second_of(now, touch.age), now / 1000);
        let counting = counts_from(counting, last_activity, ended);
        let created = second_of(now, touch.created_age).min(last_activity);
        let remembered_for = limits.retention.saturating_mul(1000);
        Self { last_activity, source: touch.source, created, ended, reason, counting, watermark: ended, remembered_for }
    }
}

/// The epoch second at `age` milliseconds before `now` (in epoch milliseconds). Rounded down once, so that rounding can
/// only delay an end.
fn second_of(now: u64, age: u64) -> EpochSeconds {
    now.saturating_sub(age) / 1000
}

/// The mode set for the whole fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fleet {
    /// The current mode.
    pub mode: Mode,
    /// The end of a temporary mode, by the store's clock, and the mode that follows it.
    pub until: Option<(EpochSeconds, Mode)>,
}

impl Fleet {
    /// The mode in force at `now`, in epoch milliseconds by the store's clock. A temporary mode may have run out. A
    /// replica that reads it late must not start its time again.
    #[must_use]
    pub(crate) fn at(self, now: u64) -> Self {
        match self.until {
            Some((until, then)) if until.saturating_mul(1000) <= now => Self { mode: then, until: None },
            _ => self,
        }
    }
}

/// A question from one replica to all replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Identifies the question.
    number: u64,
    /// The text of the question.
    pub text: String,
}

/// The answers to a question.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answers {
    /// The answers that arrived in time.
    pub texts: Vec<String>,
    /// How many replicas did not answer in time.
    pub silent: u64,
}

/// What a store sends on its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notification {
    /// Something has happened that the next report will tell: it should come early. Also when notifications may have been
    /// missed. Nothing depends on it.
    Hint,
    /// The mode of the whole fleet was set.
    Switched(Fleet),
    /// Some replica, possibly this one, asks all replicas a question.
    Asked(Question),
}

/// How long after the turn of a second the only replica reports, in milliseconds of the store's time. A session can expire
/// only at the turn of a second.
const AFTER_THE_TURN: u64 = 50;

/// The longest gap without counting, in milliseconds, that does not break it. After a longer one (a restart, a
/// suspended machine) idle time starts again: no session expires for time in which idlegate could not see activity.
const MAX_GAP: u64 = 60_000;

/// Where sessions are kept. Each call is one atomic step for the session it names.
pub trait Store: Send + Sync + fmt::Debug {
    /// The kind of store, in one word.
    fn kind(&self) -> &'static str;

    /// The store's time, in epoch milliseconds, as known here without asking.
    fn now(&self) -> Option<u64>;

    /// What is known of `id`.
    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known>;

    /// The start of unbroken counting, in epoch seconds, as known here: no idle time counts from before.
    fn counting(&self) -> EpochSeconds;

    /// Which tokens are known for certain. Where a token is none of them, the app alone decides.
    fn knowledge(&self) -> Knowledge;

    /// Keeps tokens that the app has handed out, until they are used or their time is over.
    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()>;

    /// Begins the session of `touch`, or merges the activity if the session is known. An ended session stays ended.
    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known>;

    /// Reports what happened on this replica, and learns what happened elsewhere. Activity is merged by maximum. An ended
    /// session stays ended, and the reply says so. Before anything is judged, all of the report's activity is merged.
    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a>;

    /// How long after the turn of a second this replica reports, in milliseconds of the store's time.
    fn report_phase(&self) -> u64 {
        AFTER_THE_TURN
    }

    /// Judges one session at once. Its activity is merged; then either the session is ended for all replicas, or the newer
    /// activity that prevents it is returned.
    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known>;

    /// Ends a live session regardless of its activity. An ended session keeps its first end. An unknown one leaves no
    /// trace.
    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known>;

    /// The record of an end that is decided here and now, while the store does not answer. It must be reported when the
    /// store is back.
    fn end_record(&self, touch: Touch, reason: Reason) -> Ended;

    /// The end of an expired session, where the store does not answer and this replica may decide alone: it is declared
    /// to be the only one. The record must be reported when the store is back.
    fn decide_alone(&self, _touch: Touch, _seen_idle: u64) -> Option<Ended> {
        None
    }

    /// The replicas that were struck off within one idle timeout before an end: what their clients did may be missing.
    fn struck_off(&self, _ended: EpochSeconds) -> Vec<String> {
        Vec::new()
    }

    /// Whether no session ends while this store is out.
    fn holds_ends(&self) -> bool {
        false
    }

    /// Sets the mode of the whole fleet.
    ///
    /// # Errors
    /// The store does not answer, or replicas cannot share it.
    fn switch_fleet(&self, _fleet: Fleet) -> StoreFuture<'_, ()> {
        let cause = "only replicas that share a Redis can be switched together".to_owned();
        Box::pin(std::future::ready(Err(StoreError::Settings(cause))))
    }

    /// Writes the fleet's mode back if the store has lost it, unless it has been set since.
    fn restore_fleet(&self, _fleet: Fleet) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Asks every replica, this one included, and returns what they answered within a second. Where there is only one
    /// replica, none answers: it knows the answer itself.
    fn ask_all<'a>(&'a self, _question: &'a str) -> StoreFuture<'a, Answers> {
        Box::pin(std::future::ready(Ok(Answers::default())))
    }

    /// Answers another replica's question.
    fn answer<'a>(&'a self, _question: &'a Question, _answer: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The store's next notification. Never resolves where there is only one replica.
    fn next_notification(&self) -> StoreFuture<'_, Notification> {
        Box::pin(std::future::pending())
    }

    /// Saves what must outlive this process, before it ends. A store without persistence does nothing.
    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
