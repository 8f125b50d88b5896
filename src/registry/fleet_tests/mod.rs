//! Several registries share one store in simulated time: random activity and logouts, while replicas are suspended, cut
//! off or killed, and the store is slow, out, or loses its data. Each replica has its own clock, and every message is
//! delayed.

mod faults;
mod histories;
mod replica;
mod store;
mod timed;
mod witness;

use crate::session::{Limits, Mode, SessionId};
use parking_lot::Mutex;
use proptest::prelude::*;
use replica::Replica;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use store::Shared;
use tokio::time::sleep;
use witness::EPOCH;

const GRACE: u64 = 30_000;

/// The interval between two checks for sessions that live too long, in milliseconds.
const CHECK_INTERVAL: u64 = 250;

/// How long after a fault all delayed work is done, in milliseconds.
const SETTLED_AFTER: u64 = 3_500;

/// What a schedule runs in.
#[derive(Clone, Copy, Debug)]
struct World {
    /// The idle timeout, in seconds.
    timeout: u64,
    /// Decides how long each message takes.
    seed: u64,
    /// How long a message takes, at most, in milliseconds.
    distance: u64,
    /// Some replicas are of the next version.
    has_next_version: bool,
    /// A fault in the script.
    fault: Option<(&'static str, &'static str)>,
    /// A fault in the replicas: each call of a report carries its mark.
    marks_first: bool,
}

impl World {
    fn new(timeout: u64, seed: u64, distance: u64) -> Self {
        Self { timeout, seed, distance, has_next_version: false, fault: None, marks_first: false }
    }
}

struct Fleet {
    shared: Arc<Mutex<Shared>>,
    replicas: Vec<Replica>,
    born: usize,
    /// How often each user has logged in.
    logins: [usize; 3],
    /// Since when all replicas have also reported in time.
    well_since: u64,
}

impl Fleet {
    async fn start(world: World) -> Self {
        let World { timeout, seed, distance, has_next_version, fault, marks_first } = world;
        let limits = Limits { timeout, lifetime: None, retention: 172_800 };
        let mut shared = Shared::new(limits, seed, distance);
        (shared.has_next_version, shared.fault, shared.marks_first) = (has_next_version, fault, marks_first);
        let shared = Arc::new(Mutex::new(shared));
        let replicas = (0..3).map(|number| Replica::start(&shared, number)).collect();
        let mut fleet = Self { shared, replicas, born: 3, logins: [0; 3], well_since: 0 };
        // The store does not wait for a replica that has never reached it. So let all of them report once.
        fleet.pass(4 * distance).await;
        fleet
    }

    async fn pass(&mut self, milliseconds: u64) {
        let mut left = milliseconds;
        while left > 0 {
            let step = left.min(CHECK_INTERVAL);
            sleep(Duration::from_millis(step)).await;
            left -= step;
            self.check();
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Pass(milliseconds) => self.pass(milliseconds).await,
            Event::Activity(number, who) => {
                let id = self.session_of(who);
                self.replicas[number].activity(id);
            }
            Event::Twice(number, who, pause) => {
                let id = self.session_of(who);
                self.replicas[number].activity(id);
                self.pass(pause).await;
                self.replicas[number].activity(id);
            }
            Event::Logout(number, who) => {
                let id = self.session_of(who);
                self.replicas[number].log_out(id);
            }
            Event::CutOff(number) => self.replicas[number].cut_off.store(true, Ordering::Release),
            Event::Freeze(number) => self.replicas[number].freeze(),
            Event::Kill(number) => {
                self.shared.lock().running.remove(&self.replicas[number].number);
                self.replicas[number] = Replica::start(&self.shared, self.born);
                self.born += 1;
            }
            Event::Repair(number) => self.repair(number),
            Event::StoreIsDown => self.shared.lock().is_down = true,
            Event::StoreIsSlow => self.shared.lock().is_slow = true,
            // The store cannot tell two losses apart if the second comes before the resync of the first, and a response
            // is lost as well.
            Event::StoreForgets => {
                let mut shared = self.shared.lock();
                if shared.now() - shared.calm_since.max(self.well_since) > SETTLED_AFTER {
                    shared.forget();
                }
            }
            Event::StoreIsBack => self.repair_store(),
            Event::FailOver(lag, step) => {
                let mut shared = self.shared.lock();
                shared.fail_over(lag, step);
                shared.calm_since = shared.now();
                shared.resubscribe();
            }
            Event::Evict(who) => {
                let id = who.map(|who| self.session_of(who));
                let mut shared = self.shared.lock();
                shared.evict(id);
                shared.calm_since = shared.now();
            }
            Event::ClockSteps(by) => self.shared.lock().set_clock(by, 1_000),
            Event::ClockRuns(rate) => self.shared.lock().set_clock(0, rate),
            Event::ConnectionsDrop => self.shared.lock().drop_connections(),
            Event::MessagesRepeat => self.shared.lock().repeats = true,
            Event::Switch(number, mode) => self.replicas[number].switch(mode),
        }
        self.check();
    }

