//! Sessions: the pure rule, and what is known of each of them. No I/O here: `now` is an argument.

mod activity;
mod id;
mod mode;
mod pulse;
mod rule;

pub use activity::{Activity, Source};
pub use id::{CERTAIN_DIGITS, ID_DIGITS, SHOWN_DIGITS, SessionId, SessionIds};
pub use mode::Mode;
pub use pulse::{Beat, Pulse};
pub use rule::{EpochSeconds, Limits, Reason, Verdict, counts_from, idle_at};
