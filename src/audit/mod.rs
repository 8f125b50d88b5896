//! Audit events: one JSON line per decision, to answer "why was I logged out?".
//!
//! An audit event is a tracing event with the target [`TARGET`], and the line is its message. Unknown values are left
//! out. The [`Sink`] writes the lines, so that no decision ever waits for a disk.

mod caller;
mod record;
mod sink;
#[cfg(test)]
mod tests;
mod why;

pub use caller::Caller;
pub(crate) use record::{Decision, DecisionContext, IgnoredBefore, missing};
pub use sink::{Destination, Sink};
pub(crate) use why::Why;

use crate::clock::epoch_milliseconds;

/// The tracing target of audit events.
pub const TARGET: &str = "audit";

/// The audit line of a decision made now.
pub(crate) fn line(decision: Decision<'_>, context: &DecisionContext<'_>) -> String {
    record::line(decision, context, epoch_milliseconds())
}

/// Writes an audit event. The line is built only if audit events are written.
pub(crate) fn write<L: std::fmt::Display>(line: impl FnOnce() -> L) {
    if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        tracing::info!(target: TARGET, "{}", line());
    }
}
