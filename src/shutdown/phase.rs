//! The phase of a drain and its deadlines, computed from `now`, which is an argument.

use super::CLOSE_TIMEOUT;
use crate::clock::{Moment, milliseconds};
use std::time::Duration;

/// The last round's share of the grace period, in milliseconds: the store answers a report in this time, or not at all.
const LAST_ROUND: u64 = 1_000;

/// How long all else takes that is still left when it is hurried, in milliseconds.
const HURRIED_CLOSE: u64 = 1_500;
const HURRIED_END: u64 = 2_000;

/// How far a drain has got. It only goes on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// No drain.
    Serving,
    /// Tunnels are closed gradually. New requests are still served.
    Draining,
    /// No connection is accepted any more; work under way finishes.
    Stopping,
    /// The same at once.
    Hurried,
}

impl Phase {
    pub(super) const ALL: [Self; 4] = [Self::Serving, Self::Draining, Self::Stopping, Self::Hurried];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Hurried => "hurried",
        }
    }
}

/// An order to idlegate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// An operator, or the orchestrator, takes it out of service.
    Drain,
    /// A signal. The second one hurries.
    Stop,
}

/// A drain: its phase and its deadlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Drain {
    pub(super) phase: Phase,
    /// When the phase began.
    began: Moment,
    /// All tunnels have been sent their Close by then, so that each can close properly.
    tunnels_by: Moment,
    /// All connections are closed by then, so that there is time for the last report to the store.
    pub(super) closed_by: Moment,
    /// The grace period is over.
    pub(super) over_by: Moment,
}

impl Drain {
    pub(super) fn none() -> Self {
        let never = Moment::default();
        Self { phase: Phase::Serving, began: never, tunnels_by: never, closed_by: never, over_by: never }
    }

    /// The state after an order at `now`, with this grace period. A repeated order changes nothing.
    pub(super) fn ordered(self, order: Order, now: Moment, grace: Duration) -> Self {
        match (order, self.phase) {
            (Order::Drain, Phase::Serving) => Self::within(Phase::Draining, now, grace),
            (Order::Stop, Phase::Serving | Phase::Draining) => Self::within(Phase::Stopping, now, grace),
            (Order::Stop, Phase::Stopping) => self.hurried(now),
            (Order::Drain, _) | (Order::Stop, Phase::Hurried) => self,
        }
    }

    /// Even a short grace period is shared out: each step gets some of it.
    fn within(phase: Phase, now: Moment, grace: Duration) -> Self {
        let grace = milliseconds(grace);
        let connections = grace - LAST_ROUND.min(grace / 4);
        let tunnels = connections - milliseconds(CLOSE_TIMEOUT).min(connections / 2);
        Self {
            phase,
            began: now,
            tunnels_by: now.plus(tunnels),
            closed_by: now.plus(connections),
            over_by: now.plus(grace),
        }
    }

    /// Sooner in any case, and never later than it would have been.
    fn hurried(self, now: Moment) -> Self {
        Self {
            phase: Phase::Hurried,
            began: now,
            tunnels_by: now,
            closed_by: self.closed_by.min(now.plus(HURRIED_CLOSE)),
            over_by: self.over_by.min(now.plus(HURRIED_END)),
        }
    }

    /// When a tunnel is closed, by its number among all: evenly spread, so that the clients' reconnects do not overload
    /// another replica.
    pub(super) fn turn(&self, number: usize, of: usize) -> Moment {
        let (number, of) = (u128::try_from(number).unwrap_or(0), u128::try_from(of).unwrap_or(1).max(1));
        let after = u128::from(self.tunnels_by.since(self.began)) * number / of;
        self.began.plus(u64::try_from(after).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn at(drain: &Drain) -> (Phase, [u64; 4]) {
        (drain.phase, [drain.began, drain.tunnels_by, drain.closed_by, drain.over_by].map(|moment| moment.0))
    }

    #[test]
    fn it_only_goes_on() {
        let drain = Drain::none().ordered(Order::Drain, Moment(1_000), GRACE);
        assert_eq!(at(&drain), (Phase::Draining, [1_000, 8_000, 10_000, 11_000]));
        // Repeated, with another grace period: nothing changes.
        assert_eq!(drain.ordered(Order::Drain, Moment(2_000), Duration::from_secs(99)), drain);
        let stopping = drain.ordered(Order::Stop, Moment(3_000), GRACE);
        assert_eq!(at(&stopping), (Phase::Stopping, [3_000, 10_000, 12_000, 13_000]), "it has a time of its own");
        assert_eq!(
            stopping,
            Drain::none().ordered(Order::Stop, Moment(3_000), GRACE),
            "with or without a drain before"
        );
        assert_eq!(stopping.ordered(Order::Drain, Moment(4_000), GRACE), stopping);
        let hurried = stopping.ordered(Order::Stop, Moment(5_000), GRACE);
        assert_eq!(at(&hurried), (Phase::Hurried, [5_000, 5_000, 6_500, 7_000]));
        for order in [Order::Stop, Order::Drain] {
            assert_eq!(hurried.ordered(order, Moment(6_000), GRACE), hurried, "a third signal changes nothing");
        }
    }

    #[test]
    fn hurrying_never_takes_longer() {
        let stopping = Drain::none().ordered(Order::Stop, Moment(0), GRACE);
        let late = stopping.ordered(Order::Stop, Moment(8_900), GRACE);
        assert_eq!(at(&late), (Phase::Hurried, [8_900, 8_900, 9_000, 10_000]));
    }

    #[test]
    fn every_grace_period_leaves_time_for_each_step() {
        for milliseconds in [4, 100, 999, 1_000, 2_500, 4_000, 10_000, 3_600_000] {
            let drain = Drain::none().ordered(Order::Stop, Moment(0), Duration::from_millis(milliseconds));
            let (_, [began, tunnels, closed, over]) = at(&drain);
            assert!(began < tunnels && tunnels < closed && closed < over && over == milliseconds, "{drain:?}");
        }
        let longest = Drain::none().ordered(Order::Stop, Moment(7), Duration::MAX);
        assert!(longest.over_by > longest.closed_by || longest.over_by == Moment(u64::MAX));
    }

    #[test]
    fn tunnels_are_closed_evenly_and_in_order() {
        let drain = Drain::none().ordered(Order::Drain, Moment(500), GRACE);
        let turns = |of: usize| (0..of).map(move |number| drain.turn(number, of).0).collect::<Vec<_>>();
        assert_eq!(turns(1), [500], "who is alone need not wait");
        assert_eq!(turns(4), [500, 2_250, 4_000, 5_750]);
        let many = turns(100_000);
        assert!(many.is_sorted() && many[99_999] < 7_500 && many[50_000] == 4_000);
        assert_eq!(drain.turn(0, 0), Moment(500));
    }
}
