//! The Redis store, shared by any number of replicas.
//!
//! About once a second a replica sends the activity it saw, as ages, and its mark: "everything up to here is reported". The
//! reply tells which sessions have ended elsewhere. The server ends a session only when the oldest mark of all live replicas
//! lies beyond its timeout. While the server does not answer, no session ends, and activity is reported later.
//!
//! All of this is one script, put together from `clock.lua`, `marks.lua`, `session.lua` and `exchange.lua`.

mod address;
mod answer;
mod call;
mod connect;
mod connection;
mod denial;
mod doctor;
mod drift;
mod exchange;
mod fleet;
mod message;
mod rate;
mod reading;
mod restarts;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) use connection::{EXCHANGE, Link};
#[cfg(test)]
mod tests;
mod view;

pub use address::AddressError;

use super::{
    Answers, Due, Ended, Fleet, Issued, Knowledge, Known, Notification, Question, Reply, ReplyFuture, Report, Store,
    StoreError, StoreFuture, Touch,
};
use crate::clock::{Clock, Moment, epoch_milliseconds};
use crate::finding::Finding;
use crate::metrics::StoreMetrics;
use crate::secret::Secret;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId, SessionIds, Verdict};
use ::redis::RedisError;
use address::Address;
use call::{Server, Step};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// When verdicts are asked for, in milliseconds after the turn of a second: every replica has reported up to it by then, and
/// the `margin` of the script is over.
const VERDICT_PHASE: u64 = 510;

/// How long an end may wait for the reports of other replicas before a warning is logged, in milliseconds.
const LATE: u64 = 2_000;

/// How often one exchange is tried again after its connection was dropped, before that is an outage. The first connection may
/// have been dropped long before, and the second one in the middle of the exchange.
const RECONNECTS: usize = 2;

/// How to reach the server, and how to use it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedisSettings {
    /// `redis://…`.
    pub url: Secret,
    /// The prefix of all keys.
    pub prefix: String,
    /// The file with the password. It overrides the password in the URL.
    pub password_file: Option<PathBuf>,
    /// The file with the password of the Sentinels themselves.
    pub sentinel_password_file: Option<PathBuf>,
    /// The certificate authority of a `rediss://` server, in PEM. Without it, those of the system are used.
    pub ca_file: Option<PathBuf>,
    /// How long a replica may be silent before it is removed.
    pub replica_grace: Duration,
    /// `on_outage = "local"`: while the server does not answer, this replica ends sessions by itself. Only for
    /// deployments with a single replica.
    pub decides_alone: bool,
}

/// Sessions in Redis.
#[derive(Debug)]
pub struct RedisStore {
    server: Server,
    up: AtomicBool,
    /// Whether the server answers at all, even if it refuses writes.
    answers: AtomicBool,
    /// The replicas that were struck off within the last timeout, and when.
    gone: Mutex<Vec<(EpochSeconds, String)>>,
    /// Since when an end waits for the report of another replica, and whether that was logged.
    waiting: Mutex<Option<(Moment, bool)>>,
}

impl RedisSettings {
    /// Checks that `url` is a valid server address, without connecting.
    ///
    /// # Errors
    /// It is not valid.
    pub fn check_url(url: &str) -> Result<(), AddressError> {
        Address::of(url).map(|_| ())
    }
}

impl RedisStore {
    /// A store at the URL of `settings`. Nothing is connected yet: idlegate starts even if the server is down.
    ///
    /// # Errors
    /// The URL is not a Redis URL, or a named file cannot be read.
    pub fn new(settings: RedisSettings, limits: Limits, clock: Clock) -> Result<Self, StoreError> {
        let [up, answers] = [true, true].map(AtomicBool::new);
        let server = Server::new(settings, limits, clock)?;
        Ok(Self { server, up, answers, gone: Mutex::default(), waiting: Mutex::default() })
    }

    /// A store whose server is simulated, at the other end of `link`.
    #[cfg(test)]
    pub(crate) fn simulated(
        link: std::sync::Arc<dyn Link>,
        limits: Limits,
        clock: Clock,
        replica: String,
        replica_grace: Duration,
        is_next_version: bool,
    ) -> Self {
        let settings = RedisSettings {
            url: Secret::new("redis://simulated"),
            prefix: "sim".to_owned(),
            password_file: None,
            sentinel_password_file: None,
            ca_file: None,
            replica_grace,
            decides_alone: false,
        };
        let mut store = Self::new(settings, limits, clock).expect("a URL of Redis").named(replica);
        store.server.connections.link = Some(link);
        store.server.schema += u64::from(is_next_version);
        store
    }

    /// Checks the server: the connection, its clock, its settings, and our permissions.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        doctor::Examiner(self).examine().await
    }

    /// The name of this replica's mark; without this a new one.
    #[must_use]
    pub fn named(self, replica: String) -> Self {
        Self { server: self.server.named(replica), ..self }
    }

    /// How session ids are made; without this by the token alone.
    #[must_use]
    pub fn with_ids(mut self, ids: &SessionIds) -> Self {
        self.server.ids = ids.fingerprint();
        self
    }

    /// Records round trips, clock steps and replicas in these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: StoreMetrics) -> Self {
        self.server.connections.metrics = metrics;
        self
    }

    /// Called when an end waits for the report of another replica. Logs once when the wait makes the cut late.
    fn note_waiting(&self) {
        let now = self.server.clock.now();
        let mut waiting = self.waiting.lock();
        let (since, said) = waiting.get_or_insert((now, false));
        if now.since(*since) > LATE && !std::mem::replace(said, true) {
            let seconds = self.server.settings.replica_grace.as_secs();
            tracing::warn!(
                seconds,
                "a replica is silent; no session will expire until it reports or replica_grace is over"
            );
        }
    }
}

