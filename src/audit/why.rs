//! Why a session ended, as one sentence for audit events, `explain` and the page.

use crate::counted::when;
use crate::session::{EpochSeconds, Reason, idle_at};
use std::fmt;

/// The arithmetic of an end. A limit is named only if it was exceeded, because the session may have ended under an
/// older limit than the current one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Why<'a> {
    pub(crate) reason: Reason,
    pub(crate) created: EpochSeconds,
    pub(crate) last_activity: EpochSeconds,
    pub(crate) source: &'a str,
    pub(crate) ended: EpochSeconds,
    /// When unbroken counting began, if that is later than the last activity.
    pub(crate) counting: Option<EpochSeconds>,
    pub(crate) limit: EpochSeconds,
    pub(crate) lifetime: Option<EpochSeconds>,
    /// The current second, for output to people. Audit events use epoch seconds.
    pub(crate) now: Option<EpochSeconds>,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = idle_at(self.ended, self.last_activity, self.counting);
        let age = self.ended.saturating_sub(self.created);
        let at = |second: EpochSeconds| self.now.map_or_else(|| second.to_string(), |now| when(second, now));
        let more_than = |limit: Option<EpochSeconds>, seconds: u64| {
            limit.filter(|limit| seconds > *limit).map(|limit| format!(" > {limit} s")).unwrap_or_default()
        };
        match self.reason {
            Reason::Idle => write!(f, "idle {idle} s{}", more_than(Some(self.limit), idle)),
            Reason::Lifetime => write!(f, "{age} s old{}, idle {idle} s", more_than(self.lifetime, age)),
            Reason::Logout => write!(f, "its user logged out, idle {idle} s"),
            Reason::Operator => write!(f, "an operator ended it, idle {idle} s"),
        }?;
        if let Some(counting) = self.counting {
            write!(f, ", counted since {}", at(counting))?;
        }
        write!(f, ", last activity {} by {}", at(self.last_activity), self.source)
    }
}
