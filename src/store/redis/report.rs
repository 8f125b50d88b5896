//! The report, about once a second: what was seen, then the mark. And what its failure means.

use super::link::Naming;
use super::view::{News, Reading, Report, View};
use super::{RedisStore, Step};
use crate::clock::Moment;
use crate::store::{Flushed, Known, Live, Touch};
use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::atomic::Ordering;

/// How long nobody may have counted, in milliseconds, for counting to be unbroken.
const GAP_AT_MOST: u64 = 60_000;

/// How many sessions are told about at once.
const TOLD_AT_ONCE: usize = 1_000;

impl RedisStore {
    /// Tells all of `touches`, then sets the mark.
    pub(super) async fn report(&self, touches: &[Touch], told: Moment) -> RedisResult<Flushed> {
        let started = self.clock.now();
        let (mut flushed, mut untaken) = (Flushed::default(), false);
        for chunk in touches.chunks(TOLD_AT_ONCE) {
            let commands = |first| {
                let waited = self.clock.now().since(started);
                let namings = std::iter::once(first).chain(std::iter::repeat(Naming::Hash));
                chunk
                    .iter()
                    .zip(namings)
                    .map(|(touch, naming)| self.command(naming, Step::Tell, *touch, waited))
                    .collect()
            };
            for (touch, answer) in chunk.iter().zip(&self.link.run_all(commands).await?) {
                match self.known(answer)? {
                    Known::Ended(ended) => flushed.ended.push((touch.id, ended)),
                    Known::Live(_) => {}
                    Known::Unknown => untaken = true,
                }
            }
        }
        // Only now: a mark says that all of it has been told.
        let told = if untaken { self.view.lock().told } else { told };
        let first = self.view.lock().server_now(started).is_none();
        let (mut news, mut struck) = self.set_mark(told).await?;
        if first {
            // The first one only measures the server's time, in which a mark is made.
            (news, struck) = self.set_mark(told).await?;
        }
        for replica in struck {
            tracing::warn!(
                replica,
                seconds = self.settings.replica_grace.as_secs(),
                "a replica was silent for too long and is struck off; what its clients did since does not count"
            );
        }
        if news.stepped {
            tracing::warn!(
                "the store's clock was stepped; for one limit a session is ended only where it was seen idle for as long"
            );
        }
        flushed.retell = news.retell || untaken;
        Ok(flushed)
    }

    async fn set_mark(&self, told: Moment) -> RedisResult<(News, Vec<String>)> {
        let sent = self.clock.now();
        let answer = self.link.run(|naming| self.mark(naming, told, "enforce")).await?;
        let (report, struck) = report_of(&answer, sent, self.clock.now())?;
        Ok((self.view.lock().hear(&report, told), struck))
    }

    /// All is told, and this replica goes: the others need not wait for it.
    pub(super) async fn leave(&self) -> RedisResult<()> {
        if self.up.load(Ordering::Acquire) {
            let told = self.view.lock().told;
            self.link.run(|naming| self.mark(naming, told, "left")).await?;
        }
        Ok(())
    }

    fn mark(&self, naming: Naming, told: Moment, mode: &str) -> Cmd {
        let view = *self.view.lock();
        let measure = view.measure(told, self.clock.now());
        let prefix = &self.settings.prefix;
        let grace = u64::try_from(self.settings.replica_grace.as_millis()).unwrap_or(u64::MAX);
        let mut command = self.link.replicas.command(naming, 2);
        command.arg(format!("{prefix}:replicas")).arg(format!("{prefix}:counting")).arg(&self.replica).arg(mode);
        command.arg(measure.base).arg(measure.told).arg(measure.sent).arg(measure.slack);
        command.arg(view.confirmed).arg(view.steps).arg(u8::from(view.step_to_tell));
        command.arg(grace).arg(GAP_AT_MOST).arg(self.limits.timeout);
        command
    }

    /// Where a session cannot have ended yet, because some replica has not reported far enough: what is known of it
    /// here. While a silent replica holds verdicts back, the server is not asked about each session again and again.
    pub(super) fn held_back(&self, view: &View, touch: Touch) -> Option<Live> {
        let now = view.server_now(self.clock.now())?;
        let over = |since: u64, limit: u64, at: u64| at.saturating_sub(since) > limit.saturating_mul(1000);
        let begun = now.saturating_sub(touch.created_age) / 1000 * 1000;
        let last = now.saturating_sub(touch.age) / 1000 * 1000;
        let by_lifetime = self.limits.lifetime.is_some_and(|lifetime| over(begun, lifetime, now));
        // A second more: the server's time is known up to the way of a message only.
        let reported = over(last, self.limits.timeout, view.watermark.saturating_mul(1000) + 1000);
        let held = over(last, self.limits.timeout, now) && !reported && !by_lifetime;
        held.then_some(Live { age: touch.age, source: touch.source, created_age: touch.created_age, due_in: 0 })
    }

    /// One line per change, whatever happens in between.
    pub(super) fn note(&self, error: Option<&RedisError>) {
        self.answers.store(error.is_none_or(is_an_answer), Ordering::Release);
        let up = error.is_none();
        if self.up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        if let Some(error) = error {
            tracing::error!(%error, "the store does not answer; nobody is cut, and what happens is told when it is back");
        } else {
            tracing::info!("the store answers again");
        }
    }
}

/// Whether the server can still be asked, though it refuses to write.
fn is_an_answer(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => !matches!(kind, ServerErrorKind::BusyLoading),
        ErrorKind::Extension => !matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM")),
        _ => false,
    }
}

fn report_of(answer: &Value, sent: Moment, received: Moment) -> RedisResult<(Report, Vec<String>)> {
    let (server, oldest, counting, stepped, steps, known, mark, struck) =
        <(u64, u64, u64, u64, u64, u8, u64, Vec<String>)>::from_redis_value_ref(answer)?;
    let reading = Reading { server, sent, received };
    Ok((Report { reading, oldest, counting, stepped, steps, known: known == 1, mark }, struck))
}
