//! Behaviour with a store that is out, slow, or during whose calls something else happens.

use super::tests::{SPRING, id, limits, run};
use super::{Registry, Resolved, Services, Switch};
use crate::clock::{Clock, Moment};
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId, Source};
use crate::store::{
    Due, Ended, Issued, Knowledge, Known, MemoryStore, Reply, ReplyFuture, Report, Store, StoreError, StoreFuture,
    Touch,
};
use parking_lot::Mutex;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A store in memory with injected faults.
struct Troubled {
    memory: MemoryStore,
    is_out: AtomicBool,
    lookups: AtomicUsize,
    verdicts: AtomicUsize,
    reports: AtomicUsize,
    /// Run during the next report of an end, or the one after it.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Run after the next report, before its reply arrives.
    on_the_way_back: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Troubled")
    }
}

impl Troubled {
    fn unless_out<T: Send + 'static>(&self, answer: impl FnOnce() -> T) -> StoreFuture<'_, T> {
        let is_out = self.is_out.load(Ordering::Relaxed);
        Box::pin(ready(if is_out { Err(StoreError::Unavailable("out".to_owned())) } else { Ok(answer()) }))
    }

    fn let_it_happen(&self) {
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }
}

impl Store for Arc<Troubled> {
    fn kind(&self) -> &'static str {
        "troubled"
    }

    fn now(&self) -> Option<u64> {
        self.let_it_happen();
        self.memory.now()
    }

    fn counting(&self) -> EpochSeconds {
        self.memory.counting()
    }

    fn knowledge(&self) -> Knowledge {
        self.memory.knowledge()
    }

    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()> {
        self.memory.issue(issued)
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let is_out = self.is_out.load(Ordering::Relaxed);
        if is_out { self.unless_out(|| Known::Unknown) } else { self.memory.lookup(id) }
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        self.memory.begin(touch)
    }

    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a> {
        self.reports.fetch_add(1, Ordering::Relaxed);
        self.verdicts.fetch_add(report.due.len(), Ordering::Relaxed);
        if self.is_out.load(Ordering::Relaxed) {
            let failed = Some(StoreError::Unavailable("out".to_owned()));
            return Box::pin(ready(Reply { failed, ..Reply::default() }));
        }
        let reply = self.memory.exchange(report);
        if let Some(meanwhile) = self.on_the_way_back.lock().take() {
            meanwhile();
        }
        reply
    }

    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known> {
        let is_out = self.is_out.load(Ordering::Relaxed);
        if is_out { self.unless_out(|| Known::Unknown) } else { self.memory.judge(due, mode) }
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        self.memory.end(id, reason)
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        self.let_it_happen();
        self.memory.end_record(touch, reason)
    }
}

struct World {
    time: Arc<AtomicU64>,
    store: Arc<Troubled>,
    registry: Arc<Registry>,
}

/// A registry with this many sessions, all begun now.
async fn world(sessions: usize) -> World {
    world_with(limits(60), sessions).await
}

async fn world_with(limits: Limits, sessions: usize) -> World {
    let time = Arc::new(AtomicU64::new(77_777));
    let clock = Clock::simulated(Arc::clone(&time));
    let store = Arc::new(Troubled {
        memory: MemoryStore::new(limits, clock.clone(), SPRING),
        is_out: AtomicBool::new(false),
        lookups: AtomicUsize::new(0),
        verdicts: AtomicUsize::new(0),
        reports: AtomicUsize::new(0),
        meanwhile: Mutex::new(None),
        on_the_way_back: Mutex::new(None),
    });
    let registry = Arc::new(Registry::new(Services::new(Box::new(Arc::clone(&store)), clock, limits), 10_000));
    for number in 0..sessions {
        registry.table.accept(id(&number.to_string()), None, None).await;
    }
    World { time, store, registry }
}

impl World {
    /// Passes time in steps, so that counting is not interrupted.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.time.fetch_add(1_000, Ordering::AcqRel);
            self.registry.exchange.round().await;
        }
    }

    async fn live(&self, token: &str) -> Arc<super::TrackedSession> {
        let Resolved::Live(session) = self.registry.table.resolve(id(token)).await else {
            panic!("{token} is not live")
        };
        session
    }
}

#[test]
fn many_verdicts_do_not_delay_the_next_report() {
    run(async {
        let world = world(5_000).await;
        world.pass(60).await;
        world.time.fetch_add(1_000, Ordering::AcqRel);
        let before = world.store.reports.load(Ordering::Relaxed);
        for (round, verdicts) in [2_000, 4_000, 5_000].into_iter().enumerate() {
            world.registry.exchange.round().await;
            assert_eq!(world.store.verdicts.load(Ordering::Relaxed), verdicts);
            assert_eq!(world.store.reports.load(Ordering::Relaxed), before + round + 1);
        }
        assert_eq!(world.registry.inspect.overview().live, 0, "the remaining sessions were not cut later");
    });
}

