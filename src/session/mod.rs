//! Sessions: ids, activity, and the rule that decides when one expires. There is no I/O here: `now` is an argument.

mod activity;
mod id;
mod last_activity;
mod mode;
mod rule;

pub use activity::{ActivitySources, Source};
pub use id::{CERTAIN_DIGITS, ID_DIGITS, SHOWN_DIGITS, SessionId, SessionIds};
pub use last_activity::{Activity, LastActivity};
pub use mode::Mode;
#[cfg(test)]
pub(crate) use rule::tests::{Case, cases};
pub use rule::{EpochSeconds, Limits, Reason, Times, Verdict, counts_from, idle_at};