    /// The session of a user. A user whose session ended more than 2 s ago logs in again.
    fn session_of(&mut self, who: usize) -> SessionId {
        let of = |logins: usize| SessionId::of_token(format!("{who}, login {logins}").as_bytes());
        let shared = self.shared.lock();
        let now = shared.now();
        if shared.witness.ends.get(&of(self.logins[who])).is_some_and(|ended| now - ended > 2_000) {
            self.logins[who] += 1;
        }
        of(self.logins[who])
    }

    fn repair(&self, number: usize) {
        let replica = &self.replicas[number];
        replica.cut_off.store(false, Ordering::Release);
        replica.thaw();
        replica.switch(Mode::Enforce);
        // The replica subscribes again.
        self.shared.lock().resubscribe();
    }

    fn repair_store(&self) {
        let mut shared = self.shared.lock();
        (shared.is_down, shared.is_slow, shared.repeats) = (false, false, false);
        if !shared.clock_is_exact() {
            shared.set_clock(0, 1_000);
        }
        shared.resubscribe();
    }

    /// Checks that no session lives too long on any replica.
    fn check(&mut self) {
        let mut shared = self.shared.lock();
        let now = shared.now();
        let is_exact = shared.clock_is_exact() && !shared.repeats;
        let enforces = self.replicas.iter().all(|replica| replica.registry.mode() == Mode::Enforce);
        let is_well = self.replicas.iter().all(Replica::is_well);
        if shared.is_down || shared.is_slow || !is_exact || !enforces || !is_well {
            shared.calm_since = now;
        }
        let marks = shared.marks();
        let reports = |replica: &Replica| marks.get(&replica.number);
        let in_time = |mark: Option<&u64>| mark.is_some_and(|mark| shared.epoch().saturating_sub(*mark) <= 1_500);
        let all_report = self.replicas.iter().all(|replica| in_time(reports(replica)));
        if !all_report || marks.len() > self.replicas.len() || shared.waits_for_replicas() {
            self.well_since = now;
        }
        let settled = |since: u64| now - since > SETTLED_AFTER;
        let (calm, well) = (settled(shared.calm_since), settled(shared.calm_since.max(self.well_since)));
        let limit = shared.limits.timeout * 1000;
        // Some more messages are needed, and each takes up to `distance`.
        let late = limit + 2_000 + 6 * shared.distance;
        let all: Vec<_> = shared.witness.all().collect();
        for (id, seen) in all {
            // Activity that arrives late may count from its arrival.
            let counting = shared.counting();
            let arrived = shared.record(id).map_or(counting, |record| record.idle_since.max(counting));
            let arrived = now.saturating_sub(shared.epoch().saturating_sub(arrived * 1000));
            let last = seen.max(arrived);
            let live = |replica: &&Replica| {
                let known = replica.registry.table.known(id);
                known.is_some_and(|session| session.ended().is_none())
            };
            let Some(replica) = self.replicas.iter().find(live) else { continue };
            let lives = |what: String| format!("{what} lives on replica {}", replica.number);
            // A session that only a killed replica knew has no connection left. It is judged at its next lookup.
            let objection = match shared.witness.ends.get(&id) {
                // The end may arrive while the session begins here, after the store lost it: the next report finds
                // the end.
                Some(ended) if calm && now - ended > 1_000 + 2 * shared.distance => {
                    Some(lives(format!("dead for {} ms, it", now - ended)))
                }
                None if well && now - last > late => Some(lives(format!("idle for {} ms, it", now - last))),
                _ => None,
            };
            if let Some(objection) = objection {
                shared.witness.object(objection);
            }
        }
        let dead: Vec<_> = shared.witness.dead().collect();
        let unsynced = dead.into_iter().find(|(id, replica)| {
            let is_known = shared.record(*id).is_some_and(|record| record.is_ended);
            !is_known && self.replicas.iter().any(|other| other.number == *replica)
        });
        if well && let Some((_, replica)) = unsynced {
            shared.witness.object(format!("replica {replica} knows of an end, and the store does not"));
        }
        shared.witness.assert_no_objections();
    }
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Activity(usize, usize),
    /// The second frame may come while the first is being reported.
    Twice(usize, usize, u64),
    Logout(usize, usize),
    CutOff(usize),
    Freeze(usize),
    Kill(usize),
    Repair(usize),
    StoreIsDown,
    StoreIsSlow,
    StoreForgets,
    StoreIsBack,
    /// To a server that lacks the last milliseconds, and whose clock is ahead by some.
    FailOver(u64, i64),
    /// The record of the user's session is lost, or all ends.
    Evict(Option<usize>),
    ClockSteps(i64),
    /// In thousandths of the true rate.
    ClockRuns(u64),
    /// All connections, at once.
    ConnectionsDrop,
    MessagesRepeat,
    Switch(usize, Mode),
}

