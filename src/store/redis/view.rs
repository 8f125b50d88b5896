//! What this replica has last heard of all replicas, and of the server's clock.

use crate::clock::Moment;
use crate::session::EpochSeconds;

/// How much the server's clock may seem to have moved against ours before it is a step, in milliseconds.
const STEP: u64 = 2_000;

/// The same, where another server may have answered, or the same after a restart. All that the way can explain is
/// allowed for beside this: it is for clocks that are kept by NTP, and for how they run apart meanwhile.
const APART: u64 = 50;

/// How long after its sending a message may arrive at most, for the server to take it for one of now: the longest that
/// an answer is waited for, connecting and loading scripts included, and some more. In milliseconds.
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
    /// By how many milliseconds the server's clock was stepped between an earlier reading and this one, or another server's
    /// clock differs that was read in its place; 0 where a delay
    /// on the way explains what it says. Rather too far back than too far ahead: marks are moved by it, and none may
    /// come to lie after what was told.
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
    /// Since when counting is unbroken.
    pub(super) counting: EpochSeconds,
    /// When the server's clock was last seen to be stepped, within one limit; else 0.
    pub(super) stepped: EpochSeconds,
    /// How many steps of its clock the server knows of.
    pub(super) steps: u64,
    /// Whether the server still knew all that this replica had told.
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
    /// The server has lost what it was told, or was never told: tell it all again.
    pub(super) resync: bool,
    /// There is another replica, and there was none.
    pub(super) company: bool,
}

/// What a mark is made of, in the server's time: all in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Measure {
    /// What the server's clock said at the last report; -1 where there was none.
    pub(super) base: i64,
    /// From then to where all is told.
    pub(super) synced_to: u64,
    /// From then to the sending.
    pub(super) sent: u64,
    /// What the way may have taken, then and now.
    pub(super) slack: u64,
}

impl Measure {
    /// The server's time after which a message is no longer taken for one of now; 0 where its time is not known.
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
    /// Whether the server's clock was stepped less than a limit ago.
    pub(super) guarded: bool,
    /// A step that the server has not been told of, in milliseconds; 0 for none.
    pub(super) step_to_tell: i64,
    /// How many steps of the server's clock this replica knows of.
    pub(super) steps: u64,
    /// This replica's mark, which the server has confirmed.
    pub(super) confirmed: u64,
    /// Up to when all was told at the last report.
    pub(super) synced_to: Moment,
    /// How many other replicas there were at the last report.
    pub(super) others: u64,
    /// When this replica last counted.
    counted: Moment,
}

impl View {
    /// This replica counts. Where it did not for more than `gap_at_most`, idle time starts anew; the server notices that
    /// by the marks, but in an outage it cannot.
    pub(super) fn count(&mut self, now: Moment, gap_at_most: u64) {
        if now.since(self.counted) > gap_at_most {
            self.counting = self.counting.max(self.server_now(now).unwrap_or(0) / 1000);
        }
        self.counted = now;
    }

    /// What a report is made of that is sent now and tells everything up to `told`.
    pub(super) fn measure(&self, synced_to: Moment, now: Moment) -> Measure {
        let Some(last) = self.last else { return Measure { base: -1, synced_to: 0, sent: 0, slack: 0 } };
        Measure {
            base: last.server.cast_signed(),
            synced_to: synced_to.since(last.received),
            sent: now.since(last.received),
            slack: last.received.since(last.sent) + SLACK,
        }
    }

    /// The server's time, as far as it is known.
    pub(super) fn server_now(&self, now: Moment) -> Option<u64> {
        self.last.map(|last| last.server.saturating_add(now.since(last.received)))
    }

