//! The real binary, in front of real and faked apps.

mod command_line;
mod docs;
mod harness;
mod restart;
mod session;