fn event() -> impl Strategy<Value = Event> {
    let (replica, who) = (0usize..3, 0usize..3);
    let mode = prop_oneof![Just(Mode::Observe), Just(Mode::Off)];
    let step = || prop_oneof![Just(0), -8_000i64..8_000, Just(300_000)];
    prop_oneof![
        30 => (0u64..4_000).prop_map(Event::Pass),
        10 => (0u64..100).prop_map(Event::Pass),
        30 => (replica.clone(), who.clone()).prop_map(|(replica, who)| Event::Activity(replica, who)),
        20 => (replica.clone(), who.clone(), 0u64..1_000).prop_map(|(replica, who, pause)| Event::Twice(replica, who, pause)),
        1 => (replica.clone(), who.clone()).prop_map(|(replica, who)| Event::Logout(replica, who)),
        2 => replica.clone().prop_map(Event::CutOff),
        2 => replica.clone().prop_map(Event::Freeze),
        1 => replica.clone().prop_map(Event::Kill),
        // As many repairs as faults.
        8 => replica.clone().prop_map(Event::Repair),
        1 => Just(Event::StoreIsDown),
        1 => Just(Event::StoreIsSlow),
        2 => Just(Event::StoreForgets),
        1 => (0u64..1_500, step()).prop_map(|(lag, step)| Event::FailOver(lag, step)),
        2 => proptest::option::of(who).prop_map(Event::Evict),
        1 => step().prop_map(Event::ClockSteps),
        1 => (950u64..1_050).prop_map(Event::ClockRuns),
        2 => Just(Event::ConnectionsDrop),
        1 => Just(Event::MessagesRepeat),
        1 => (replica, mode).prop_map(|(replica, mode)| Event::Switch(replica, mode)),
        4 => Just(Event::StoreIsBack),
    ]
}

/// Applies the events to a fleet, then repairs everything and checks that all sessions end.
fn run_fleet(world: World, events: impl IntoIterator<Item = Event>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut fleet = Fleet::start(world).await;
        for event in events {
            fleet.apply(event).await;
        }
        // Everything is repaired, and every remaining session must be cut.
        for number in 0..3 {
            fleet.repair(number);
        }
        fleet.repair_store();
        let left = {
            let shared = fleet.shared.lock();
            shared.clock_settles.saturating_sub(shared.now())
        };
        // A repeated message may still be on its way.
        fleet.pass(left.clamp(15_000, 30_000)).await;
        // A replica that is gone is waited for, for the grace.
        let shared = Arc::clone(&fleet.shared);
        let has_settled = |fleet: &Fleet| shared.lock().now() - fleet.well_since > SETTLED_AFTER;
        for _ in 0..2 * GRACE / 1000 {
            if !has_settled(&fleet) {
                fleet.pass(1_000).await;
            }
        }
        let facts = shared.lock().facts();
        assert!(has_settled(&fleet), "the fleet has not settled at the end: {facts:?}");
        fleet.pass(world.timeout * 1000 + 6_000).await;
        let all: Vec<_> = fleet.shared.lock().witness.all().map(|(id, _)| id).collect();
        for id in all {
            for replica in &fleet.replicas {
                let is_live = replica.is_live(id).await;
                let stored = shared.lock().record(id);
                assert!(!is_live, "alive on replica {}: {stored:?}, {:?}", replica.number, shared.lock().facts());
            }
        }
        fleet.check();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_fleet_ends_each_session_once_and_in_time(
        timeout in 1u64..8,
        seed in any::<u64>(),
        distance in prop_oneof![Just(3u64), Just(60), Just(240)],
        has_next_version in any::<bool>(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run_fleet(World { has_next_version, ..World::new(timeout, seed, distance) }, events);
    }
}

/// Activity before a logout during an outage is covered by the replica's report, though the end itself is reported
/// later.
#[test]
fn activity_before_a_logout_in_an_outage_is_not_lost() {
    use Event::{Activity, CutOff, Kill, Logout, Pass, Repair, StoreForgets, StoreIsBack, StoreIsDown, Twice};
    let before = [Pass(87), Pass(3482), Pass(1156), Pass(3844), Pass(2074), StoreForgets, Activity(0, 0)];
    let meanwhile = [Twice(0, 2, 64), CutOff(2), Pass(2576), Kill(2), Twice(0, 0, 748), Twice(1, 2, 557), Pass(1251)];
    let forgotten =
        [Pass(3227), Twice(0, 0, 302), StoreForgets, Twice(0, 0, 997), Repair(0), Twice(0, 0, 69), Pass(48)];
    let outage = [StoreIsDown, Activity(2, 0), Activity(1, 1), Kill(0), Twice(0, 1, 822), Pass(2737), Twice(1, 0, 160)];
    let logout =
        [Twice(1, 0, 650), Pass(3473), Twice(0, 1, 674), Pass(3385), Twice(1, 2, 534), Pass(1470), Logout(0, 1)];
    let back = [Pass(3121), Twice(0, 0, 769), StoreIsBack, Pass(0)];
    let all = [&before[..], &meanwhile, &forgotten, &outage, &logout, &back].concat();
    run_fleet(World::new(5, 16_160_512_467_995_531_575, 240), all);
}

#[test]
fn an_end_is_found_by_the_next_report_without_a_notification() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let id = SessionId::of_token(b"ada");
        let mut fleet = Fleet::start(World::new(3_600, 1, 3)).await;
        for replica in &mut fleet.replicas {
            replica.activity(id);
        }
        sleep(Duration::from_secs(2)).await;
        let lives = |replica: &Replica| replica.registry.table.known(id).unwrap().ended().is_none();
        assert!(fleet.replicas.iter().all(lives));
        // Only the notification is lost.
        fleet.shared.lock().is_mute = true;
        fleet.replicas[0].log_out(id);
        sleep(Duration::from_millis(1_100)).await;
        assert!(!fleet.replicas.iter().any(lives), "the next report did not tell the end");
    });
}

