//! The content of an audit event.

use super::{Caller, Why};
use crate::counted::counted;
use crate::metrics::Refused;
use crate::session::{EpochSeconds, Mode, SessionId};
use crate::store::Ended;
use crate::token::Carrier;
use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};

/// A decision. Its name is the `event` of the line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Decision<'a> {
    /// The app accepted a token, and a session begins.
    Start {
        /// When the session began.
        created: Option<EpochSeconds>,
    },
    /// A session ends, or would end in mode `enforce`.
    End {
        ended: &'a Ended,
        done: bool,
        /// How many connections the session has on this replica.
        connections: usize,
        /// What an `[[ignore]]` rule kept from counting in the last minute before the end.
        ignored: Option<IgnoredBefore<'a>>,
    },
    /// A dead token is refused, or would be in mode `enforce`.
    Refusal { ended: &'a Ended, done: bool, carrier: Carrier },
    /// A token is missing or unknown: what came is refused, or would be in mode `enforce`.
    Unadmitted {
        reason: Refused,
        /// The rule.
        rule: &'a str,
        done: bool,
        carrier: Carrier,
        /// How many such records were left out since the last one.
        left_out: u64,
    },
    /// The mode changes.
    Mode {
        before: Mode,
        after: Mode,
        /// The switch, or `time`.
        by: &'a str,
        /// What the switch was set to, if the mode in force did not change.
        set: Option<Mode>,
        /// How many live sessions are overdue.
        past_the_limit: usize,
    },
}

/// What an `[[ignore]]` rule kept from counting shortly before an end.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct IgnoredBefore<'a> {
    /// The rule that ignored last.
    pub(crate) rule: &'a str,
    /// How many requests and messages of the session were ignored on this replica.
    pub(crate) count: u64,
    /// When the last was.
    pub(crate) last: EpochSeconds,
}

/// The context of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecisionContext<'a> {
    pub(crate) replica: &'a str,
    pub(crate) mode: Mode,
    pub(crate) limit: EpochSeconds,
    pub(crate) lifetime: Option<EpochSeconds>,
    /// The store's time, if known.
    pub(crate) now: Option<EpochSeconds>,
    pub(crate) session: Option<SessionId>,
    pub(crate) caller: Option<&'a Caller>,
    /// The replicas that were struck off within one idle timeout before an end.
    pub(crate) struck_off: &'a [String],
}

/// The fields, in the order of the line.
#[derive(Default, Debug, Serialize)]
struct AuditEvent<'a> {
    time: String,
    event: &'static str,
    says: String,
    #[serde(flatten)]
    session: Option<Session>,
    #[serde(flatten)]
    end: Option<EndFields>,
    #[serde(flatten)]
    unadmitted: Option<UnadmittedFields<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counting: Option<EpochSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<EpochSeconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<EpochSeconds>,
    mode: &'static str,
    #[serde(flatten)]
    change: Option<ModeChange<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watermark: Option<EpochSeconds>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    struck_off: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored: Option<IgnoredBefore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    replica: &'a str,
}

#[derive(Debug, Serialize)]
struct Session {
    #[serde(rename = "session")]
    id: String,
    limit: EpochSeconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime: Option<EpochSeconds>,
}

#[derive(Debug, Serialize)]
struct EndFields {
    reason: &'static str,
    last_activity: EpochSeconds,
    source: &'static str,
    /// The idle time at its end.
    idle: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<EpochSeconds>,
}

#[derive(Debug, Serialize)]
struct UnadmittedFields<'a> {
    reason: &'static str,
    rule: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
struct ModeChange<'a> {
    before: &'static str,
    after: &'static str,
    by: &'a str,
    past_the_limit: usize,
}

