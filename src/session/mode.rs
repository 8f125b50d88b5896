//! The mode: what is done about expired sessions.

use std::fmt;

/// What is done about an expired session. The modes are ordered by strictness, least strict first: if several switches
/// differ, the least strict is in force.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Everything is passed through: no token is looked for, and no idle time counts.
    Off,
    /// Decisions are made and recorded, but nothing is cut or refused.
    Observe,
    /// Expired sessions are cut, and their tokens refused.
    Enforce,
}

impl Mode {
    /// All modes, the least strict first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::Enforce];

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The name in the configuration, logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
