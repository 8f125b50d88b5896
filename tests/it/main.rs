//! The real binary, in front of real and faked apps.

mod harness;
mod session;