#[test]
fn activity_during_a_report_is_reported_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut fleet = Fleet::start(World::new(3_600, 1, 240)).await;
        // Two frames per session, a second apart, at every phase of the second: for some sessions a report is sent
        // between the two.
        for _ in 0..2 {
            for who in 0..25 {
                fleet.replicas[0].activity(SessionId::of_token(&[who]));
                sleep(Duration::from_millis(40)).await;
            }
        }
        // Longer than activity waits, and two reports.
        sleep(Duration::from_secs(7)).await;
        let mut shared = fleet.shared.lock();
        let all: Vec<_> = shared.witness.all().collect();
        for (id, last) in all {
            assert!(
                shared.record(id).unwrap().last_activity >= (EPOCH + last) / 1000,
                "not reported: activity at {last} ms"
            );
        }
    });
}

#[test]
fn an_outage_longer_than_the_grace_ends_no_session_that_is_active() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let timeout = 10;
        for (seed, distance) in [(1, 3), (2, 60), (3, 240)] {
            let mut fleet = Fleet::start(World::new(timeout, seed, distance)).await;
            // All replicas know all users. Then each user is active on one of them, all the time.
            for (number, who) in (0..3).flat_map(|number| (0..3).map(move |who| (number, who))) {
                fleet.apply(Event::Activity(number, who)).await;
            }
            let go_on = async |fleet: &mut Fleet, seconds: u64| {
                for _ in 0..seconds {
                    for number in 0..3 {
                        fleet.apply(Event::Activity(number, number)).await;
                    }
                    fleet.apply(Event::Pass(1_000)).await;
                }
            };
            go_on(&mut fleet, 5).await;
            fleet.apply(Event::StoreIsDown).await;
            // A gap of more than a minute would restart counting in any case.
            go_on(&mut fleet, 40).await;
            // One of them reaches the store again well before the others.
            for number in [1, 2] {
                fleet.apply(Event::CutOff(number)).await;
            }
            fleet.apply(Event::StoreIsBack).await;
            go_on(&mut fleet, 4).await;
            for number in [1, 2] {
                fleet.apply(Event::Repair(number)).await;
            }
            go_on(&mut fleet, 20).await;
            assert!(fleet.shared.lock().witness.ends.is_empty(), "an active session was ended");
            // A replica that is silent by itself is still struck off, and its session ends.
            fleet.apply(Event::Kill(2)).await;
            fleet.apply(Event::Pass(GRACE + timeout * 1000 + 6_000)).await;
            assert!(!fleet.shared.lock().witness.ends.is_empty(), "no session ends any more");
        }
    });
}
