//! What the `[admin]` listener is sent and answers, in JSON: one form of it for the listener and for the commands that ask.

use crate::registry::SessionView;
use crate::session::EpochSeconds;
use crate::unmatched::NoMatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change of the mode.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModeRequest {
    pub(crate) mode: String,
    /// A duration, like `30m`.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub(crate) lasting: Option<String>,
    #[serde(default)]
    pub(crate) fleet: bool,
    /// The caller confirms that sessions may be cut.
    #[serde(default)]
    pub(crate) yes: bool,
}

/// How the switches stand.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Modes {
    /// The rules whose token the app changes while its user stays logged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changing: Vec<String>,
    /// That no rule has matched, after enough requests to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_match: Option<NoMatch>,
    /// Since when no session ends because the store is out, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_since: Option<EpochSeconds>,
    /// The kind of the store: with another than `redis` there is no switch of a fleet.
    #[serde(default)]
    pub(crate) store: Option<String>,
    /// The mode in force.
    pub(crate) mode: String,
    pub(crate) switches: BTreeMap<String, SwitchSetting>,
    pub(crate) past_the_limit: usize,
    pub(crate) replica: String,
}

/// How a switch stands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SwitchSetting {
    pub(crate) mode: String,
    pub(crate) until: Option<Until>,
}

/// For how long, and where it returns to then.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Until {
    pub(crate) seconds_left: u64,
    pub(crate) then: String,
}

/// How a drain stands.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drained {
    pub(crate) phase: String,
    pub(crate) tunnels: usize,
    pub(crate) requests: usize,
    pub(crate) seconds_left: u64,
    pub(crate) replica: String,
}

/// A session, with the values computed from its view.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OneSession {
    #[serde(flatten)]
    pub(crate) view: SessionView,
    pub(crate) now: EpochSeconds,
    pub(crate) idle: u64,
    pub(crate) limit: u64,
    /// Of a live one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_left: Option<u64>,
    /// What ends it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_until: Option<String>,
    pub(crate) says: String,
}

/// The answer about one session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explained {
    #[serde(flatten)]
    pub(crate) session: OneSession,
    /// The mode in force.
    pub(crate) mode: String,
    /// How many replicas did not answer: what they know is missing.
    pub(crate) silent: u64,
    /// It has ended on this replica only: the others learn of it when the store answers.
    #[serde(default)]
    pub(crate) unsynced: bool,
}

/// The answer about many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ManySessions {
    /// The rules whose token the app changes while its user stays logged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changing: Vec<String>,
    /// That no rule has matched, after enough requests to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_match: Option<NoMatch>,
    /// Since when no session ends because the store is out, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_since: Option<EpochSeconds>,
    pub(crate) now: EpochSeconds,
    pub(crate) mode: String,
    pub(crate) silent: u64,
    pub(crate) sessions: Vec<OneSession>,
}

/// Why it is not done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) fix: String,
    /// How many sessions the change would cut, if it was refused for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would_cut: Option<usize>,
    /// How many replicas did not report how many of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silent: Option<u64>,
}
