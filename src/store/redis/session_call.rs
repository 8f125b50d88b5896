//! One atomic step for one session: builds the command and parses the reply.

use super::connect;
use super::connection::Naming;
use super::report::{junk_of, warn_of_junk};
use super::{RedisStore, unavailable};
use crate::clock::Moment;
use crate::session::{EpochSeconds, Limits, Reason, Source, Verdict};
use crate::store::{Ended, Known, Live, REPORTED_AFTER_THE_TURN, StoreError, Touch};
use ::redis::{FromRedisValue, RedisError, RedisResult, Value};
use std::sync::atomic::Ordering;

/// How long before a report deadlines fall due, in milliseconds, so that they are in time for it even if clock readings
/// differ a little.
const BEFORE_THE_REPORT: u64 = 10;

/// What the server does for one session.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionCall {
    Lookup,
    Update,
    /// Compare and end.
    Judge,
    /// Compare, and return the end that `enforce` would cause.
    Watch,
    End(Reason),
    RecordEnd {
        reason: Reason,
        age: u64,
    },
}

impl RedisStore {
    /// Runs one step for a session.
    pub(super) async fn step(&self, step: SessionCall, touch: Touch) -> Result<Known, StoreError> {
        // A server that refuses writes can still look up dead tokens.
        let answers = if matches!(step, SessionCall::Lookup) { &self.answers } else { &self.up };
        if !answers.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("it did not answer the last report".to_owned()));
        }
        let started = self.clock.now();
        // If the server has forgotten the script, the step is sent again with new ages.
        let run = self.connections.run(|naming| {
            let now = self.clock.now();
            self.command(naming, step, touch, now.since(started), now)
        });
        let answer = tokio::time::timeout(connect::RESPONSE_TIMEOUT, run).await;
        let answer =
            answer.map_err(|_| StoreError::Unavailable(format!("no answer within {:?}", connect::RESPONSE_TIMEOUT)))?;
        let known = answer.and_then(|answer| {
            // A lookup leaves repairs, and their report, to the next step.
            if let (false, Some(junk)) = (matches!(step, SessionCall::Lookup), junk_of(&answer)) {
                warn_of_junk(touch.id, &junk, 1);
            }
            self.known(&answer)
        });
        known.map_err(|error| unavailable(&error))
    }

    /// The command for a step whose ages were taken `waited` milliseconds ago, and which is sent at `sent`.
    pub(super) fn command(
        &self,
        naming: Naming,
        step: SessionCall,
        touch: Touch,
        waited: u64,
        sent: Moment,
    ) -> ::redis::Cmd {
        let view = *self.view.lock();
        let not_after = view.measure(view.synced_to, sent).not_after();
        let Limits { timeout, lifetime, retention } = self.limits;
        let (name, reason, ended_age) = match step {
            SessionCall::Lookup => ("lookup", "", 0),
            SessionCall::Update => ("update", "", 0),
            SessionCall::Judge => ("judge", "", 0),
            SessionCall::Watch => ("watch", "", 0),
            SessionCall::End(reason) => ("end", reason.name(), 0),
            SessionCall::RecordEnd { reason, age } => ("record_end", reason.name(), age),
        };
        let mut command = self.connections.session.command(naming, 1);
        command.arg(self.key(touch.id)).arg(name);
        command.arg(touch.age + waited).arg(touch.source.name()).arg(touch.created_age + waited);
        command.arg(timeout).arg(lifetime.map_or(-1, u64::cast_signed)).arg(retention);
        command.arg(view.watermark).arg(view.counting).arg(reason);
        command.arg(self.connections.channel()).arg(touch.id.to_string()).arg(ended_age + waited).arg(not_after);
        command.arg(self.limits.live_record_kept());
        command
    }

    pub(super) fn known(&self, answer: &Value) -> RedisResult<Known> {
        let Value::Array(parts) = answer else { return Ok(Known::Unknown) };
        let number =
            |at: usize| parts.get(at).map_or(Ok(0), |value| u64::from_redis_value_ref(value).map_err(RedisError::from));
        let text = |at: usize| {
            parts
                .get(at)
                .map_or(Ok(String::new()), |value| String::from_redis_value_ref(value).map_err(RedisError::from))
        };
        if parts.len() < 6 {
            return Ok(Known::Unknown);
        }
        let (now, last_activity, created, ended) = (number(0)?, number(1)?, number(3)?, number(4)?);
        let counting = Some(number(8)?).filter(|counting| *counting > 0);
        let source = Source::from_name(&text(2)?).unwrap_or(Source::Request);
        let view = *self.view.lock();
        let age_of = |second: EpochSeconds| now.saturating_sub(second.saturating_mul(1000));
        if ended > 0 {
            let reason = Reason::from_name(&text(5)?).unwrap_or(Reason::Idle);
            let remembered = ended.saturating_add(self.limits.retention).saturating_mul(1000);
            // A time in the future does not extend the retention.
            let remembered_for = remembered.saturating_sub(now).min(self.limits.retention.saturating_mul(1000));
            let watermark = view.watermark;
            let record = Ended { last_activity, source, created, ended, reason, counting, watermark, remembered_for };
            return Ok(Known::Ended(record));
        }
        let (would_end, watermark) = (number(6)?, view.watermark);
        let due_in = match self.limits.judge(created, last_activity.max(view.counting), now / 1000) {
            // Due with the first report after the session can expire: nothing is decided before that.
            Verdict::Live { due } => {
                (due.saturating_mul(1000) + REPORTED_AFTER_THE_TURN - BEFORE_THE_REPORT).saturating_sub(now)
            }
            Verdict::Over(_) => 0,
        };
        let live = Live { age: age_of(last_activity), source, created_age: age_of(created), due_in };
        if would_end == 0 {
            return Ok(Known::Live(live));
        }
        let reason = Reason::from_name(&text(5)?).unwrap_or(Reason::Idle);
        let ended = would_end;
        let record = Ended { last_activity, source, created, ended, reason, counting, watermark, remembered_for: 0 };
        Ok(Known::Overdue(live, record))
    }
}
