//! What this replica last learned of all replicas, and of the server's clock.

use crate::clock::Moment;
use crate::session::EpochSeconds;

/// The smallest apparent jump of the server's clock against ours that counts as a step, in milliseconds.
const STEP: u64 = 2_000;

/// The same, if another server may have answered, or the same one after a restart. It covers the drift between clocks
/// that NTP keeps in step; the message delay is allowed for separately.
const APART: u64 = 50;

/// The longest delay after which the server still accepts a message as current, in milliseconds. It covers the longest
/// wait for a reply, including connecting and loading scripts, with some margin.
const SLACK: u64 = 5_000;

/// A reading of the server's clock, taken between two moments of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reading {
    /// The server's time, in epoch milliseconds.
    pub(super) server: u64,
    pub(super) sent: Moment,
    pub(super) received: Moment,
    /// The number of the connection it was read on. On another one, another server may answer.
    pub(super) connection: u64,
}

impl Reading {
    /// The step of the server's clock between two readings, or the clock difference to the server that took over, in
    /// milliseconds; 0 if the message delay explains the difference. The estimate errs towards the past, because marks
    /// are moved by it, and a mark must not get ahead of the reported activity.
    fn step_after(&self, earlier: &Self) -> i64 {
        let least = earlier.server.saturating_add(self.sent.since(earlier.received));
        let most = earlier.server.saturating_add(self.received.since(earlier.sent));
        let step =
            if self.connection == earlier.connection { STEP } else { APART + self.received.since(earlier.sent) / 1000 };
        let stepped = self.server.saturating_add(step) < least || self.server > most.saturating_add(step);
        if stepped { self.server.cast_signed().saturating_sub(most.cast_signed()) } else { 0 }
    }
}

/// The answer to a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Report {
    pub(super) reading: Reading,
    /// The oldest mark of the live replicas, in epoch milliseconds.
    pub(super) oldest: u64,
    /// The start of unbroken counting.
    pub(super) counting: EpochSeconds,
    /// The last step of the server's clock, if it was less than one idle timeout ago; else 0.
    pub(super) stepped: EpochSeconds,
    /// How many steps of its clock the server knows of.
    pub(super) steps: u64,
    /// Whether the server still knew everything that this replica had reported.
    pub(super) known: bool,
    /// This replica's mark, as it stands now.
    pub(super) mark: u64,
    /// How many other replicas there are.
    pub(super) others: u64,
}

/// What a report means for this replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct News {
    /// The server's clock was stepped.
    pub(super) stepped: bool,
    /// The server has lost reports, or never had them: resync.
    pub(super) resync: bool,
    /// There is now another replica, and there was none before.
    pub(super) company: bool,
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

impl Measure {
    /// The server's time after which it ignores this message as too old; 0 if the server's time is not known.
    pub(super) fn not_after(&self) -> u64 {
        u64::try_from(self.base).map_or(0, |base| base + self.sent + self.slack)
    }
}

/// The state between reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct View {
    last: Option<Reading>,
    /// The second up to which all activity is known.
    pub(super) watermark: EpochSeconds,
    pub(super) counting: EpochSeconds,
    /// Whether the server's clock was stepped less than one idle timeout ago.
    pub(super) guarded: bool,
    /// A step that the server does not know of, in milliseconds; 0 for none.
    pub(super) unreported_step: i64,
    /// How many steps of the server's clock this replica knows of.
    pub(super) steps: u64,
    /// This replica's mark, which the server has confirmed.
    pub(super) confirmed: u64,
    /// The mark of the last report.
    pub(super) synced_to: Moment,
    /// How many other replicas there were at the last report.
    pub(super) others: u64,
    /// When this replica last counted.
    counted: Moment,
}

impl View {
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

