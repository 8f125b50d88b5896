//! One call of the exchange script: builds the command and parses the reply.

use super::RedisSettings;
use super::address::Address;
use super::answer::Answer;
use super::connection::{Connections, Naming};
use super::view::View;
use crate::clock::{Clock, Moment, milliseconds};
use crate::replica;
use crate::session::{EpochSeconds, Limits, Reason, SessionId, SessionIds, Source, Times, Verdict};
use crate::store::{Due, Ended, Issued, Known, Live, MAX_GAP, MAX_ISSUED, StoreError, Touch, UnsyncedEnd};
use ::redis::{FromRedisValue, RedisResult, Value};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many milliseconds before the report of the only replica deadlines fall due, so that they are in time for it even if
/// clock readings differ a little.
const BEFORE_THE_REPORT: u64 = 10;

/// What a call is, besides its sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It carries the mark.
    Report,
    /// It carries activity that a later report covers, or asks for verdicts.
    Part,
    /// It is about one session, and no report.
    Aside,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Part => "part",
            Self::Aside => "aside",
        }
    }
}

/// What a call does for one session.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Lookup(SessionId),
    /// Keep a token that the app has handed out.
    Issue(Issued),
    /// Merge the activity of a new session.
    Begin(Touch),
    /// Merge activity.
    Update(Touch),
    /// Merge activity, then compare and end.
    Ask(Due),
    End(SessionId, Reason),
    /// Record an end that was decided here.
    Ended(UnsyncedEnd),
}

impl Step {
    pub(super) fn of_activity(touch: Touch) -> Self {
        if touch.begins { Self::Begin(touch) } else { Self::Update(touch) }
    }

    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Lookup(id) | Self::End(id, _) => *id,
            Self::Issue(issued) => issued.id,
            Self::Begin(touch) | Self::Update(touch) => touch.id,
            Self::Ask(due) => due.touch.id,
            Self::Ended(end) => end.touch.id,
        }
    }

    /// Its arguments, after the session's id. The ages were taken `waited` milliseconds ago.
    fn arguments(&self, waited: u64) -> (&'static str, u64, u64, &'static str, &'static str, u64) {
        let (op, touch, reason, extra) = match *self {
            Self::Lookup(_) => ("lookup", None, "", 0),
            Self::Issue(issued) => ("issue", None, "", issued.lasts),
            Self::Begin(touch) => ("begin", Some(touch), "", 0),
            Self::Update(touch) => ("update", Some(touch), "", 0),
            Self::Ask(Due { touch, seen_idle }) => ("ask", Some(touch), "", seen_idle + waited),
            Self::End(_, reason) => ("end", None, reason.name(), 0),
            Self::Ended(UnsyncedEnd { touch, reason, age }) => ("ended", Some(touch), reason.name(), age + waited),
        };
        let source = touch.map_or(Source::Request, |touch| touch.source).name();
        let [age, created] = [touch.map(|touch| touch.age), touch.map(|touch| touch.created_age)];
        (op, age.map_or(0, |age| age + waited), created.map_or(0, |age| age + waited), source, reason, extra)
    }
}

/// A call: what it carries, and for which mode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) kind: Kind,
    pub(super) steps: &'a [Step],
    /// When the ages of `steps` were taken.
    pub(super) taken_at: Moment,
    pub(super) synced_to: Moment,
    /// The generation for which this replica has written back everything.
    pub(super) synced: u64,
    pub(super) mode: &'a str,
}

/// The server, as this replica calls it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) connections: Connections,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) settings: RedisSettings,
    /// The name of this replica's mark.
    pub(super) replica: String,
    /// When this replica reports, in milliseconds after the turn of a second.
    pub(super) report_phase: u64,
    /// [`SCHEMA`]; another one in tests.
    pub(super) schema: u64,
    /// How session ids are made: other ids, another number.
    pub(super) ids: u64,
    pub(super) view: Mutex<View>,
    /// Whether this replica was `off` since it last reported in another mode.
    pub(super) was_off: AtomicBool,
    /// Whether the fleet's mode key held an invalid value.
    pub(super) fleet_is_junk: AtomicBool,
    /// [`MAX_GAP`]; shorter in tests.
    pub(super) max_gap: u64,
}