    /// Takes in the answer to a report that told all up to `told`.
    pub(super) fn hear(&mut self, report: &Report, synced_to: Moment) -> News {
        let first = self.last.is_none();
        let company = report.others > 0 && self.others == 0;
        let noted = report.steps > self.steps;
        let seen = self.last.map_or(0, |last| report.reading.step_after(&last));
        // The step that was told with this report is no news any more.
        let stepped = !first && (seen != 0 || (noted && self.step_to_tell == 0));
        self.step_to_tell = if noted { 0 } else { seen };
        let elsewhere = self.last.is_some_and(|last| last.connection != report.reading.connection);
        self.last = Some(report.reading);
        self.watermark = report.oldest / 1000;
        self.counting = report.counting;
        self.steps = report.steps;
        self.confirmed = report.mark;
        self.synced_to = synced_to;
        self.others = report.others;
        self.guarded = stepped || report.stepped > 0;
        // Nobody can tell what a server has lost in a failover or a restart: a mark that it kept may be older than an end.
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
    fn a_slow_way_is_no_step_and_a_step_is() {
        let first = reading(1_000_000, 0, 10);
        // An answer that took nine seconds; the server may have read its clock at any moment of them.
        for server in [1_000_990, 1_010_000] {
            assert_eq!(reading(server, 1_000, 10_000).step_after(&first), 0, "{server}");
        }
        for (server, step) in [(998_000, -3_010), (1_004_000, 2_990), (8_200_000, 7_198_990)] {
            assert_eq!(reading(server, 1_000, 1_010).step_after(&first), step, "{server}");
        }
    }

    #[test]
    fn a_mark_never_lies_after_what_was_told() {
        let mut view = View::default();
        assert_eq!(view.measure(Moment(5), Moment(6)).base, -1);
        view.hear(&report(reading(1_000_000, 5, 300)), Moment(5));
        // The server's time at 1,300 of ours is at least this.
        let measure = view.measure(Moment(1_300), Moment(1_350));
        assert_eq!(measure, Measure { base: 1_000_000, synced_to: 1_000, sent: 1_050, slack: 5_295 });
    }

    #[test]
    fn a_server_that_forgot_us_is_told_all_again() {
        let mut view = View::default();
        let strange = Report { known: false, ..report(reading(1_000_000, 0, 1)) };
        assert_eq!(view.hear(&strange, Moment(0)), News::default());
        let forgotten = Report { known: false, ..report(reading(1_001_000, 1_000, 1_001)) };
        let news = view.hear(&forgotten, Moment(1_000));
        assert!(news.resync && !news.stepped);
    }

    #[test]
    fn whoever_answers_on_another_connection_is_told_all_again_and_goes_by_a_clock_of_its_own() {
        let elsewhere = |server, sent| Reading { connection: 2, ..reading(server, sent, sent + 10) };
        for (server, stepped) in [(1_001_000, false), (1_001_060, false), (1_001_080, true), (1_000_930, true)] {
            let mut view = View::default();
            view.hear(&report(reading(1_000_000, 0, 10)), Moment(0));
            let news = view.hear(&report(elsewhere(server, 1_000)), Moment(1_000));
            assert!(news.resync && news.stepped == stepped, "{server}: {news:?}");
            let news = view.hear(&report(elsewhere(server + 1_000, 2_000)), Moment(2_000));
            assert!(!news.resync && !news.stepped, "{server}: {news:?}");
        }
    }

    #[test]
    fn a_step_is_told_once_whoever_sees_it_first() {
        let mut view = View::default();
        view.hear(&report(reading(1_000_000, 0, 1)), Moment(0));
        // Too small for the server to be sure of; we are.
        let news = view.hear(&report(reading(1_004_000, 1_000, 1_001)), Moment(1_000));
        assert!(news.resync && news.stepped && view.guarded && view.step_to_tell == 2_999, "{view:?}");
        let noted = Report { stepped: 1_005, steps: 1, ..report(reading(1_005_000, 2_000, 2_001)) };
        assert_eq!(view.hear(&noted, Moment(2_000)), News::default());
        assert!(view.guarded && view.step_to_tell == 0);
        // Seen by another replica, or by the server.
        let elsewhere = Report { steps: 2, stepped: 8_006, ..report(reading(8_006_000, 3_000, 3_001)) };
        let news = view.hear(&elsewhere, Moment(3_000));
        assert!(news.stepped && news.resync && view.step_to_tell == 0);
    }
}