    /// Processes the reply to a report with the mark `synced_to`.
    pub(super) fn receive(&mut self, report: &Report, synced_to: Moment) -> News {
        let first = self.last.is_none();
        let company = report.others > 0 && self.others == 0;
        let noted = report.steps > self.steps;
        let seen = self.last.map_or(0, |last| report.reading.step_after(&last));
        // The step sent with this report is known now.
        let stepped = !first && (seen != 0 || (noted && self.unreported_step == 0));
        self.unreported_step = if noted { 0 } else { seen };
        let elsewhere = self.last.is_some_and(|last| last.connection != report.reading.connection);
        self.last = Some(report.reading);
        self.watermark = report.oldest / 1000;
        self.counting = report.counting;
        self.steps = report.steps;
        self.confirmed = report.mark;
        self.synced_to = synced_to;
        self.others = report.others;
        self.guarded = stepped || report.stepped > 0;
        // A failover or restart may have lost an end even if the mark survived: the mark may be older than the end.
        News { stepped, resync: stepped || elsewhere || (!first && !report.known), company }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(server: u64, sent: u64, received: u64) -> Reading {
        Reading { server, sent: Moment(sent), received: Moment(received), connection: 1 }
    }

    fn report(reading: Reading) -> Report {
        let mark = reading.server;
        Report { reading, oldest: mark, counting: 1, stepped: 0, steps: 0, known: true, mark, others: 0 }
    }

    #[test]
    fn message_delay_is_not_a_clock_step() {
        let first = reading(1_000_000, 0, 10);
        // A reply that took nine seconds: the server may have read its clock at any moment in between.
        for server in [1_000_990, 1_010_000] {
            assert_eq!(reading(server, 1_000, 10_000).step_after(&first), 0, "{server}");
        }
        for (server, step) in [(998_000, -3_010), (1_004_000, 2_990), (8_200_000, 7_198_990)] {
            assert_eq!(reading(server, 1_000, 1_010).step_after(&first), step, "{server}");
        }
    }

    #[test]
    fn a_mark_never_lies_after_what_was_reported() {
        let mut view = View::default();
        assert_eq!(view.measure(Moment(5), Moment(6)).base, -1);
        view.receive(&report(reading(1_000_000, 5, 300)), Moment(5));
        // The server's time at 1,300 of ours is at least this.
        let measure = view.measure(Moment(1_300), Moment(1_350));
        assert_eq!(measure, Measure { base: 1_000_000, synced_to: 1_000, sent: 1_050, slack: 5_295 });
    }

    #[test]
    fn a_server_that_lost_the_mark_gets_a_resync() {
        let mut view = View::default();
        let strange = Report { known: false, ..report(reading(1_000_000, 0, 1)) };
        assert_eq!(view.receive(&strange, Moment(0)), News::default());
        let forgotten = Report { known: false, ..report(reading(1_001_000, 1_000, 1_001)) };
        let news = view.receive(&forgotten, Moment(1_000));
        assert!(news.resync && !news.stepped);
    }

    #[test]
    fn a_server_on_another_connection_gets_a_resync_and_has_its_own_clock() {
        let elsewhere = |server, sent| Reading { connection: 2, ..reading(server, sent, sent + 10) };
        for (server, stepped) in [(1_001_000, false), (1_001_060, false), (1_001_080, true), (1_000_930, true)] {
            let mut view = View::default();
            view.receive(&report(reading(1_000_000, 0, 10)), Moment(0));
            let news = view.receive(&report(elsewhere(server, 1_000)), Moment(1_000));
            assert!(news.resync && news.stepped == stepped, "{server}: {news:?}");
            let news = view.receive(&report(elsewhere(server + 1_000, 2_000)), Moment(2_000));
            assert!(!news.resync && !news.stepped, "{server}: {news:?}");
        }
    }

    #[test]
    fn a_step_is_reported_once_whichever_replica_sees_it_first() {
        let mut view = View::default();
        view.receive(&report(reading(1_000_000, 0, 1)), Moment(0));
        // Too small for the server to detect, but this replica can.
        let news = view.receive(&report(reading(1_004_000, 1_000, 1_001)), Moment(1_000));
        assert!(news.resync && news.stepped && view.guarded && view.unreported_step == 2_999, "{view:?}");
        let noted = Report { stepped: 1_005, steps: 1, ..report(reading(1_005_000, 2_000, 2_001)) };
        assert_eq!(view.receive(&noted, Moment(2_000)), News::default());
        assert!(view.guarded && view.unreported_step == 0);
        // Seen by another replica, or by the server.
        let elsewhere = Report { steps: 2, stepped: 8_006, ..report(reading(8_006_000, 3_000, 3_001)) };
        let news = view.receive(&elsewhere, Moment(3_000));
        assert!(news.stepped && news.resync && view.unreported_step == 0);
    }
}