#[test]
fn a_logout_during_a_change_to_enforce_ends_everywhere_or_nowhere() {
    run(async {
        let world = world(1).await;
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        let session = world.live("0").await;
        let registry = Arc::clone(&world.registry);
        let enforce = move || {
            registry.modes.switch(Switch::Replica, Mode::Enforce, None);
        };
        *world.store.meanwhile.lock() = Some(Box::new(enforce));
        world.registry.table.end(&session, Reason::Logout).await;
        let in_store = matches!(world.store.memory.lookup(session.id()).await, Ok(Known::Ended(_)));
        assert_eq!(session.ended().is_some(), in_store, "ended on this replica, but not in the store");
    });
}

/// The store has only said what would end. Activity that came since must count.
#[test]
fn a_verdict_asked_for_in_observe_ends_nothing_once_the_mode_enforces() {
    run(async {
        let world = world(1).await;
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        world.pass(60).await;
        let session = world.live("0").await;
        let (registry, active) = (Arc::clone(&world.registry), Arc::clone(&session));
        let enforce = move || {
            registry.modes.switch(Switch::Replica, Mode::Enforce, None);
            active.touch(registry.clock().now(), Source::ClientFrame);
        };
        *world.store.on_the_way_back.lock() = Some(Box::new(enforce));
        world.time.fetch_add(1_000, Ordering::AcqRel);
        world.registry.exchange.round().await;
        assert!(world.store.on_the_way_back.lock().is_none() && session.ended().is_none(), "cut though it is active");
        world.pass(59).await;
        assert!(session.ended().is_none(), "cut early");
        world.pass(3).await;
        assert!(session.ended().is_some(), "never cut");
    });
}

#[test]
fn a_session_that_ends_during_a_mode_change_stays_dead() {
    run(async {
        let world = world(1).await;
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        world.pass(62).await;
        let session = world.live("0").await;
        assert!(session.overdue().is_some());
        // While the store counts overdue sessions, an operator ends one of them on another replica.
        let (registry, dead) = (Arc::clone(&world.registry), Arc::clone(&session));
        let end = move || {
            let ended = Ended { reason: Reason::Operator, ..dead.overdue().unwrap() };
            registry.table.end_if_enforced(&dead, Ended { remembered_for: 172_800_000, ..ended });
        };
        *world.store.meanwhile.lock() = Some(Box::new(end));
        world.registry.modes.switch(Switch::Replica, Mode::Enforce, None);
        world.pass(5).await;
        assert!(session.ended().is_some());
        assert!(world.registry.table.known(session.id()).is_some(), "forgotten, and its token revived");
    });
}

#[test]
fn the_last_round_waits_until_the_store_knows_of_a_moment_in_off() {
    run(async {
        let world = world(1).await;
        world.pass(1).await;
        world.store.is_out.store(true, Ordering::Relaxed);
        world.live("0").await.touch(Moment(world.time.load(Ordering::Acquire)), Source::Request);
        world.registry.modes.switch(Switch::Replica, Mode::Off, None);
        world.registry.modes.switch(Switch::Replica, Mode::Enforce, None);
        let last = tokio::time::timeout(Duration::from_millis(500), world.registry.exchange.last_round());
        assert!(last.await.is_err(), "the last round ended before the store knew of `off`");
        world.store.is_out.store(false, Ordering::Relaxed);
        world.registry.exchange.last_round().await;
        let counting = world.store.memory.counting() * 1000;
        assert_eq!(counting, world.store.memory.now().unwrap() / 1000 * 1000, "idle time does not start again");
    });
}

#[test]
fn a_lifetime_goes_on_while_the_mode_is_off() {
    run(async {
        let world = world_with(Limits { lifetime: Some(30), ..limits(3600) }, 1).await;
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        world.pass(33).await;
        let session = world.live("0").await;
        assert!(session.overdue().is_some());
        world.registry.modes.switch(Switch::Replica, Mode::Off, None);
        world.pass(2).await;
        assert_eq!(
            world.registry.inspect.would_be_cut(Switch::Replica).await.found,
            1,
            "the operator would not be warned"
        );
        world.registry.modes.switch(Switch::Replica, Mode::Enforce, None);
        world.pass(4).await;
        assert!(session.ended().is_some(), "past its lifetime, but not cut");
    });
}

#[test]
fn counting_overdue_sessions_limits_the_lookups() {
    run(async {
        let world = world(1_500).await;
        world.registry.modes.switch(Switch::Replica, Mode::Observe, None);
        world.pass(62).await;
        let before = world.store.lookups.load(Ordering::Relaxed);
        assert_eq!(world.registry.inspect.past_the_limit().await, 1_500);
        assert_eq!(world.store.lookups.load(Ordering::Relaxed) - before, 1_000);
    });
}
