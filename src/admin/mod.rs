//! The room beside the data path: what operators, orchestrators and monitoring see of a replica.
//!
//! `listener` accepts and speaks HTTP, on a few short connections that the app's clients never feel; `health` is what the
//! `[health]` listener answers.

mod health;
mod listener;

pub(crate) use health::Health;
pub(crate) use listener::{Limits, Listener};
