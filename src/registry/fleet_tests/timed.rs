//! Schedules whose moments are set by the store's clock. Each must be noticed to fail where the fault that it is about is put in.

use super::Event::{Activity, CutOff, FailOver, Kill};
use super::{Fleet, World};
use crate::registry::Registry;
use crate::session::{Mode, SessionId};
use std::panic::catch_unwind;

/// More than two calls take.
const MANY: u16 = 450;

/// Runs a schedule, whose sessions time out after 4 s. It begins at a turn of the store's second, some seconds after the start.
fn run(world: World, schedule: impl AsyncFnOnce(Moments)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let fleet = Fleet::start(world).await;
        let turn = fleet.shared.lock().epoch() / 1000 * 1000 + 4_000;
        schedule(Moments { fleet, turn }).await;
    });
}

/// Whether a schedule fails.
fn fails(schedule: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    catch_unwind(schedule).is_err()
}

struct Moments {
    fleet: Fleet,
    /// The store's time at which the schedule begins, in epoch milliseconds.
    turn: u64,
}

impl Moments {
    /// Passes the time until so many milliseconds after the turn.
    async fn at(&mut self, milliseconds: i64) -> &mut Fleet {
        let now = self.fleet.shared.lock().epoch();
        self.fleet.pass(self.turn.checked_add_signed(milliseconds).unwrap().saturating_sub(now)).await;
        &mut self.fleet
    }

    /// Many sessions begin on two replicas, and are active just before the turn.
    async fn two_know_many(&mut self) {
        for at in [-3_000, -100] {
            self.at(at).await;
            self.many_are_active(0);
            self.many_are_active(1);
        }
    }

    /// Many sessions are active on a replica.
    fn many_are_active(&mut self, number: usize) {
        for who in 0..MANY {
            self.fleet.replicas[number].activity(SessionId::of_token(&who.to_be_bytes()));
        }
    }
}

/// Activity after a report that is held up on its way, so that its mark would cover it if it were sent as an age.
fn a_report_is_held_up(world: World, held_up: u64) {
    run(world, async |mut moments| {
        let fleet = moments.at(-100).await;
        for number in [0, 1] {
            fleet.apply(Activity(number, 0)).await;
        }
        moments.at(2_900).await.shared.lock().hold_up(1, held_up);
        moments.at(3_500).await.apply(Activity(1, 0)).await;
        moments.at(3_900).await.apply(CutOff(1)).await;
        moments.at(9_000).await;
    });
}

#[test]
fn a_mark_is_held_up_on_the_way() {
    let world = |seed, fault| World { fault, ..World::new(4, seed, 3) };
    let as_an_age = ("math.min(base + synced_to, now_ms)", "now_ms - (sent - synced_to)");
    for held_up in [1_100, 1_400, 2_000, 3_000] {
        a_report_is_held_up(world(1, None), held_up);
    }
    assert!(fails(|| a_report_is_held_up(world(1, Some(as_an_age)), 1_400)), "a mark may be sent as an age");
}

/// The connection is lost between the calls of one report: the activity in the later ones does not arrive.
fn a_report_breaks_off(world: World, at: i64) {
    run(world, async |mut moments| {
        moments.two_know_many().await;
        moments.at(3_850).await;
        moments.many_are_active(1);
        moments.at(4_000 + at).await.apply(CutOff(1)).await;
        moments.at(9_000).await;
    });
}

#[test]
fn a_mark_never_comes_before_the_activity_that_it_covers() {
    let world = |seed, marks_first| World { marks_first, ..World::new(4, seed, 120) };
    let all = || (1..3).flat_map(|seed| [250, 350, 450].map(|at| (seed, at)));
    for (seed, at) in all() {
        a_report_breaks_off(world(seed, false), at);
    }
    let is_noticed = all().any(|(seed, at)| fails(|| a_report_breaks_off(world(seed, true), at)));
    assert!(is_noticed, "a mark may come in the first call of a report");
}

