//! What this replica last learned of all replicas, and of the server's clock.

use super::answer::Answer;
use super::drift::Drift;
use super::reading::Reading;
use super::restarts::{Restart, Restarts};
use crate::clock::Moment;
use crate::session::EpochSeconds;

/// The longest delay after which the server still accepts a message as current, in milliseconds. It covers the longest
/// wait for a reply, including connecting and loading scripts, with some margin.
const SLACK: u64 = 5_000;

/// What a report means for this replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// The server's clock was stepped.
    pub(super) stepped: bool,
    /// The server has lost reports, or never had them: resync.
    pub(super) resync: bool,
    /// There is now another replica, and there was none before.
    pub(super) company: bool,
    /// The server's clock runs at another rate, by so many millionths. Said once.
    pub(super) drifts: Option<i64>,
    /// Idle time begins again for every session.
    pub(super) restart: Option<Restart>,
}

/// The parts of a mark in the server's time, all in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Measure {
    /// The server's clock at the last report; -1 where there was none.
    pub(super) base: i64,
    /// From then to the mark.
    pub(super) synced_to: u64,
    /// From then to the sending of this report.
    pub(super) sent: u64,
    /// The allowance for the message delay, then and now.
    pub(super) slack: u64,
}

/// The state between reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    last: Option<Reading>,
    /// The second up to which all activity is known.
    pub(super) watermark: EpochSeconds,
    pub(super) counting: EpochSeconds,
    /// Since when every token is known that was used or handed out.
    pub(super) known_since: EpochSeconds,
    /// When the server's clock was stepped last, by itself; 0 if not within one idle timeout.
    pub(super) stepped: EpochSeconds,
    /// A step that the server does not know of, in milliseconds; 0 for none.
    pub(super) unreported_step: i64,
    pub(super) drift: Drift,
    restarts: Restarts,
    /// The generation of the server's data at the last report; 0 before the first.
    pub(super) generation: u64,
    /// The number of the last call.
    pub(super) calls: u64,
    /// The number of the last call that the server has acknowledged.
    pub(super) confirmed: u64,
    /// The last end that the server has told.
    pub(super) cursor: i64,
    /// The mark of the last report.
    pub(super) synced_to: Moment,
    /// How many other replicas there were at the last report.
    pub(super) others: u64,
    /// When this replica last counted.
    counted: Moment,
}

impl View {
    pub(super) fn new() -> Self {
        Self { cursor: -1, ..Self::default() }
    }

    /// Notes that this replica is counting. After a gap of more than `max_gap`, idle time starts again. The server
    /// detects that gap from the marks, but not during an outage.
    pub(super) fn count(&mut self, now: Moment, max_gap: u64) {
        if now.since(self.counted) > max_gap {
            self.counting = self.counting.max(self.server_now(now).unwrap_or(0) / 1000);
        }
        self.counted = now;
    }

    /// The measures of a report that is sent now with the mark `synced_to`.
    pub(super) fn measure(&self, synced_to: Moment, now: Moment) -> Measure {
        let Some(last) = self.last else { return Measure { base: -1, synced_to: 0, sent: 0, slack: 0 } };
        Measure {
            base: last.server.cast_signed(),
            synced_to: synced_to.since(last.received),
            sent: now.since(last.received),
            slack: last.received.since(last.sent) + SLACK,
        }
    }

    /// The server's time, as known here.
    pub(super) fn server_now(&self, now: Moment) -> Option<u64> {
        self.last.map(|last| last.server.saturating_add(now.since(last.received)))
    }