/// Replicas report within this many milliseconds after the turn of a second, each at its own time, so that the server does
/// not get all reports at once.
const REPORTS_WITHIN: u64 = 220;

/// The schema of the data. A version with another one must be able to run beside this one.
const SCHEMA: u64 = 2;

/// When the replica of this name reports, in milliseconds after the turn of a second.
fn phase_of(replica: &str) -> u64 {
    let hash = replica.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    20 + hash % (REPORTS_WITHIN - 20)
}

impl Server {
    pub(super) fn new(mut settings: RedisSettings, limits: Limits, clock: Clock) -> Result<Self, StoreError> {
        if matches!(Address::of(settings.url.reveal()), Ok(Address::Cluster(_))) {
            // A hash tag: the text in braces alone decides the slot, so all keys share one.
            settings.prefix = format!("{{{}}}", settings.prefix);
        }
        let replica = replica::new_name();
        let [was_off, fleet_is_junk] = [false, false].map(AtomicBool::new);
        Ok(Self {
            connections: Connections::new(&settings)?,
            limits,
            clock,
            settings,
            report_phase: phase_of(&replica),
            replica,
            schema: SCHEMA,
            ids: SessionIds::default().fingerprint(),
            view: Mutex::new(View::new()),
            was_off,
            fleet_is_junk,
            max_gap: MAX_GAP,
        })
    }

    pub(super) fn named(self, replica: String) -> Self {
        Self { report_phase: phase_of(&replica), replica, ..self }
    }

    /// The key of a session's record.
    pub(super) fn key(&self, id: SessionId) -> String {
        format!("{}:session:{id}", self.settings.prefix)
    }

    /// Sends a call. If the server has forgotten the script, it is sent again with new ages.
    pub(super) async fn call(&self, call: Call<'_>) -> RedisResult<Answer> {
        let (sent, connection) = (self.clock.now(), self.connections.number());
        let reply = self.connections.run(|naming| self.command(naming, call)).await?;
        let answer = Answer::of(reply, sent, self.clock.now(), connection)?;
        let mut view = self.view.lock();
        view.confirmed = view.confirmed.max(answer.call);
        Ok(answer)
    }

    fn command(&self, naming: Naming, call: Call<'_>) -> ::redis::Cmd {
        let now = self.clock.now();
        let (view, number) = {
            let mut view = self.view.lock();
            view.calls += 1;
            (*view, view.calls)
        };
        let measure = view.measure(call.synced_to, now);
        let prefix = &self.settings.prefix;
        let mut command = self.connections.exchange.command(naming, 5 + call.steps.len());
        command.arg(self.replicas_key()).arg(self.fleet_key());
        command.arg(self.ends_key()).arg(format!("{prefix}:recent_ends")).arg(format!("{prefix}:issued"));
        for step in call.steps {
            command.arg(self.key(step.session()));
        }
        command.arg(&self.replica).arg(call.mode).arg(call.kind.name());
        command.arg(number).arg(view.confirmed).arg(call.synced).arg(view.generation);
        command.arg(measure.base).arg(measure.synced_to).arg(measure.sent).arg(measure.slack);
        command.arg(view.unreported_step).arg(view.drift.fast);
        command.arg(milliseconds(self.settings.replica_grace)).arg(self.max_gap);
        let Limits { timeout, lifetime, retention } = self.limits;
        command.arg(timeout).arg(lifetime.map_or(-1, u64::cast_signed)).arg(retention);
        command.arg(self.limits.live_record_kept());
        command.arg(u8::from(self.was_off.load(Ordering::Acquire))).arg(view.counting).arg(view.others);
        command.arg(view.cursor).arg(self.connections.channel()).arg(self.schema);
        command.arg(self.ids).arg(MAX_ISSUED);
        let waited = now.since(call.taken_at);
        for step in call.steps {
            let (op, age, created_age, source, reason, extra) = step.arguments(waited);
            command.arg(step.session().to_string()).arg(op);
            command.arg(age).arg(created_age).arg(source).arg(reason).arg(extra);
        }
        command
    }

