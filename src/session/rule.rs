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

/// The times of a session, as the rule needs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// When it began.
    pub created: EpochSeconds,
    /// When it was last active.
    pub last_activity: EpochSeconds,
    /// Since when activity has been counted without a break: no idle time counts from before.
    pub counting: EpochSeconds,
}

impl Times {
    /// Since when it has been idle.
    #[must_use]
    pub fn idle_since(&self) -> EpochSeconds {
        self.last_activity.max(self.counting)
    }
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

    /// Whether a session has been idle for more than the timeout, at the second `at`.
    ///
    /// Stamps and `at` are both floored to the second. So a session never expires before more than `timeout` seconds
    /// have really passed: the difference can only be late, by less than a second. `rule.lua` says the same.
    #[must_use]
    pub fn is_idle(&self, times: Times, at: EpochSeconds) -> bool {
        at.saturating_sub(times.idle_since()) > self.timeout
    }

    /// Whether a session is older than the lifetime, at the second `at`.
    #[must_use]
    pub fn is_old(&self, times: Times, at: EpochSeconds) -> bool {
        self.lifetime.is_some_and(|lifetime| at.saturating_sub(times.created) > lifetime)
    }

    /// Judges a session at the second `now`.
    #[must_use]
    pub fn judge(&self, times: Times, now: EpochSeconds) -> Verdict {
        if self.is_idle(times, now) {
            Verdict::Over(Reason::Idle)
        } else if self.is_old(times, now) {
            Verdict::Over(Reason::Lifetime)
        } else {
            Verdict::Live { due: self.due(times).0 }
        }
    }

    /// The first second in which a session has expired without more activity, and the reason. It expires one second
    /// after the limit, not at it.
    #[must_use]
    pub fn due(&self, times: Times) -> (EpochSeconds, Reason) {
        let after = |since: EpochSeconds, most: u64| since.saturating_add(most).saturating_add(1);
        let idle = after(times.idle_since(), self.timeout);
        match self.lifetime.map(|lifetime| after(times.created, lifetime)) {
            Some(old) if old < idle => (old, Reason::Lifetime),
            _ => (idle, Reason::Idle),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A case of `rule_cases.txt`.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Case {
        pub(crate) limits: Limits,
        pub(crate) times: Times,
        pub(crate) now: EpochSeconds,
        pub(crate) verdict: Option<Reason>,
    }

    /// The table of cases that every implementation of the rule must pass.
    pub(crate) fn cases() -> Vec<Case> {
        let lines = include_str!("rule_cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let case = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<u64>().unwrap();
            Case {
                limits: Limits { timeout: number(0), lifetime: words[1].parse().ok(), retention: 172_800 },
                times: Times { created: number(2), last_activity: number(3), counting: number(4) },
                now: number(5),
                verdict: Reason::from_name(words[6]),
            }
        };
        lines.map(case).collect()
    }

    #[test]
    fn the_table_of_cases_holds() {
        assert!(cases().len() > 15);
        for case in cases() {
            let Case { limits, times, now, verdict } = case;
            match limits.judge(times, now) {
                Verdict::Over(reason) => assert_eq!(verdict, Some(reason), "{case:?}"),
                Verdict::Live { due } => {
                    assert_eq!(verdict, None, "{case:?}");
                    assert!(due > now, "{case:?}");
                    assert!(matches!(limits.judge(times, due - 1), Verdict::Live { .. }), "{case:?}");
                    assert!(matches!(limits.judge(times, due), Verdict::Over(_)), "{case:?}");
                }
            }
        }
    }

    #[test]
    fn the_rule_of_the_script_holds_for_the_table_of_cases() {
        let lua = mlua::Lua::new();
        let text = concat!(
            "local created, last, counting, at; limit, lifetime, created, last, counting, at = ...\n",
            include_str!("rule.lua"),
            "if is_idle(last, counting, at) then return 'idle' end\n",
            "return is_old(created, at) and 'lifetime' or 'live'",
        );
        let rule = lua.load(text).into_function().unwrap();
        for case in cases() {
            let Case { limits, times: Times { created, last_activity, counting }, now, verdict } = case;
            let lifetime = limits.lifetime.map_or(-1, u64::cast_signed);
            let arguments = (limits.timeout, lifetime, created, last_activity, counting, now);
            let answer: String = rule.call(arguments).unwrap();
            assert_eq!(answer, verdict.map_or("live", Reason::name), "{case:?}");
        }
    }
}
