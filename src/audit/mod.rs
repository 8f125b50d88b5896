//! Audit events: one JSON line for every decision, to answer "why was I logged out?".
//!
//! An event is a tracing event with the target [`TARGET`], whose message is the line. Unknown fields are left out. The
//! [`Sink`] writes the lines: no decision ever waits for a disk.

mod caller;
mod record;
mod sink;
#[cfg(test)]
mod tests;
mod why;

pub use caller::Caller;
pub(crate) use record::{Decision, DecisionContext};
pub use sink::{Destination, Sink};
pub(crate) use why::Why;

use crate::clock::epoch_milliseconds;

/// The target of the events that are records.
pub const TARGET: &str = "audit";

/// The record of a decision that is made now.
pub(crate) fn line(decision: Decision<'_>, scene: &DecisionContext<'_>) -> String {
    record::line(decision, scene, epoch_milliseconds())
}

/// Writes a record, which is made only where it is written anywhere.
pub(crate) fn write<L: std::fmt::Display>(line: impl FnOnce() -> L) {
    if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        tracing::info!(target: TARGET, "{}", line());
    }
}
