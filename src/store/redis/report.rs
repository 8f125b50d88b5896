//! The report, sent about once a second: first the activity, then the mark. Also handles its failure.

use super::connection::Naming;
use super::denial::{Denial, denial};
use super::view::{News, Reading, Report, View};
use super::{LATE, RedisStore, SessionCall};
use crate::clock::{Moment, milliseconds};
use crate::session::{Mode, SessionId};
use crate::store::{Flushed, Known, Live, Store, Touch, second_of};
use ::redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::atomic::Ordering;

/// The most updates in one transaction. The server does nothing else meanwhile, and four replicas that resync at once must each
/// get a reply within its timeout: 1,000 updates take it some 30 ms.
const MAX_UPDATES: usize = 1_000;

impl RedisStore {
    /// Reports all of `touches`, then sets the mark: in one transaction, so in one round trip, and so that the mark is
    /// only set if all of it is stored. What exceeds one transaction is sent before, and must be confirmed first.
    pub(super) async fn report(&self, touches: &[Touch], synced_to: Moment, mode: Mode) -> RedisResult<Flushed> {
        let started = self.clock.now();
        if mode == Mode::Off {
            self.was_off.store(true, Ordering::Release);
        }
        if self.now().is_none() {
            // The first report only measures the server's time, in which a mark is made.
            self.set_mark(synced_to, mode).await?;
        }
        let connection = self.connections.number();
        let mut flushed = Flushed::default();
        let mut chunks: Vec<&[Touch]> = touches.chunks(MAX_UPDATES).collect();
        let last = chunks.pop().unwrap_or_default();
        let mut untaken = false;
        for chunk in chunks {
            let answers = self.connections.transact(&self.updates(chunk, started)).await?;
            untaken |= self.read_answers(chunk, &answers, &mut flushed)?;
        }
        // Updates that were not accepted, or may have gone to another server, are sent again, and the mark stays.
        let synced_to =
            if untaken || self.connections.number() != connection { self.view.lock().synced_to } else { synced_to };
        let mut commands = self.updates(last, started);
        let (sent, connection) = (self.clock.now(), self.connections.number());
        commands.push(self.mark(Naming::Text, synced_to, sent, mode.name()));
        let mut answers = self.connections.transact(&commands).await?;
        let answer = answers.pop().unwrap_or(Value::Nil);
        let (report, found) = report_of(&answer, sent, self.clock.now(), connection)?;
        flushed.fleet = self.fleet_of(&found.fleet);
        if mode != Mode::Off {
            self.was_off.store(false, Ordering::Release);
        }
        let news = self.view.lock().receive(&report, synced_to);
        untaken |= self.read_answers(last, &answers, &mut flushed)?;
        if second_of(report.reading.server, LATE) <= report.oldest / 1000 {
            *self.waiting.lock() = None;
        }
        self.log_news(news, &found);
        flushed.resync = news.resync || untaken;
        Ok(flushed)
    }

    /// The commands for `touches`, whose ages were taken at `started`. The first carries the script's text, so that
    /// none of the following finds the script forgotten.
    fn updates(&self, touches: &[Touch], started: Moment) -> Vec<Cmd> {
        let now = self.clock.now();
        let namings = std::iter::once(Naming::Text).chain(std::iter::repeat(Naming::Hash));
        let named = touches.iter().zip(namings);
        named
            .map(|(touch, naming)| self.command(naming, SessionCall::Update, *touch, now.since(started), now))
            .collect()
    }

    /// Processes the replies to `touches`. Returns whether one of them was not accepted.
    fn read_answers(&self, touches: &[Touch], answers: &[Value], flushed: &mut Flushed) -> RedisResult<bool> {
        let mut untaken = answers.len() < touches.len();
        let mut junk = touches.iter().zip(answers).filter_map(|(touch, answer)| Some((touch.id, junk_of(answer)?)));
        if let Some((session, found)) = junk.next() {
            warn_of_junk(session, &found, 1 + junk.count());
        }
        for (touch, answer) in touches.iter().zip(answers) {
            match self.known(answer)? {
                Known::Ended(ended) => flushed.ended.push((touch.id, ended)),
                Known::Live(_) | Known::Overdue(..) => {}
                Known::Unknown => untaken = true,
            }
        }
        Ok(untaken)
    }

    fn log_news(&self, news: News, found: &ReportOutcome) {
        if found.removed > 0 {
            let junk: Vec<_> = found.junk.iter().map(|junk| String::from_utf8_lossy(junk)).collect();
            tracing::warn!(
                key = %self.replicas_key(),
                removed = found.removed,
                ?junk,
                "unexpected data in the replicas key was removed; check what else writes to this Redis"
            );
        }
        for replica in &found.struck {
            self.connections.metrics.struck_off.inc();
            tracing::warn!(
                replica,
                seconds = self.settings.replica_grace.as_secs(),
                "a replica was silent for replica_grace and is struck off; activity that it has not reported does \
                not count"
            );
        }
        if news.stepped {
            self.connections.metrics.clock_steps.inc();
            tracing::warn!(
                "the store's clock was stepped, or another server took over; for one idle timeout, a session ends \
                only after it was seen idle that long"
            );
        }
        if news.company && self.settings.decides_alone {
            tracing::warn!(
                "replicas = 1 is configured, but another replica reports; while it does, no session will expire in \
                an outage"
            );
        }
    }

