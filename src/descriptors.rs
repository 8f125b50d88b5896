//! File descriptors: clients may use nearly all of them, and the last few are for what must go on when clients have used
//! the others: health and operators are answered, Redis is connected to, the configuration is read.

use rustix::process::{Resource, getrlimit};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many are kept back, where there are so many.
const KEPT_BACK: u64 = 32;

/// Whether this is one of those that are kept back. The system gives the lowest number that is free: with this one, all
/// below it are taken.
pub(crate) fn is_kept_back(descriptor: impl AsFd) -> bool {
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).unwrap_or(0);
    // Asked each time: it is a matter of nanoseconds, and may be raised while idlegate runs.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    number >= limit.saturating_sub(KEPT_BACK.min(limit / 4))
}

/// No descriptor is left for clients.
pub(crate) fn none_left() -> io::Error {
    rustix::io::Errno::MFILE.into()
}
