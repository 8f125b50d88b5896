//! Several keepers over one store, by simulated time: random activity, partitions, suspensions and crashes of replicas.
//! Each replica has a clock of its own.

mod store;

use super::{Keeper, Standing};
use crate::clock::Clock;
use crate::session::{Limits, SessionId, Source};
use crate::store::Ended;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use store::{Shared, Way};

const EPOCH: u64 = 1_792_890_000_123;
const GRACE: u64 = 30_000;

struct Replica {
    keeper: Arc<Keeper>,
    /// Its own clock, which began at a time of its own.
    time: Arc<AtomicU64>,
    offset: u64,
    next: u64,
    cut_off: Arc<AtomicBool>,
    /// Suspended: no round, no activity.
    frozen: bool,
}

impl Replica {
    fn new(shared: &Arc<Mutex<Shared>>, number: usize) -> Self {
        let now = shared.lock().now;
        let limits = shared.lock().limits;
        let offset = 1_000_000 + 77_777 * number as u64;
        let time = Arc::new(AtomicU64::new(now + offset));
        let clock = Clock::simulated(Arc::clone(&time));
        let cut_off = Arc::new(AtomicBool::new(false));
        let way = Way {
            shared: Arc::clone(shared),
            number,
            clock: clock.clone(),
            cut_off: Arc::clone(&cut_off),
            watermark: AtomicU64::new(0),
        };
        let keeper = Arc::new(Keeper::new(Box::new(way), clock, limits.timeout, 100));
        Self { keeper, time, offset, next: now, cut_off, frozen: false }
    }

    fn hears(&self) -> bool {
        !self.frozen && !self.cut_off.load(Ordering::Acquire)
    }
}

struct Fleet {
    shared: Arc<Mutex<Shared>>,
    replicas: Vec<Replica>,
    born: usize,
    /// The last activity of each session that any replica saw.
    last: HashMap<SessionId, u64>,
    /// Sessions that were idle for longer than the limit, and then touched before that was decided: both is right.
    lapsed: HashSet<SessionId>,
    dead: HashMap<SessionId, Ended>,
    /// Since when nothing has been wrong with any replica.
    well_since: u64,
}

