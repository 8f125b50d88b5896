//! The record of every decision: one JSON line each, for whoever has to answer "why was I logged out?".
//!
//! A record is a tracing event with the target [`TARGET`], whose message is the line. What is unknown is left out of
//! it. Where the lines go is the [`Sink`]'s affair: nobody who decides ever waits for a disk.

mod caller;
mod record;
mod sink;
#[cfg(test)]
mod tests;
mod why;

pub use caller::Caller;
pub(crate) use record::{Decision, Scene};
pub use sink::Sink;
pub(crate) use why::Why;

use crate::clock::epoch_milliseconds;

/// The target of the events that are records.
pub const TARGET: &str = "audit";

/// Writes the record of a decision.
pub(crate) fn write(decision: Decision<'_>, scene: &Scene<'_>) {
    if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
        let line = record::line(decision, scene, epoch_milliseconds());
        tracing::info!(target: TARGET, "{line}");
    }
}