fn unavailable(error: &RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl Store for RedisStore {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn holds_ends(&self) -> bool {
        !self.server.settings.decides_alone
    }

    fn now(&self) -> Option<u64> {
        self.server.view.lock().server_now(self.server.clock.now())
    }

    fn counting(&self) -> EpochSeconds {
        self.server.view.lock().counting
    }

    fn knowledge(&self) -> Knowledge {
        let view = *self.server.view.lock();
        let Some(now) = view.server_now(self.server.clock.now()) else {
            return Knowledge { since: u64::MAX, until: 0 };
        };
        // Alone, this replica knows all there is.
        let until = if view.others > 0 { view.watermark } else { now / 1000 + 1 };
        Knowledge { since: view.known_since.max(view.counting), until }
    }

    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()> {
        Box::pin(self.hand_out(issued))
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        Box::pin(self.aside(Step::Lookup(id), Mode::Enforce))
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        Box::pin(self.aside(Step::Begin(touch), Mode::Enforce))
    }

    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a> {
        Box::pin(async move {
            self.server.view.lock().count(self.server.clock.now(), self.server.max_gap);
            let (taken_at, mut reply) = (self.server.clock.now(), Reply::default());
            let mut reported = self.report(report, taken_at, &mut reply).await;
            for _ in 0..RECONNECTS {
                if !reported.as_ref().is_err_and(connection::is_dropped) {
                    break;
                }
                // On a new connection, and all of it: the mark covers only what was acknowledged on its own connection.
                (reply.activity, reply.ends) = (0, 0);
                reported = self.report(report, taken_at, &mut reply).await;
            }
            self.note(reported.as_ref().err());
            if let Err(error) = reported {
                // A server without memory is still the right one.
                if !connection::is_short_of_memory(&error) {
                    self.server.connections.renew();
                }
                reply.failed = Some(unavailable(&error));
            }
            reply
        })
    }

    fn report_phase(&self) -> u64 {
        self.server.report_phase
    }

    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known> {
        let view = *self.server.view.lock();
        if self.up.load(Ordering::Acquire)
            && let Some(held) = self.held_back(&view, due.touch)
        {
            self.note_waiting();
            return Box::pin(std::future::ready(Ok(Known::Live(held))));
        }
        Box::pin(self.aside(Step::Ask(due), mode))
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        Box::pin(self.aside(Step::End(id, reason), Mode::Enforce))
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        Ended::of(touch, reason, self.now().unwrap_or_else(epoch_milliseconds), &self.server.limits, self.counting())
    }

    fn decide_alone(&self, touch: Touch, seen_idle: u64) -> Option<Ended> {
        let view = *self.server.view.lock();
        // Another replica has reported: the declared number is wrong.
        let off = self.server.was_off.load(Ordering::Acquire);
        if !self.server.settings.decides_alone || self.up.load(Ordering::Acquire) || view.others > 0 || off {
            return None;
        }
        let now = self.now().unwrap_or_else(epoch_milliseconds);
        match self.server.limits.judge(touch.times(now, view.counting), now / 1000) {
            // After a step of the server's clock, only idle time that this replica has seen itself counts.
            Verdict::Over(Reason::Idle)
                if view.stepped > 0 && seen_idle <= self.server.limits.timeout.saturating_mul(1000) =>
            {
                None
            }
            Verdict::Over(reason) => Some(Ended::of(touch, reason, now, &self.server.limits, self.counting())),
            Verdict::Live { .. } => None,
        }
    }

    fn struck_off(&self, ended: EpochSeconds) -> Vec<String> {
        let before = |at: EpochSeconds| at <= ended && ended - at <= self.server.limits.timeout;
        self.gone.lock().iter().filter(|(at, _)| before(*at)).map(|(_, name)| name.clone()).collect()
    }

    fn switch_fleet(&self, fleet: Fleet) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.server.switch(fleet, false).await.map_err(|error| unavailable(&error)) })
    }

    fn restore_fleet(&self, fleet: Fleet) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.server.switch(fleet, true).await.map_err(|error| unavailable(&error)) })
    }

    fn ask_all<'a>(&'a self, question: &'a str) -> StoreFuture<'a, Answers> {
        Box::pin(async move { Ok(self.server.ask_all(question).await) })
    }

    fn answer<'a>(&'a self, question: &'a Question, answer: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move { self.server.answer(question, answer).await.map_err(|error| unavailable(&error)) })
    }

    fn next_notification(&self) -> StoreFuture<'_, Notification> {
        Box::pin(async { Ok(self.server.connections.next_notification().await) })
    }

    fn close(&self) -> StoreFuture<'_, ()> {
        Box::pin(async { self.leave().await.map_err(|error| unavailable(&error)) })
    }
}
