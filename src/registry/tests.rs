//! The timing core in simulated time: random schedules of activity, cuts and reconnects.

use super::{Registry, Resolved, Services};
use crate::clock::{Clock, Moment};
use crate::session::{Limits, Reason, SessionId, Source};
use crate::store::{MemoryStore, Touch};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A registry with its store, in simulated time.
pub(super) struct World {
    time: Arc<AtomicU64>,
    pub(super) registry: Arc<Registry>,
    limits: Limits,
}

impl World {
    pub(super) fn new(limits: Limits, epoch: u64) -> Self {
        Self::with_room(limits, epoch, 1000)
    }

    fn with_room(limits: Limits, epoch: u64, max_sessions: usize) -> Self {
        let time = Arc::new(AtomicU64::new(77_777));
        let clock = Clock::simulated(Arc::clone(&time));
        let store = MemoryStore::new(limits, clock.clone(), epoch);
        let registry = Arc::new(Registry::new(Services::new(Box::new(store), clock, limits), max_sessions));
        Self { time, registry, limits }
    }

    pub(super) fn now(&self) -> Moment {
        Moment(self.time.load(Ordering::Acquire))
    }

    /// Lets `milliseconds` pass as the real loop does: each round runs at the time that the previous one returned.
    pub(super) async fn pass(&self, milliseconds: u64) {
        let until = self.now().plus(milliseconds);
        loop {
            let next = self.registry.exchange.round().await.max(self.now().plus(1));
            if next > until {
                break;
            }
            self.time.store(next.0, Ordering::Release);
        }
        self.time.store(until.0, Ordering::Release);
    }

    pub(super) async fn is_live(&self, id: SessionId) -> bool {
        matches!(self.registry.table.resolve(id).await, Resolved::Live(_))
    }

    pub(super) async fn is_dead(&self, id: SessionId) -> bool {
        matches!(self.registry.table.resolve(id).await, Resolved::Ended(_))
    }

    pub(super) fn touch(&self, id: SessionId, source: Source) {
        self.registry.table.known(id).unwrap().touch(self.now(), source);
    }
}

pub(super) fn id(token: &str) -> SessionId {
    SessionId::of_token(token.as_bytes())
}

pub(super) fn limits(timeout: u64) -> Limits {
    Limits { timeout, lifetime: None, retention: 172_800 }
}

pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test)
}

/// A suspended machine does not count idle time. A suspension of up to a minute still counts as idle time here.
#[test]
fn a_suspension_of_more_than_a_minute_restarts_idle_time() {
    for gap in [59_000, 61_000, 7_200_000] {
        run(async {
            let world = World::new(limits(3600), SPRING);
            world.registry.table.accept(id("ada"), None, None).await;
            world.pass(3_590_000).await;
            world.time.fetch_add(gap, Ordering::AcqRel);
            if gap < 60_000 {
                world.pass(2_000).await;
                assert!(world.is_dead(id("ada")).await, "a gap of {gap} ms must count as idle time");
                return;
            }
            // A round or a request may come first.
            assert!(world.is_live(id("ada")).await, "cut for {gap} ms that did not count");
            world.pass(3_599_000).await;
            assert!(world.is_live(id("ada")).await, "cut early after {gap} ms");
            world.pass(4_000).await;
            assert!(world.is_dead(id("ada")).await, "never cut after {gap} ms");
        });
    }
}

/// Europe changes to DST on Sunday 2026-03-29 at 01:00 UTC, and back on 2026-10-25 at 01:00 UTC.
pub(super) const SPRING: u64 = 1_774_746_000_000;
const AUTUMN: u64 = 1_792_890_000_000;

#[test]
fn a_dst_change_does_not_affect_the_timeout() {
    for (change, before) in [(SPRING, 1_800_000), (AUTUMN, 1_800_000), (SPRING, 10), (AUTUMN, 3_599_990)] {
        run(async {
            let world = World::new(limits(3600), change - before);
            world.registry.table.accept(id("ada"), None, None).await;
            world.pass(3_600_000).await;
            assert!(world.is_live(id("ada")).await, "cut early");
            world.pass(2_000).await;
            assert!(world.is_dead(id("ada")).await, "not cut in time");
        });
    }
}

#[test]
fn a_session_with_regular_activity_never_expires() {
    run(async {
        let world = World::new(limits(3600), SPRING);
        world.registry.table.accept(id("ada"), None, None).await;
        for _ in 0..20 {
            world.pass(3_599_000).await;
            world.touch(id("ada"), Source::ClientPong);
        }
        assert!(world.is_live(id("ada")).await);
    });
}

#[test]
fn an_awaited_response_keeps_its_session_active() {
    run(async {
        let world = World::new(limits(10), SPRING);
        let Resolved::Live(session) = world.registry.table.accept(id("ada"), None, None).await else {
            panic!("not begun")
        };
        let awaited = super::AwaitingResponse::new(session);
        world.pass(100_000).await;
        assert!(world.is_live(id("ada")).await);
        drop(awaited);
        world.pass(12_000 + 10_000).await;
        assert!(world.is_dead(id("ada")).await);
    });
}

#[test]
fn the_lifetime_ends_even_an_active_session() {
    run(async {
        let world = World::new(Limits { lifetime: Some(30), ..limits(10) }, SPRING);
        world.registry.table.accept(id("ada"), None, None).await;
        for second in 0..30 {
            assert!(world.is_live(id("ada")).await, "after {second} s");
            world.touch(id("ada"), Source::ClientFrame);
            world.pass(1000).await;
        }
        world.pass(2000).await;
        assert!(world.is_dead(id("ada")).await);
        let ended = *world.registry.table.known(id("ada")).unwrap().ended().unwrap();
        assert_eq!(ended.reason, Reason::Lifetime);
    });
}

