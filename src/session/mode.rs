//! The mode: how much is done about a session that is over.

use std::fmt;

/// What is done about a session that is over. In order of strictness, the least strict first: where several switches
/// stand differently, the least of them is in force.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    /// Everything passes through: no token is looked for, and no idle time counts.
    Off,
    /// Decisions are made and recorded, but nothing is cut or refused.
    Observe,
    /// It is cut, and its token refused.
    Enforce,
}

impl Mode {
    /// All of them, the least strict first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Observe, Self::Enforce];

    /// The mode with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The name, as it is written everywhere.
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