    /// Sets the mark alone.
    async fn set_mark(&self, synced_to: Moment, mode: Mode) -> RedisResult<()> {
        let (sent, connection) = (self.clock.now(), self.connections.number());
        let answer = self.connections.run(|naming| self.mark(naming, synced_to, self.clock.now(), mode.name())).await?;
        let (report, found) = report_of(&answer, sent, self.clock.now(), connection)?;
        let news = self.view.lock().receive(&report, synced_to);
        self.log_news(news, &found);
        Ok(())
    }

    /// Everything is reported, and this replica leaves: the others need not wait for it.
    pub(super) async fn leave(&self) -> RedisResult<()> {
        if self.up.load(Ordering::Acquire) {
            let synced_to = self.view.lock().synced_to;
            self.connections.run(|naming| self.mark(naming, synced_to, self.clock.now(), "left")).await?;
        }
        Ok(())
    }

    fn mark(&self, naming: Naming, synced_to: Moment, sent: Moment, mode: &str) -> Cmd {
        let view = *self.view.lock();
        let measure = view.measure(synced_to, sent);
        let prefix = &self.settings.prefix;
        let grace = milliseconds(self.settings.replica_grace);
        let mut command = self.connections.replicas.command(naming, 3);
        command.arg(self.replicas_key()).arg(format!("{prefix}:counting")).arg(self.fleet_key());
        command.arg(&self.replica).arg(mode);
        command.arg(measure.base).arg(measure.synced_to).arg(measure.sent).arg(measure.slack);
        command.arg(view.confirmed).arg(view.steps).arg(view.unreported_step);
        command.arg(grace).arg(self.max_gap).arg(self.limits.timeout);
        command.arg(u8::from(self.was_off.load(Ordering::Acquire))).arg(view.counting);
        command
    }

    fn replicas_key(&self) -> String {
        format!("{}:replicas", self.settings.prefix)
    }

    /// Returns the session as known here if some replica has not reported far enough for it to expire. So a silent
    /// replica does not make this one ask the server about each session again and again.
    pub(super) fn held_back(&self, view: &View, touch: Touch) -> Option<Live> {
        let now = view.server_now(self.clock.now())?;
        let Touch { age, source, created_age, .. } = touch;
        let idle_since = second_of(now, age);
        let over = |since: u64, limit: u64, at: u64| at.saturating_sub(since) > limit;
        let by_lifetime =
            self.limits.lifetime.is_some_and(|limit| over(second_of(now, created_age), limit, now / 1000));
        // One second more: the server's time is known only up to the message delay.
        let reported = over(idle_since, self.limits.timeout, view.watermark + 1);
        let held = over(idle_since, self.limits.timeout, now / 1000) && !reported && !by_lifetime;
        held.then_some(Live { age, source, created_age, due_in: 0 })
    }

    /// Logs once when the store goes down, and once when it is back.
    pub(super) fn note(&self, error: Option<&RedisError>) {
        self.answers.store(error.is_none_or(is_an_answer), Ordering::Release);
        let up = error.is_none();
        if self.up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        if let Some(error) = error {
            let meanwhile = if self.settings.decides_alone {
                "this replica decides alone (on_outage = \"local\")"
            } else {
                "no session will expire"
            };
            let server = self.connections.target().shown();
            if let Some(Denial { what, fix }) = denial(error) {
                tracing::error!(
                    %error,
                    server,
                    "store refuses: {what}; {fix}; {meanwhile} until it is back"
                );
            } else {
                tracing::error!(
                    %error,
                    server,
                    "store unavailable; {meanwhile} until it is back"
                );
            }
        } else {
            tracing::info!("the store is back");
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

/// A value at a session's key that idlegate did not write.
pub(super) fn junk_of(answer: &Value) -> Option<String> {
    let Value::Array(parts) = answer else { return None };
    let junk = Vec::<u8>::from_redis_value_ref(parts.get(7)?).ok().filter(|junk| !junk.is_empty())?;
    Some(String::from_utf8_lossy(&junk).into_owned())
}

pub(super) fn warn_of_junk(session: SessionId, found: &str, sessions: usize) {
    tracing::warn!(
        %session,
        found,
        sessions,
        "unexpected data in a session key was replaced; the session's idle time starts again; check what else \
        writes to this Redis"
    );
}

/// What the reply to a report contains besides the marks.
struct ReportOutcome {
    /// Replicas that were removed because they were silent.
    struck: Vec<String>,
    /// The number of fields that idlegate did not write, and the first of them.
    removed: u64,
    junk: Vec<Vec<u8>>,
    /// The fleet's mode, as stored.
    fleet: Vec<u8>,
}

fn report_of(answer: &Value, sent: Moment, received: Moment, connection: u64) -> RedisResult<(Report, ReportOutcome)> {
    type ReportReply = (u64, u64, u64, u64, u64, u8, u64, u64, Vec<String>, u64, Vec<Vec<u8>>, Vec<u8>);
    let (server, oldest, counting, stepped, steps, known, mark, others, struck, removed, junk, fleet) =
        ReportReply::from_redis_value_ref(answer)?;
    let reading = Reading { server, sent, received, connection };
    let report = Report { reading, oldest, counting, stepped, steps, known: known == 1, mark, others };
    Ok((report, ReportOutcome { struck, removed, junk, fleet }))
}
