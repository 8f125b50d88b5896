//! Sessions: the pure rule, and what is known of each of them. No I/O here: `now` is an argument.

mod activity;
mod id;

pub use activity::{Activity, Source};
pub use id::SessionId;