impl Fleet {
    fn new(timeout: u64) -> Self {
        let limits = Limits { timeout, lifetime: None, retention: 172_800 };
        let shared =
            Shared { limits, now: 0, records: HashMap::new(), marks: BTreeMap::new(), struck: 0, said: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let replicas = (0..3).map(|number| Replica::new(&shared, number)).collect();
        Self {
            shared,
            replicas,
            born: 3,
            last: HashMap::new(),
            lapsed: HashSet::new(),
            dead: HashMap::new(),
            well_since: 0,
        }
    }

    fn now(&self) -> u64 {
        self.shared.lock().now
    }

    fn move_to(&self, now: u64) {
        self.shared.lock().now = now;
        for replica in &self.replicas {
            replica.time.store(now + replica.offset, Ordering::Release);
        }
    }

    async fn pass(&mut self, milliseconds: u64) {
        let until = self.now() + milliseconds;
        loop {
            let awake = self.replicas.iter_mut().filter(|replica| !replica.frozen);
            let Some(replica) = awake.min_by_key(|replica| replica.next).filter(|replica| replica.next <= until) else {
                break;
            };
            let at = replica.next.max(self.shared.lock().now);
            let number = self.replicas.iter().position(|replica| !replica.frozen && replica.next <= at).unwrap_or(0);
            self.move_to(at);
            let replica = &mut self.replicas[number];
            let asked_for = replica.keeper.round().await.0 - replica.offset;
            // As the loop does it.
            replica.next = asked_for.clamp(at + 50, at + 1_500);
            self.spread().await;
            self.check();
        }
        self.move_to(until);
    }

    /// Ends are heard by all who can hear.
    async fn spread(&self) {
        let said = std::mem::take(&mut self.shared.lock().said);
        for id in said {
            for replica in self.replicas.iter().filter(|replica| replica.hears()) {
                if let Some(session) = replica.keeper.known(id) {
                    replica.keeper.look_again(&session).await;
                }
            }
        }
    }

    /// A request with this token, or a frame of its tunnel.
    async fn activity(&mut self, number: usize, id: SessionId) {
        let replica = &self.replicas[number];
        if replica.frozen {
            return;
        }
        let standing = match replica.keeper.standing(id).await {
            Standing::Unknown => replica.keeper.accept(id).await,
            standing => standing,
        };
        self.spread().await;
        match standing {
            Standing::Live(session) => {
                assert!(!(replica.hears() && self.dead.contains_key(&id)), "revived");
                session.touch(replica.keeper.clock().now(), Source::ClientFrame);
                let limit = self.shared.lock().limits.timeout * 1000;
                let before = self.last.insert(id, self.now());
                if before.is_some_and(|before| self.now() - before > limit) {
                    self.lapsed.insert(id);
                }
            }
            Standing::Ended(_) => {
                self.check();
                assert!(self.dead.contains_key(&id), "dead of nothing");
            }
            Standing::Unknown | Standing::Undecided => panic!("not tracked"),
        }
    }

    async fn trouble(&mut self, number: usize, kind: u8) {
        match kind {
            0 => self.replicas[number].cut_off.store(true, Ordering::Release),
            1 => self.replicas[number].frozen = true,
            2 => {
                self.replicas[number] = Replica::new(&self.shared, self.born);
                self.born += 1;
                self.replicas[number].keeper.round().await;
            }
            _ => {
                self.replicas[number].cut_off.store(false, Ordering::Release);
                self.replicas[number].frozen = false;
                // The subscription is made anew.
                self.replicas[number].keeper.look_again_at_all().await;
            }
        }
        self.well_since = self.now();
    }

    fn is_well(&self) -> bool {
        let shared = self.shared.lock();
        self.replicas.iter().all(Replica::hears) && shared.marks.len() == self.replicas.len()
    }

    fn check(&mut self) {
        let shared = self.shared.lock();
        let limit = shared.limits.timeout * 1000;
        let silent = shared.marks.values().any(|mark| shared.epoch() - mark > 1_500);
        if silent || !self.replicas.iter().all(Replica::hears) {
            self.well_since = shared.now;
        }
        for (id, last) in &self.last {
            let Some(record) = shared.records.get(id) else { continue };
            let idle = shared.now - last;
            if let Some(first) = self.dead.get(id) {
                assert_eq!((first.ended, first.reason), (record.ended, record.reason), "ended twice");
            } else if record.ended > 0 {
                assert!(idle > limit || shared.struck > 0 || self.lapsed.contains(id), "cut early: idle {idle} ms");
                self.dead.insert(*id, *record);
            } else {
                // What only a crashed replica knew has no connection left; it is judged when it is looked up.
                let known = self.replicas.iter().any(|replica| replica.keeper.known(*id).is_some());
                let answered = shared.now - self.well_since > 2_000;
                assert!(!known || !answered || idle <= limit + 2_000, "cut late: idle {idle} ms");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Activity(usize, usize),
    Trouble(usize, u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0u64..6_000).prop_map(Event::Pass),
        5 => (0usize..3, 0usize..3).prop_map(|(replica, who)| Event::Activity(replica, who)),
        // As much that mends as that breaks.
        2 => (0usize..3, 0u8..6).prop_map(|(replica, kind)| Event::Trouble(replica, kind)),
    ]
}

proptest! {
    #[test]
    fn a_fleet_cuts_never_early_soon_after_once_and_for_good(
        timeout in 1u64..8,
        events in proptest::collection::vec(event(), 1..150),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let ids = ["ada", "bob", "eve"].map(|token| SessionId::of_token(token.as_bytes()));
            let mut fleet = Fleet::new(timeout);
            // A replica that has never reached the store is as good as struck off: nobody waits for it.
            fleet.pass(0).await;
            for event in events {
                match event {
                    Event::Pass(milliseconds) => fleet.pass(milliseconds).await,
                    Event::Activity(number, who) => fleet.activity(number, ids[who]).await,
                    Event::Trouble(number, kind) => fleet.trouble(number, kind).await,
                }
            }
            // In the end all is well again, and who was left is cut.
            for number in 0..3 {
                fleet.trouble(number, 9).await;
            }
            fleet.pass(GRACE + timeout * 1000 + 4_000).await;
            assert!(fleet.is_well());
            for id in fleet.last.keys() {
                for replica in &fleet.replicas {
                    assert!(!matches!(replica.keeper.standing(*id).await, Standing::Live(_)), "alive somewhere");
                }
            }
        });
    }
}
