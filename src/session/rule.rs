//! The rule: when a session expires.

use std::fmt;

/// How long the record of a live session is kept past its timeout, in seconds, if the retention is shorter.
const MIN_LIVE_MARGIN: u64 = 3600;

/// Whole seconds since 1970-01-01T00:00:00Z. No timezone is involved.
pub type EpochSeconds = u64;

/// `[idle]`: how long a session may last, in whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `timeout`: a session expires when it has been idle for more than this many seconds. At least 1.
    pub timeout: u64,
    /// `lifetime`: a session expires when it began more than this many seconds ago. `None` for no limit.
    pub lifetime: Option<u64>,
    /// `retention`: how long an ended session is remembered. Must be longer than the app would accept its token.
    pub retention: u64,
}

/// The start of unbroken counting, if idle time at the second `at` counts from there: that is, if it is later than the
/// last activity, and not later than `at`.
#[must_use]
pub fn counts_from(counting: EpochSeconds, last_activity: EpochSeconds, at: EpochSeconds) -> Option<EpochSeconds> {
    (last_activity < counting && counting <= at).then_some(counting)
}

/// The idle time of a session, in seconds, at the second `at`. Everything that shows an idle time uses this function.
#[must_use]
pub fn idle_at(at: EpochSeconds, last_activity: EpochSeconds, counting: Option<EpochSeconds>) -> u64 {
    at.saturating_sub(last_activity.max(counting.unwrap_or_default()))
}

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It was idle for longer than the idle timeout.
    Idle,
    /// It was older than the max lifetime.
    Lifetime,
    /// The user logged out.
    Logout,
    /// An operator ended it.
    Operator,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Lifetime, Self::Logout, Self::Operator];

    /// The reason with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The name in logs and in the store.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Lifetime => "lifetime",
            Self::Logout => "logout",
            Self::Operator => "operator",
        }
    }

    /// Whether a person ended the session, and not the rule. Such an end holds in `observe` too.
    #[must_use]
    pub fn is_by_hand(self) -> bool {
        matches!(self, Self::Logout | Self::Operator)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rule's verdict on a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has not expired. Without more activity it expires at `due`.
    Live {
        /// The first second in which it can have expired.
        due: EpochSeconds,
    },
    /// It has expired, for this reason.
    Over(Reason),
}

impl Limits {
    /// How many seconds after its last activity the record of a live session is kept. At least an hour past the timeout,
    /// however short the retention: a verdict may be late, and a record that is gone by then would start again.
    #[must_use]
    pub fn live_record_kept(&self) -> u64 {
        self.timeout.saturating_add(self.retention.max(MIN_LIVE_MARGIN))
    }

    /// Judges a session: it has expired when `now - last_activity > timeout` or `now - created > lifetime`.
    ///
    /// Stamps and `now` are both floored to the second. So a session never expires before more than `timeout` seconds
    /// have really passed: the difference can only be late, by less than a second.
    #[must_use]
    pub fn judge(&self, created: EpochSeconds, last_activity: EpochSeconds, now: EpochSeconds) -> Verdict {
        if now.saturating_sub(last_activity) > self.timeout {
            return Verdict::Over(Reason::Idle);
        }
        match self.due(created, last_activity) {
            (due, Reason::Lifetime) if now >= due => Verdict::Over(Reason::Lifetime),
            (due, _) => Verdict::Live { due },
        }
    }

    /// The first second in which a session has expired without more activity, and the reason. It expires one second
    /// after the limit, not at it.
    #[must_use]
    pub fn due(&self, created: EpochSeconds, last_activity: EpochSeconds) -> (EpochSeconds, Reason) {
        let after = |since: EpochSeconds, most: u64| since.saturating_add(most).saturating_add(1);
        let idle = after(last_activity, self.timeout);
        match self.lifetime.map(|lifetime| after(created, lifetime)) {
            Some(old) if old < idle => (old, Reason::Lifetime),
            _ => (idle, Reason::Idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Limits = Limits { timeout: 3600, lifetime: None, retention: 172_800 };

    #[test]
    fn a_session_expires_after_the_timeout_not_at_it() {
        assert_eq!(HOUR.judge(0, 1000, 4600), Verdict::Live { due: 4601 });
        assert_eq!(HOUR.judge(0, 1000, 4601), Verdict::Over(Reason::Idle));
    }

    #[test]
    fn a_last_activity_in_the_future_is_no_idle_time() {
        assert_eq!(HOUR.judge(0, 5000, 1000), Verdict::Live { due: 8601 });
    }

    #[test]
    fn the_lifetime_ends_an_active_session() {
        let day = Limits { lifetime: Some(86_400), ..HOUR };
        assert_eq!(day.judge(0, 86_399, 86_400), Verdict::Live { due: 86_401 });
        assert_eq!(day.judge(0, 86_401, 86_401), Verdict::Over(Reason::Lifetime));
        assert_eq!(day.judge(0, 0, 10), Verdict::Live { due: 3601 });
        assert_eq!((day.due(0, 0), day.due(0, 83_000)), ((3601, Reason::Idle), (86_401, Reason::Lifetime)));
    }
}
