//! The exchange, about once a second: the activity and ends of this replica, and then its mark; back come ends of other
//! replicas, and verdicts. Also handles its failure.

use super::answer::Answer;
use super::call::{Call, Kind, Step};
use super::connect::RESPONSE_TIMEOUT;
use super::connection::is_dropped;
use super::denial::{Denial, denial};
use super::restarts::Restart;
use super::view::{News, View};
use super::{LATE, RedisStore, unavailable};
use crate::clock::Moment;
use crate::session::{Mode, SessionId};
use crate::store::{Due, Issued, Known, Live, Reply, Report, StoreError, Touch, second_of};
use ::redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use std::sync::atomic::Ordering;

/// The most sessions in one call. The server does nothing else meanwhile: 200 take it some 2 ms.
const MAX_STEPS: usize = 200;

/// How soon a session is asked about again, in milliseconds, if its timeout has passed but the watermark has not reached it.
const ASK_AGAIN_AFTER: u64 = 250;

/// The same, at most, if this replica has not yet counted the timeout by its own clock.
const MAX_ASK_AGAIN_AFTER: u64 = 5_000;

/// How far the watermark may have moved since the last reply, in seconds, while every replica reports.
const SINCE_THE_LAST_REPLY: u64 = 2;

/// What one report sends, in the order of the calls.
struct Batch {
    steps: Vec<Step>,
    /// How many of `steps` are activity, and how many after them are ends. The rest asks for verdicts.
    activity: usize,
    ends: usize,
}

impl Batch {
    /// The steps before the call that carries the mark, those with it, and those after it. Activity and ends never come
    /// after it.
    fn around_the_mark(&self) -> (&[Step], &[Step], &[Step]) {
        let must_precede = self.activity + self.ends;
        let before = must_precede.saturating_sub(1) / MAX_STEPS * MAX_STEPS;
        let (before, others) = self.steps.split_at(before);
        let (with_mark, after) = others.split_at(others.len().min(MAX_STEPS));
        (before, with_mark, after)
    }
}

impl RedisStore {
    /// Reports all of `report`, whose ages were taken at `taken_at`. What exceeds one call is sent before the call that carries
    /// the mark, and each call must be acknowledged before the next. Verdicts are asked for with the mark or after it.
    pub(super) async fn report(&self, report: &Report<'_>, taken_at: Moment, reply: &mut Reply) -> RedisResult<()> {
        if report.mode == Mode::Off {
            self.server.was_off.store(true, Ordering::Release);
        }
        self.measure_first(report, taken_at).await?;
        let mut part = Call { taken_at, ..self.server.repeating(Kind::Part, &[], report.mode.name()) };
        if reply.resync {
            // The generation is known since the first attempt, and not yet written back.
            part.synced = 0;
        }
        let connection = self.server.connections.number();
        let batch = self.batch(report, reply);
        let (before, with_mark, after) = batch.around_the_mark();
        let is_taken = self.send(&batch, before, part, reply).await?;
        let mut call = Call { kind: Kind::Report, steps: with_mark, ..part };
        if !is_taken {
            call.synced = 0;
        } else if self.server.connections.number() == connection {
            // Otherwise what is before the mark went to another server.
            call.synced_to = report.synced_to;
        }
        let answer = self.server.call(call).await?;
        if report.mode != Mode::Off && !answer.late {
            self.server.was_off.store(false, Ordering::Release);
        }
        reply.resync |= self.receive(&answer, call).resync;
        reply.fleet = self.server.fleet_of(&answer.fleet);
        if answer.late || !is_taken {
            // Nothing of it was accepted: all of it is sent again.
            reply.resync = true;
            return Ok(());
        }
        self.take(&batch, &answer, with_mark, reply)?;
        let mut more = answer.more;
        while more {
            let call = Call { steps: &[], taken_at: self.server.clock.now(), ..call };
            let answer = self.server.call(call).await?;
            reply.resync |= self.receive(&answer, call).resync;
            self.take_news(&answer, reply)?;
            more = answer.more;
        }
        self.send(&batch, after, part, reply).await.map(drop)
    }

    /// Before the first report, only measures the server's time, in which a mark is made.
    async fn measure_first(&self, report: &Report<'_>, taken_at: Moment) -> RedisResult<()> {
        let mode = report.mode.name();
        let call = Call { kind: Kind::Report, steps: &[], taken_at, synced_to: report.synced_to, synced: 0, mode };
        if self.server.view.lock().server_now(taken_at).is_none() {
            let answer = self.server.call(call).await?;
            self.receive(&answer, call);
        }
        Ok(())
    }

    /// Sends steps without the mark. Returns whether all were accepted; if not, the report shows whether the server's clock
    /// was stepped.
    async fn send(&self, batch: &Batch, steps: &[Step], part: Call<'_>, reply: &mut Reply) -> RedisResult<bool> {
        for steps in steps.chunks(MAX_STEPS) {
            let answer = self.server.call(Call { steps, ..part }).await?;
            if answer.late {
                return Ok(false);
            }
            self.take(batch, &answer, steps, reply)?;
        }
        Ok(true)
    }

