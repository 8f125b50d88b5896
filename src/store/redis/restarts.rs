//! Restarts of idle counting: idle time begins again for every session, so those that come often keep sessions alive.

use crate::clock::Moment;
use crate::session::EpochSeconds;

/// Restarts that lie closer together, in seconds, are one: while a replica is `off`, each report is one.
const APART: u64 = 5;

/// A restart of counting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Restart {
    /// The one before it was less than one idle timeout ago.
    Again,
    /// The one before it was longer ago, or there was none.
    Later,
}

/// What was told of the start of counting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restarts {
    counting: EpochSeconds,
    last: Option<Moment>,
}

impl Restarts {
    /// Takes in the start of counting of a reply. A step of the server's clock (`stepped`) moves it, which is no restart. The
    /// idle timeout is in milliseconds.
    pub(super) fn read(&mut self, counting: EpochSeconds, stepped: bool, now: Moment, timeout: u64) -> Option<Restart> {
        let before = std::mem::replace(&mut self.counting, counting);
        if before == 0 || stepped || counting.saturating_sub(before) <= APART {
            return None;
        }
        let last = self.last.replace(now);
        let is_soon = last.is_some_and(|last| now.since(last) < timeout);
        Some(if is_soon { Restart::Again } else { Restart::Later })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_within_one_timeout_of_another_is_told_apart() {
        let mut restarts = Restarts::default();
        let mut read = |counting, stepped, at| restarts.read(counting, stepped, Moment(at), 60_000);
        assert_eq!(read(1_000, false, 0), None, "the first reply");
        assert_eq!(read(1_000, false, 1_000), None);
        assert_eq!(read(1_100, false, 100_000), Some(Restart::Later));
        // While a replica is off, counting begins with each report.
        for second in 101..190 {
            assert_eq!(read(1_000 + second, false, second * 1_000), None);
        }
        assert_eq!(read(1_300, false, 300_000), Some(Restart::Later));
        assert_eq!(read(1_340, false, 340_000), Some(Restart::Again));
        assert_eq!(read(9_340, true, 341_000), None, "the server's clock was stepped");
        assert_eq!(read(9_340, false, 342_000), None);
    }
}