/// The acknowledged activity is lost. What is reported again takes several calls, and then breaks off.
fn a_resync_breaks_off(world: World, at: i64) {
    run(world, async |mut moments| {
        moments.two_know_many().await;
        moments.at(3_000).await;
        moments.many_are_active(1);
        moments.at(4_200).await.apply(FailOver(1_300, 0)).await;
        moments.at(4_000 + at).await.apply(CutOff(1)).await;
        moments.at(9_000).await;
    });
}

#[test]
fn no_mark_goes_on_while_a_resync_takes_several_calls() {
    let world = |fault| World { fault, ..World::new(4, 1, 60) };
    for at in [400, 520, 640, 2_000] {
        a_resync_breaks_off(world(None), at);
    }
    let unnoticed_loss = ("local lost = own ~= nil and own.call < confirmed", "local lost = false");
    assert!(fails(|| a_resync_breaks_off(world(Some(unnoticed_loss)), 2_000)), "a mark may go on after a loss");
}

/// The fleet is switched off by one version, and on again by the next one, after all replicas were replaced by the other version.
fn the_fleet_is_off_while_versions_change(world: World) {
    run(world, async |mut moments| {
        let fleet = moments.at(0).await;
        let all_are = |fleet: &Fleet, mode| fleet.replicas.iter().all(|replica| replica.registry.mode() == mode);
        for number in 0..3 {
            fleet.apply(Activity(number, number)).await;
        }
        fleet.pass(1_500).await;
        fleet.replicas[0].switch_fleet(Mode::Off);
        fleet.pass(1_500).await;
        assert!(all_are(fleet, Mode::Off), "not obeyed by all");
        for number in 0..3 {
            fleet.apply(Kill(number)).await;
            fleet.pass(1_500).await;
            fleet.apply(Activity(number, number)).await;
            assert!(all_are(fleet, Mode::Off), "not obeyed by one that comes later");
        }
        fleet.pass(40_000).await;
        assert!(fleet.shared.lock().witness.ends.is_empty(), "a session has ended in a fleet that is off");
        fleet.replicas[0].switch_fleet(Mode::Enforce);
        fleet.pass(1_500).await;
        for number in 0..3 {
            fleet.apply(Activity(number, number)).await;
        }
        fleet.pass(3_900).await;
        assert!(all_are(fleet, Mode::Enforce) && fleet.shared.lock().witness.ends.is_empty(), "time in `off` counts");
        fleet.pass(4_000).await;
        assert_eq!(fleet.shared.lock().witness.ends.len(), 3, "{:?}", fleet.shared.lock().facts());
    });
}

#[test]
fn a_fleet_stays_off_across_a_change_of_the_schema() {
    let world = |fault| World { has_next_version: true, fault, ..World::new(4, 1, 60) };
    the_fleet_is_off_while_versions_change(world(None));
    for fault in [
        ("local fleet = redis.pcall('GET', fleet_key) or ''", "local fleet = ''"),
        ("if uncounted or newest == 0", "if newest == 0"),
    ] {
        assert!(fails(|| the_fleet_is_off_while_versions_change(world(Some(fault)))), "{fault:?}");
    }
}

/// A connection that drops between two calls of a report loses nothing, and no outage is noticed.
#[test]
fn a_connection_drops_between_the_calls_of_one_report() {
    for seed in 0..4 {
        run(World::new(4, seed, 60), async |mut moments| {
            for round in 0..4 {
                moments.many_are_active(0);
                // A report begins soon after the turn of the second, and takes three calls of up to 120 ms.
                let after = i64::try_from(1_250 * round + 47 * (seed + round)).unwrap();
                let fleet = moments.at(after).await;
                fleet.shared.lock().drop_connections();
                let is_taken = |registry: &Registry| registry.store.status().is_none_or(|status| status.takes);
                for _ in 0..20 {
                    fleet.pass(50).await;
                    let all_take = fleet.replicas.iter().all(|replica| is_taken(&replica.registry));
                    assert!(all_take, "an outage, seed {seed}");
                }
            }
            moments.fleet.pass(12_000).await;
            assert_eq!(moments.fleet.shared.lock().witness.ends.len(), usize::from(MANY), "seed {seed}");
        });
    }
}