    fn batch(&self, report: &Report<'_>, reply: &mut Reply) -> Batch {
        let view = *self.server.view.lock();
        let mut steps: Vec<Step> = report.activity.iter().copied().map(Step::of_activity).collect();
        steps.extend(report.ends.iter().copied().map(Step::Ended));
        for due in report.due {
            match self.held_back(&view, due.touch) {
                Some(held) => {
                    self.note_waiting();
                    reply.verdicts.push((due.touch.id, Known::Live(held)));
                }
                None => steps.push(Step::Ask(*due)),
            }
        }
        Batch { steps, activity: report.activity.len(), ends: report.ends.len() }
    }

    /// Processes the answers to `steps`, the next ones of `batch`.
    fn take(&self, batch: &Batch, answer: &Answer, steps: &[Step], reply: &mut Reply) -> RedisResult<()> {
        if answer.sessions.len() < steps.len() {
            return Err((ErrorKind::UnexpectedReturnType, "the script answered for too few sessions").into());
        }
        let answered = || steps.iter().zip(&answer.sessions);
        let mut junk = answered().filter_map(|(step, session)| Some((step.session(), junk_of(session)?)));
        if let Some((session, found)) = junk.next() {
            warn_of_junk(session, &found, 1 + junk.count());
        }
        for (step, session) in answered() {
            let known = self.server.known(answer, session)?;
            match (step, known) {
                (Step::Ask(due), known) => reply.verdicts.push((due.touch.id, self.later(known, *due))),
                (Step::Ended(_), _) => reply.ends += 1,
                (_, known) => {
                    reply.activity += 1;
                    if let Known::Ended(ended) = known {
                        reply.ended.push((step.session(), ended));
                    }
                }
            }
        }
        debug_assert!(reply.activity <= batch.activity && reply.ends <= batch.ends);
        self.take_news(answer, reply)
    }

    /// A session that could expire but for other replicas, or for the time that this one has counted by its own clock, is
    /// asked about again soon.
    fn later(&self, known: Known, due: Due) -> Known {
        match known {
            Known::Live(live) if live.due_in == 0 => {
                let uncounted = (self.server.limits.timeout.saturating_mul(1000) + 1).saturating_sub(due.touch.age);
                if uncounted == 0 {
                    self.note_waiting();
                }
                Known::Live(Live { due_in: uncounted.clamp(ASK_AGAIN_AFTER, MAX_ASK_AGAIN_AFTER), ..live })
            }
            known => known,
        }
    }

    /// Ends that any replica has decided since the last reply.
    fn take_news(&self, answer: &Answer, reply: &mut Reply) -> RedisResult<()> {
        for pair in answer.news.chunks_exact(2) {
            if let [id, session] = pair
                && let Some(id) = SessionId::from_hex(&String::from_redis_value_ref(id)?)
                && let Known::Ended(ended) = self.server.known(answer, session)?
            {
                reply.ended.push((id, ended));
            }
        }
        Ok(())
    }

    /// Processes what a report's answer says of the fleet and of the clock.
    fn receive(&self, answer: &Answer, call: Call<'_>) -> News {
        let (news, drift) = {
            let mut view = self.server.view.lock();
            (view.receive(answer, call.synced_to, self.server.limits.timeout), view.drift.ratio())
        };
        if second_of(answer.reading.server, LATE) <= answer.oldest / 1000 {
            *self.waiting.lock() = None;
        }
        self.gone.lock().clone_from(&answer.gone);
        self.server.connections.metrics.clock_drift.set(drift);
        self.log_news(news, answer);
        news
    }

    fn log_news(&self, news: News, answer: &Answer) {
        if answer.removed > 0 {
            let junk: Vec<_> = answer.junk.iter().map(|junk| String::from_utf8_lossy(junk)).collect();
            tracing::warn!(
                key = %self.server.replicas_key(),
                removed = answer.removed,
                ?junk,
                "unexpected data in the replicas key was removed; check what else writes to this Redis"
            );
        }
        for replica in &answer.struck {
            self.server.connections.metrics.struck_off.inc();
            tracing::warn!(
                replica,
                seconds = self.server.settings.replica_grace.as_secs(),
                "a replica was silent for replica_grace and is struck off; activity that it has not reported does \
                not count"
            );
        }
        if news.stepped {
            self.server.connections.metrics.clock_steps.inc();
            tracing::warn!(
                "the store's clock was stepped, or another server took over; for one idle timeout, a session ends \
                only after it was seen idle that long"
            );
        }
        if let Some(ppm) = news.drifts {
            tracing::warn!(
                ppm,
                "the store's clock runs at another rate than this replica's; sessions are not cut early by it, but may \
                end later; check NTP on the store's host and on this one"
            );
        }
        if let Some(restart) = news.restart {
            self.server.connections.metrics.restarted(restart == Restart::Again);
        }
        match news.restart {
            Some(Restart::Later) => {
                tracing::info!("idle time starts again for every session; no replica was counting, or one was off");
            }
            Some(Restart::Again) => {
                tracing::warn!(
                    "idle time starts again for every session, for the second time within one idle timeout; while this \
                    goes on, no session expires; check whether replicas or Redis stop, or a replica is switched off"
                );
            }
            None => {}
        }
        if news.company && self.server.settings.decides_alone {
            tracing::warn!(
                "replicas = 1 is configured, but another replica reports; while it does, no session will expire in \
                an outage"
            );
        }
    }