#[test]
fn an_ended_session_is_remembered_for_exactly_the_retention() {
    run(async {
        let world = World::new(Limits { retention: 60, ..limits(10) }, SPRING);
        let Resolved::Live(session) = world.registry.table.accept(id("ada"), None, None).await else {
            panic!("not begun")
        };
        world.registry.table.end(&session, Reason::Logout).await;
        for _ in 0..59 {
            assert!(world.is_dead(id("ada")).await);
            assert!(matches!(world.registry.table.accept(id("ada"), None, None).await, Resolved::Ended(_)), "revived");
            world.pass(1000).await;
        }
        world.pass(3000).await;
        assert!(world.registry.table.known(id("ada")).is_none(), "kept in memory for ever");
        assert!(matches!(world.registry.table.resolve(id("ada")).await, Resolved::Unknown));
    });
}

#[test]
fn max_sessions_is_enforced_and_an_end_frees_a_place() {
    run(async {
        let world = World::with_room(limits(10), SPRING, 2);
        world.registry.table.accept(id("one"), None, None).await;
        world.registry.table.accept(id("two"), None, None).await;
        assert!(matches!(world.registry.table.accept(id("three"), None, None).await, Resolved::Unknown));
        assert!(world.is_live(id("one")).await, "a known session was dropped");
        assert_eq!(world.registry.metrics().untracked.get(), 1);
        world.pass(12_000).await;
        assert!(matches!(world.registry.table.accept(id("three"), None, None).await, Resolved::Live(_)));
    });
}

/// The store remembers those that were forgotten here.
#[test]
fn remembered_ends_are_bounded_and_the_tokens_stay_dead() {
    run(async {
        let world = World::with_room(limits(10), SPRING, 100);
        let token = |number: usize| id(&format!("token {number}"));
        for number in 0..400 {
            world.registry.table.accept(token(number), None, None).await;
            let session = world.registry.table.known(token(number)).unwrap();
            world.registry.table.end(&session, Reason::Logout).await;
        }
        let remembered = (0..400).filter(|number| world.registry.table.known(token(*number)).is_some()).count();
        assert!((90..=116).contains(&remembered), "{remembered}");
        assert_eq!(world.registry.metrics().remembered_ends.get(), i64::try_from(remembered).unwrap());
        for number in 0..400 {
            assert!(world.is_dead(token(number)).await, "{number}");
        }
    });
}

#[test]
fn max_sessions_holds_for_sessions_that_the_store_knows() {
    run(async {
        let world = World::with_room(limits(10), SPRING, 2);
        let store = &world.registry.services.store;
        for token in ["one", "two", "three"] {
            let touch = Touch { id: id(token), age: 0, source: Source::Request, created_age: 0, begins: true };
            store.begin(touch).await.unwrap();
        }
        assert!(world.is_live(id("one")).await && world.is_live(id("two")).await);
        assert!(matches!(world.registry.table.resolve(id("three")).await, Resolved::Unknown));
        assert_eq!(world.registry.inspect.overview().live, 2);
    });
}

/// One step of a random schedule.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Touch(usize),
    Reconnect(usize),
    Logout(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..9_000).prop_map(Event::Pass),
        4 => (0usize..3).prop_map(Event::Touch),
        3 => (0usize..3).prop_map(Event::Reconnect),
        1 => (0usize..3).prop_map(Event::Logout),
    ]
}

proptest! {
    /// Compared with the simplest model: the last activity of each session, in milliseconds.
    #[test]
    fn never_early_never_late_and_dead_stays_dead(
        timeout in 1u64..8,
        phase in 0u64..1000,
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(async {
            let world = World::new(limits(timeout), SPRING + phase);
            let ids = [id("ada"), id("bob"), id("eve")];
            let mut last: [Option<Moment>; 3] = [None; 3];
            let mut dead = [false; 3];
            for event in events {
                match event {
                    Event::Pass(milliseconds) => world.pass(milliseconds).await,
                    Event::Touch(who) => if last[who].is_some() {
                        world.touch(ids[who], Source::ClientFrame);
                        if !dead[who] && world.is_live(ids[who]).await {
                            last[who] = Some(world.now());
                        }
                    },
                    Event::Reconnect(who) => {
                        let resolved = world.registry.table.accept(ids[who], None, None).await;
                        if last[who].is_none() {
                            last[who] = Some(world.now());
                        }
                        assert!(!(dead[who] && matches!(resolved, Resolved::Live(_))), "revived");
                    }
                    Event::Logout(who) => if let Resolved::Live(session) = world.registry.table.resolve(ids[who]).await {
                        world.registry.table.end(&session, Reason::Logout).await;
                        dead[who] = true;
                    },
                }
                for who in 0..3 {
                    let Some(last) = last[who] else { continue };
                    let idle = world.now().since(last);
                    let is_dead = world.is_dead(ids[who]).await;
                    assert!(is_dead || !dead[who], "revived");
                    if !dead[who] {
                        assert!(!is_dead || idle > world.limits.timeout * 1000, "cut early: idle {idle} ms");
                        assert!(is_dead || idle <= world.limits.timeout * 1000 + 2000, "cut late: idle {idle} ms");
                    }
                    dead[who] = is_dead;
                }
            }
        });
    }
}