    /// What a call's reply says about one session.
    pub(super) fn known(&self, answer: &Answer, session: &Value) -> RedisResult<Known> {
        let Value::Array(parts) = session else { return Ok(Known::Unknown) };
        if parts.len() < 8 {
            return Ok(if parts.len() == 1 { Known::Issued } else { Known::Unknown });
        }
        let number = |at: usize| parts.get(at).map_or(Ok(0), u64::from_redis_value_ref);
        let text = |at: usize| parts.get(at).map_or(Ok(String::new()), String::from_redis_value_ref);
        let (last_activity, created, ended, would_end) = (number(0)?, number(2)?, number(3)?, number(5)?);
        let source = Source::from_name(&text(1)?).unwrap_or(Source::Request);
        let reason = Reason::from_name(&text(4)?).unwrap_or(Reason::Idle);
        let counting = Some(number(7)?).filter(|counting| *counting > 0);
        let (watermark, remembered_for) = (0, 0);
        let record =
            |ended| Ended { last_activity, source, created, ended, reason, counting, watermark, remembered_for };
        if ended > 0 {
            return Ok(Known::Ended(self.remembered(answer, record(ended))));
        }
        let now = answer.reading.server;
        let times = Times { created, last_activity, counting: answer.counting };
        let due_in = match self.limits.judge(times, now / 1000) {
            // Nothing is decided before the first verdict after the session can expire.
            Verdict::Live { due } => (due.saturating_mul(1000) + self.verdict_phase(answer.others)).saturating_sub(now),
            Verdict::Over(_) => 0,
        };
        let age_of = |second: EpochSeconds| now.saturating_sub(second.saturating_mul(1000));
        let live = Live { age: age_of(last_activity), source, created_age: age_of(created), due_in };
        Ok(if would_end == 0 {
            Known::Live(live)
        } else {
            Known::Overdue(live, Ended { remembered_for: 0, ..self.remembered(answer, record(would_end)) })
        })
    }

    /// An end with what depends on the time of the answer.
    fn remembered(&self, answer: &Answer, record: Ended) -> Ended {
        let retention = self.limits.retention.saturating_mul(1000);
        let remembered = record.ended.saturating_mul(1000).saturating_add(retention);
        // A time in the future does not extend the retention.
        let remembered_for = remembered.saturating_sub(answer.reading.server).min(retention);
        Ended { watermark: answer.oldest / 1000, remembered_for, ..record }
    }

    /// A call that repeats the confirmed mark.
    pub(super) fn repeating<'a>(&self, kind: Kind, steps: &'a [Step], mode: &'a str) -> Call<'a> {
        let view = self.view.lock();
        let (synced_to, synced) = (view.synced_to, view.generation);
        Call { kind, steps, taken_at: self.clock.now(), synced_to, synced, mode }
    }

    /// How long after the turn of a second deadlines fall due: when every replica has reported, or with the report of the
    /// only one.
    pub(super) fn verdict_phase(&self, others: u64) -> u64 {
        if others > 0 { super::VERDICT_PHASE } else { self.report_phase.saturating_sub(BEFORE_THE_REPORT) }
    }

    /// How long until the next verdict, in milliseconds.
    pub(super) fn next_verdict(&self, view: &View) -> u64 {
        let Some(now) = view.server_now(self.clock.now()) else { return 1_000 };
        let phase = self.verdict_phase(view.others);
        let today = now / 1000 * 1000 + phase;
        if today > now { today - now } else { today + 1_000 - now }
    }

    pub(super) fn ends_key(&self) -> String {
        format!("{}:ends", self.settings.prefix)
    }

    pub(super) fn replicas_key(&self) -> String {
        format!("{}:replicas", self.settings.prefix)
    }
}
