//! Schedules that once broke a draft of the exchange, by name.

use super::Event::{
    Activity, ClockSteps, ConnectionsDrop, CutOff, Evict, FailOver, Freeze, Kill, Logout, Pass, Repair, StoreForgets,
    StoreIsBack, StoreIsDown, Twice,
};
use super::{Event, World, run_fleet};

/// Runs a schedule with near and far replicas, and in a fleet of two versions.
fn holds(timeout: u64, events: &[Event]) {
    for (distance, has_next_version) in [(3, false), (60, true), (240, false)] {
        let world = World { has_next_version, ..World::new(timeout, 7, distance) };
        run_fleet(world, events.iter().cloned());
    }
}

/// Activity on one replica is acknowledged, and then lost in a failover. The other replica knows only earlier activity.
pub(super) fn failovers() -> Vec<Vec<Event>> {
    let of = |acknowledged, lag| {
        let known = [Activity(0, 0), Activity(1, 0), Pass(3_000), Activity(0, 0)];
        [&known[..], &[Pass(acknowledged), FailOver(lag, 0), Pass(9_000)]].concat()
    };
    [700, 900, 1_100, 1_300].into_iter().flat_map(|passed| [0, 400, 900, 1_400].map(|lag| of(passed, lag))).collect()
}

#[test]
fn a_failover_loses_the_last_acknowledged_second() {
    for events in failovers() {
        holds(4, &events);
    }
}

#[test]
fn a_failover_goes_to_a_server_whose_clock_is_eight_seconds_behind() {
    for step in [-8_000, 8_000] {
        let before = [Twice(0, 0, 500), Twice(1, 1, 500), Logout(2, 1), Pass(3_000), FailOver(300, step)];
        let after = [Pass(400), Logout(0, 0), Activity(1, 2), Pass(300), Logout(1, 2), Pass(12_000), Activity(2, 2)];
        holds(4, &[&before[..], &after].concat());
    }
}

#[test]
fn two_sessions_end_in_one_second_and_a_replica_reads_in_between() {
    let all = [0, 1, 2].map(|replica| [0, 1, 2].map(|who| Activity(replica, who))).concat();
    for pause in [10, 120, 260, 400, 700] {
        holds(
            60,
            &[&all[..], &[Pass(2_000), Logout(0, 0), Pass(pause), Logout(0, 1), Logout(1, 2), Pass(5_000)]].concat(),
        );
    }
}

#[test]
fn an_evicted_session_is_not_ended_by_the_replica_that_knows_less() {
    let begun = [Activity(0, 0), Pass(1_500), Activity(1, 0), Pass(1_200), Evict(Some(0))];
    holds(4, &[&begun[..], &[Pass(1_500), Kill(1), Pass(9_000)]].concat());
    holds(4, &[&begun[..], &[CutOff(1), Pass(2_000), Repair(1), Pass(9_000)]].concat());
}

#[test]
fn an_evicted_session_is_not_ended_by_the_replica_that_began_it_in_an_outage() {
    for known_since in [1_500, 2_400, 2_900] {
        let cut_off = [Pass(1_500), CutOff(2), Activity(2, 2), Pass(known_since)];
        holds(3, &[&cut_off[..], &[Activity(1, 2), Pass(500), Evict(Some(2)), Repair(2), Pass(9_000)]].concat());
    }
}

#[test]
fn an_end_is_reported_again_after_the_store_lost_it() {
    let dead = [Activity(0, 0), Activity(1, 0), Pass(1_500), Logout(0, 0), Pass(4_000), StoreForgets];
    // The other replica has never heard of the session.
    holds(60, &[&dead[..], &[Activity(2, 0), Pass(3_000), Activity(2, 0), Activity(1, 0), Pass(2_000)]].concat());
    let ends_only = [Activity(0, 0), Pass(1_500), Logout(0, 0), Pass(2_000), Evict(None), Evict(Some(0))];
    holds(60, &[&ends_only[..], &[Pass(4_500), Activity(2, 0), Pass(3_000)]].concat());
}

#[test]
fn replicas_come_back_one_after_the_other_after_an_outage() {
    // Longer and shorter than the timeout and the grace.
    for (timeout, outage) in [(4, 3_000), (4, 9_000), (7, 40_000), (50, 40_000)] {
        for apart in [0, 3_000, 20_000] {
            let begun = [Activity(0, 0), Activity(1, 0), Activity(2, 1), Pass(1_500), StoreIsDown];
            let during = [Pass(outage), Activity(1, 0), Activity(2, 1), CutOff(1), CutOff(2), StoreIsBack];
            let back = [Pass(apart), Activity(1, 0), Repair(1), Pass(apart), Activity(2, 1), Repair(2), Pass(9_000)];
            holds(timeout, &[&begun[..], &during, &back].concat());
        }
    }
}

#[test]
fn a_small_step_of_the_clock_ends_nothing_early() {
    for step in [300, 600, 1_900, 4_000, -1_900] {
        let begun = [Activity(1, 0), Pass(600), Activity(2, 0), Pass(2_000), Freeze(0), Pass(500), Repair(0)];
        holds(4, &[&begun[..], &[ClockSteps(step), Activity(0, 1), Pass(9_000)]].concat());
    }
}

#[test]
fn dropped_connections_lose_nothing_and_end_nothing_early() {
    for (drops, pause) in [(8, 3_010), (60, 130), (200, 37)] {
        let storm = (0..drops).flat_map(|round| [ConnectionsDrop, Activity(round % 3, round % 3), Pass(pause)]);
        let events: Vec<_> = [Activity(0, 0), Activity(1, 0), Pass(1_500)].into_iter().chain(storm).collect();
        holds(4, &events);
    }
}
