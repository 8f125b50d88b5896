//! JSON requests and responses of the `[admin]` listener, shared by the listener and the operator commands.

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
    /// Confirms that sessions may be cut at once.
    #[serde(default)]
    pub(crate) yes: bool,
}

/// The beginning of a watch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchRequest {
    /// A duration, like `15m`.
    #[serde(rename = "for")]
    pub(crate) lasting: String,
}

/// What an operator should know before anything else.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Warnings {
    /// The rules whose token the app changes while its user stays logged in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changing: Vec<String>,
    /// The rules that go on admitting unknown tokens, because the app was not seen to issue most of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unissued: Vec<String>,
    /// Set if no token rule has matched after enough requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) no_match: Option<NoMatch>,
    /// Since when no session expires because the store is unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_since: Option<EpochSeconds>,
}

/// The mode in force and the switches.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Modes {
    #[serde(flatten)]
    pub(crate) warnings: Warnings,
    /// The kind of store. Only `redis` has a fleet switch.
    #[serde(default)]
    pub(crate) store: Option<String>,
    /// The mode in force.
    pub(crate) mode: String,
    pub(crate) switches: BTreeMap<String, SwitchSetting>,
    pub(crate) past_the_limit: usize,
    pub(crate) replica: String,
}

/// The setting of a switch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SwitchSetting {
    pub(crate) mode: String,
    pub(crate) until: Option<Until>,
}

/// When a temporary setting ends, and the mode it then reverts to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Until {
    pub(crate) seconds_left: u64,
    pub(crate) then: String,
}

/// The progress of a drain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Drained {
    pub(crate) phase: String,
    pub(crate) tunnels: usize,
    pub(crate) requests: usize,
    pub(crate) seconds_left: u64,
    pub(crate) replica: String,
}

/// A session, with values computed from its times.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OneSession {
    #[serde(flatten)]
    pub(crate) view: SessionView,
    pub(crate) now: EpochSeconds,
    pub(crate) idle: u64,
    pub(crate) limit: u64,
    /// Only for a live session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_left: Option<u64>,
    /// What ends it then: `idle` or `lifetime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) left_until: Option<String>,
    pub(crate) says: String,
}

/// The response for one session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Explained {
    #[serde(flatten)]
    pub(crate) session: OneSession,
    /// The mode in force.
    pub(crate) mode: String,
    /// How many replicas did not respond. Their data is missing.
    pub(crate) silent: u64,
    /// It ended on this replica only. The end is sent to the others when the store answers.
    #[serde(default)]
    pub(crate) unsynced: bool,
}

/// The response for a list of sessions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ManySessions {
    #[serde(flatten)]
    pub(crate) warnings: Warnings,
    pub(crate) now: EpochSeconds,
    pub(crate) mode: String,
    pub(crate) silent: u64,
    pub(crate) sessions: Vec<OneSession>,
}

/// An error response.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) fix: String,
    /// How many sessions the change would cut, if it was refused for that reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) would_cut: Option<usize>,
    /// How many replicas did not report theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) silent: Option<u64>,
}