    /// Everything is reported, and this replica leaves: the others need not wait for it.
    pub(super) async fn leave(&self) -> RedisResult<()> {
        if self.up.load(Ordering::Acquire) {
            self.server.call(self.server.repeating(Kind::Report, &[], "left")).await?;
        }
        Ok(())
    }

    /// Runs one step for one session, at once.
    pub(super) async fn aside(&self, step: Step, mode: Mode) -> Result<Known, StoreError> {
        let is_lookup = matches!(step, Step::Lookup(_));
        // A server that refuses writes can still look up dead tokens.
        let answers = if is_lookup { &self.answers } else { &self.up };
        if !answers.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("it did not answer the last report".to_owned()));
        }
        let steps = [step];
        let call = self.server.repeating(Kind::Aside, &steps, mode.name());
        let calling = async {
            match self.server.call(call).await {
                // Once more on a new connection: it makes no difference whether the first call arrived.
                Err(error) if is_dropped(&error) => self.server.call(call).await,
                answer => answer,
            }
        };
        let answer = tokio::time::timeout(RESPONSE_TIMEOUT, calling).await;
        let answer = answer.map_err(|_| StoreError::Unavailable(format!("no answer within {RESPONSE_TIMEOUT:?}")))?;
        let answer = answer.map_err(|error| unavailable(&error))?;
        if answer.late && !is_lookup {
            return Err(StoreError::Unavailable("the call arrived too late and was not accepted".to_owned()));
        }
        let session = answer.sessions.first().unwrap_or(&Value::Nil);
        if let (false, Some(junk)) = (is_lookup, junk_of(session)) {
            warn_of_junk(step.session(), &junk, 1);
        }
        let known = self.server.known(&answer, session).map_err(|error| unavailable(&error))?;
        if is_lookup && known == Known::Unknown && !answer.complete && self.has_reported() {
            return Err(StoreError::Recovering);
        }
        Ok(known)
    }

    /// Keeps tokens that the app has handed out.
    pub(super) async fn hand_out(&self, issued: &[Issued]) -> Result<(), StoreError> {
        for issued in issued.chunks(MAX_STEPS) {
            if !self.up.load(Ordering::Acquire) {
                return Err(StoreError::Unavailable("it did not answer the last report".to_owned()));
            }
            let steps: Vec<_> = issued.iter().copied().map(Step::Issue).collect();
            let call = self.server.call(self.server.repeating(Kind::Aside, &steps, Mode::Enforce.name()));
            let answer = tokio::time::timeout(RESPONSE_TIMEOUT, call).await;
            let answer =
                answer.map_err(|_| StoreError::Unavailable(format!("no answer within {RESPONSE_TIMEOUT:?}")))?;
            if answer.map_err(|error| unavailable(&error))?.late {
                return Err(StoreError::Unavailable("the call arrived too late and was not accepted".to_owned()));
            }
        }
        Ok(())
    }

    /// Whether this replica has ever reported. Before that, it cannot tell what the server may have lost.
    fn has_reported(&self) -> bool {
        self.server.view.lock().generation > 0
    }

    /// Returns the session as known here if some replica is too far behind for it to expire. So a silent replica does not
    /// make this one ask the server about each session again and again.
    pub(super) fn held_back(&self, view: &View, touch: Touch) -> Option<Live> {
        let now = view.server_now(self.server.clock.now()).filter(|_| view.others > 0)?;
        let Touch { age, source, created_age, .. } = touch;
        let (limits, times) = (&self.server.limits, touch.times(now, 0));
        let reported = limits.is_idle(times, view.watermark + SINCE_THE_LAST_REPLY);
        let held = limits.is_idle(times, now / 1000) && !reported && !limits.is_old(times, now / 1000);
        held.then(|| Live { age, source, created_age, due_in: self.server.next_verdict(view) })
    }

    /// Logs once when the store goes down, and once when it is back.
    pub(super) fn note(&self, error: Option<&RedisError>) {
        self.answers.store(error.is_none_or(is_an_answer), Ordering::Release);
        let up = error.is_none();
        if self.up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        if let Some(error) = error {
            let meanwhile = if self.server.settings.decides_alone {
                "this replica decides alone (on_outage = \"local\")"
            } else {
                "no session will expire"
            };
            let server = self.server.connections.target().shown();
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
fn junk_of(session: &Value) -> Option<String> {
    let Value::Array(parts) = session else { return None };
    let Value::BulkString(junk) = parts.get(6)? else { return None };
    Some(String::from_utf8_lossy(junk).into_owned()).filter(|junk| !junk.is_empty())
}

fn warn_of_junk(session: SessionId, found: &str, sessions: usize) {
    tracing::warn!(
        %session,
        found,
        sessions,
        "unexpected data in a session key was replaced; the session's idle time starts again; check what else \
        writes to this Redis"
    );
}