    /// Processes the answer to a report with the mark `synced_to`. The idle timeout is in seconds.
    pub(super) fn receive(&mut self, answer: &Answer, synced_to: Moment, timeout: u64) -> News {
        let first = self.last.is_none();
        let company = answer.others > 0 && self.others == 0;
        let seen = self.last.map_or(0, |last| answer.reading.step_after(&last));
        let is_new = answer.generation != self.generation;
        let noted = answer.stepped > 0 && answer.stepped != self.stepped;
        // The step sent with this report is known now.
        let stepped = !first && (seen != 0 || (noted && self.unreported_step == 0));
        self.unreported_step = if is_new { 0 } else { seen };
        let is_same = self.last.is_some_and(|last| last.connection == answer.reading.connection);
        let drifts = if stepped || !is_same {
            self.drift.start_again(answer.reading);
            None
        } else {
            self.drift.read(answer.reading, timeout.saturating_mul(1000))
        };
        self.last = Some(answer.reading);
        self.watermark = answer.oldest / 1000;
        self.counting = answer.counting;
        self.known_since = answer.known_since;
        // The server notes a step that only this replica has seen with the next report.
        self.stepped = if stepped && answer.stepped == 0 { answer.reading.server / 1000 } else { answer.stepped };
        self.generation = answer.generation;
        self.others = answer.others;
        if answer.known {
            self.synced_to = synced_to;
        }
        self.cursor = answer.read.cast_signed();
        let restart =
            self.restarts.read(answer.counting, stepped, answer.reading.received, timeout.saturating_mul(1000));
        let resync = !first && !answer.late && (!answer.known || answer.missed);
        News { stepped, resync, company, drifts, restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(server: u64, sent: u64, received: u64) -> Reading {
        Reading { server, sent: Moment(sent), received: Moment(received), connection: 1 }
    }

    fn answer(reading: Reading) -> Answer {
        Answer { oldest: reading.server, counting: 1, generation: 1, known: true, ..Answer::empty(reading) }
    }

    #[test]
    fn a_mark_never_lies_after_what_was_reported() {
        let mut view = View::default();
        assert_eq!(view.measure(Moment(5), Moment(6)).base, -1);
        view.receive(&answer(reading(1_000_000, 5, 300)), Moment(5), 3_600);
        // The server's time at 1,300 of ours is at least this.
        let measure = view.measure(Moment(1_300), Moment(1_350));
        assert_eq!(measure, Measure { base: 1_000_000, synced_to: 1_000, sent: 1_050, slack: 5_295 });
    }

    #[test]
    fn a_server_that_lost_the_mark_gets_a_resync() {
        let mut view = View::default();
        let strange = Answer { known: false, ..answer(reading(1_000_000, 0, 1)) };
        assert_eq!(view.receive(&strange, Moment(0), 3_600), News::default());
        let forgotten = Answer { known: false, ..answer(reading(1_001_000, 1_000, 1_001)) };
        let news = view.receive(&forgotten, Moment(1_000), 3_600);
        assert!(news.resync && !news.stepped);
    }

    #[test]
    fn a_server_on_another_connection_may_have_its_own_clock() {
        let elsewhere = |server, sent| Reading { connection: 2, ..reading(server, sent, sent + 10) };
        for (server, stepped) in [(1_001_000, false), (1_001_060, false), (1_001_080, true), (1_000_930, true)] {
            let mut view = View::new();
            view.receive(&answer(reading(1_000_000, 0, 10)), Moment(0), 3_600);
            let news = view.receive(&answer(elsewhere(server, 1_000)), Moment(1_000), 3_600);
            assert_eq!(news.stepped, stepped, "{server}: {news:?}");
            assert!(!news.resync, "a new connection alone is no loss");
            let news = view.receive(&answer(elsewhere(server + 1_000, 2_000)), Moment(2_000), 3_600);
            assert!(!news.stepped, "{server}: {news:?}");
        }
    }

    #[test]
    fn a_step_is_reported_once_whichever_replica_sees_it_first() {
        let mut view = View::new();
        view.receive(&answer(reading(1_000_000, 0, 1)), Moment(0), 3_600);
        // Too small for the server to detect, but this replica can.
        let news = view.receive(&answer(reading(1_004_000, 1_000, 1_001)), Moment(1_000), 3_600);
        assert!(news.stepped && view.stepped > 0 && view.unreported_step == 2_999, "{view:?}");
        let is_new = |generation, stepped, reading| Answer { stepped, generation, known: false, ..answer(reading) };
        let news = view.receive(&is_new(2, 1_005, reading(1_005_000, 2_000, 2_001)), Moment(2_000), 3_600);
        assert!(news.resync && !news.stepped && view.stepped == 1_005 && view.unreported_step == 0, "{news:?}");
        // Seen by another replica, or by the server.
        let news = view.receive(&is_new(3, 8_006, reading(8_006_000, 3_000, 3_001)), Moment(3_000), 3_600);
        assert!(news.stepped && news.resync && view.unreported_step == 0);
    }
}
