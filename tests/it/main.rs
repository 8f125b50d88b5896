//! The real binary, in front of real and faked apps.

mod command_line;
mod cookies;
mod cuts;
mod docs;
mod doors;
mod faults;
mod harness;
mod http;
mod restart;
mod session;
mod streams;
mod tokens;