/// The audit line written at `time`, in milliseconds since the epoch by this host's clock.
pub(super) fn line(decision: Decision<'_>, context: &DecisionContext<'_>, time: u64) -> String {
    let record = AuditEvent {
        time: humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(time)).to_string(),
        event: name(decision),
        says: says(decision, context),
        session: context.session.map(|session| Session {
            id: session.to_string(),
            limit: context.limit,
            lifetime: context.lifetime,
        }),
        now: context.now,
        mode: context.mode.name(),
        client: context.caller.map(Caller::client),
        route: context.caller.map(Caller::route),
        replica: context.replica,
        ..AuditEvent::default()
    };
    let record = match decision {
        Decision::Start { created } => AuditEvent { created, ..record },
        Decision::End { ended, connections, ignored, .. } => AuditEvent {
            end: Some(EndFields::of(ended, None)),
            counting: ended.counting,
            created: Some(ended.created),
            now: Some(ended.ended),
            watermark: Some(ended.watermark),
            struck_off: context.struck_off,
            ignored,
            connections: Some(connections),
            ..record
        },
        Decision::Refusal { ended, carrier, .. } => AuditEvent {
            end: Some(EndFields::of(ended, Some(ended.ended))),
            counting: ended.counting,
            created: Some(ended.created),
            carrier: Some(carrier.name()),
            ..record
        },
        Decision::Unadmitted { reason, rule, carrier, left_out, .. } => AuditEvent {
            unadmitted: Some(UnadmittedFields { reason: reason.name(), rule, left_out }),
            carrier: Some(carrier.name()),
            ..record
        },
        Decision::Mode { before, after, by, past_the_limit, .. } => AuditEvent {
            change: Some(ModeChange { before: before.name(), after: after.name(), by, past_the_limit }),
            ..record
        },
    };
    // Serializing fails only for maps whose keys are not strings. There are none here.
    serde_json::to_string(&record).unwrap_or_default()
}

impl EndFields {
    fn of(record: &Ended, ended: Option<EpochSeconds>) -> Self {
        Self {
            reason: record.reason.name(),
            last_activity: record.last_activity,
            source: record.source.name(),
            idle: record.idle(),
            ended,
        }
    }
}

fn name(decision: Decision<'_>) -> &'static str {
    match decision {
        Decision::Start { .. } => "start",
        Decision::End { ended, done, .. } => match (ended.reason.is_by_hand(), done) {
            (false, true) => "cut",
            (false, false) => "would-cut",
            (true, true) => "end",
            (true, false) => "would-end",
        },
        Decision::Refusal { done: true, .. } | Decision::Unadmitted { done: true, .. } => "refuse",
        Decision::Refusal { done: false, .. } | Decision::Unadmitted { done: false, .. } => "would-refuse",
        Decision::Mode { .. } => "mode",
    }
}

/// The sentence that explains the decision.
fn says(decision: Decision<'_>, context: &DecisionContext<'_>) -> String {
    match decision {
        Decision::Start { .. } => "the app accepted its token".to_owned(),
        Decision::End { ended, done, ignored, .. } => {
            let would = match (done, ended.reason.is_by_hand()) {
                (true, _) => "",
                (false, false) => "would be cut: ",
                (false, true) => "would be ended: ",
            };
            format!("{would}{}{}{}", why(ended, context), missing(context.struck_off), ignoring(ignored, ended.ended))
        }
        Decision::Refusal { ended, done, .. } => {
            let refused = if done { "refused" } else { "would be refused" };
            format!("{refused}, dead since {}: {}", ended.ended, why(ended, context))
        }
        Decision::Unadmitted { reason, rule, done, .. } => {
            let refused = if done { "refused" } else { "would be refused" };
            match reason {
                Refused::Unknown => format!("{refused}: the app was not seen to hand out this token of {rule}"),
                Refused::Missing | Refused::Ended => format!("{refused}: without the token that {rule} requires"),
            }
        }
        Decision::Mode { after, by, set: Some(set), .. } => format!("{after} stays: {by} was set to {set}"),
        Decision::Mode { before, after, by, past_the_limit, set: None } => {
            format!("{before} to {after} by {by}, {} past the limit", counted(past_the_limit, "session"))
        }
    }
}

/// What an end may be missing, as part of a sentence.
pub(crate) fn missing(struck_off: &[String]) -> String {
    match struck_off {
        [] => String::new(),
        names => format!("; without what clients of {} did since it last reported (struck off)", names.join(", ")),
    }
}

/// What a rule ignored shortly before an end: it may ignore too much.
fn ignoring(ignored: Option<IgnoredBefore<'_>>, ended: EpochSeconds) -> String {
    ignored.map_or(String::new(), |IgnoredBefore { rule, count, last }| {
        let ago = ended.saturating_sub(last);
        format!("; rule {rule} ignored its traffic {}, last {ago} s before the end", counted(count, "time"))
    })
}

fn why<'e>(ended: &'e Ended, context: &DecisionContext<'_>) -> Why<'e> {
    Why {
        reason: ended.reason,
        created: ended.created,
        last_activity: ended.last_activity,
        source: ended.source.name(),
        ended: ended.ended,
        counting: ended.counting,
        now: None,
        limit: context.limit,
        lifetime: context.lifetime,
    }
}
