//! Several keepers over one store, by simulated time: random activity, partitions, suspensions and crashes of replicas.
//! The store here is the plainest that keeps the rule of the watermark; each replica has a clock of its own.

use super::{Keeper, Standing};
use crate::clock::{Clock, Moment};
use crate::session::{Limits, Reason, SessionId, Source, Verdict};
use crate::store::{Answer, Ended, Flushed, Known, Live, Store, StoreError, Touch};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const EPOCH: u64 = 1_792_890_000_123;
const GRACE: u64 = 30_000;

/// What all replicas share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// Milliseconds since the simulation began.
    now: u64,
    records: HashMap<SessionId, Ended>,
    /// Up to when each replica has told all, in epoch milliseconds.
    marks: BTreeMap<usize, u64>,
    struck: usize,
    /// Who was ended, for the others to hear.
    said: Vec<SessionId>,
}

impl Shared {
    fn epoch(&self) -> u64 {
        EPOCH + self.now
    }

    fn known(&self, id: SessionId) -> Known {
        let Some(record) = self.records.get(&id) else { return Known::Unknown };
        if record.ended > 0 {
            return Known::Ended(Ended { remembered_for: self.limits.retention * 1000, ..*record });
        }
        let now = self.epoch();
        let due = match self.limits.judge(record.created, record.last_activity, now / 1000) {
            Verdict::Live { due } => due * 1000,
            Verdict::Over(_) => now,
        };
        let ago = |second: u64| now - second * 1000;
        let (age, created_age) = (ago(record.last_activity), ago(record.created));
        Known::Live(Live { age, source: record.source, created_age, due_in: due.saturating_sub(now) })
    }

    fn tell(&mut self, touch: Touch) -> Known {
        let second = |age: u64| (self.epoch() - age) / 1000;
        let fresh = Ended {
            last_activity: second(touch.age),
            source: touch.source,
            created: second(touch.created_age),
            ended: 0,
            reason: Reason::Idle,
            watermark: 0,
            remembered_for: 0,
        };
        let record = self.records.entry(touch.id).or_insert(fresh);
        if record.ended == 0 && fresh.last_activity > record.last_activity {
            (record.last_activity, record.source) = (fresh.last_activity, fresh.source);
        }
        self.known(touch.id)
    }

    fn end(&mut self, id: SessionId, reason: Reason, watermark: u64) -> Known {
        let now = self.epoch() / 1000;
        if let Some(record) = self.records.get_mut(&id).filter(|record| record.ended == 0) {
            (record.ended, record.reason, record.watermark) = (now, reason, watermark);
            self.said.push(id);
        }
        self.known(id)
    }
}

/// One replica's way to what they share.
#[derive(Debug)]
struct Way {
    shared: Arc<Mutex<Shared>>,
    number: usize,
    clock: Clock,
    cut_off: Arc<AtomicBool>,
    watermark: AtomicU64,
}

impl Way {
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&mut Shared) -> T) -> Answer<'_, T> {
        let cut_off = self.cut_off.load(Ordering::Acquire);
        let lost = || StoreError::Unavailable("cut off".to_owned());
        Box::pin(ready(if cut_off { Err(lost()) } else { Ok(ask(&mut self.shared.lock())) }))
    }
}

impl Store for Way {
    fn look_up(&self, id: SessionId) -> Answer<'_, Known> {
        self.ask(|shared| shared.known(id))
    }

    fn begin(&self, touch: Touch) -> Answer<'_, Known> {
        self.ask(|shared| shared.tell(touch))
    }

    fn flush<'a>(&'a self, touches: &'a [Touch], told: Moment) -> Answer<'a, Flushed> {
        self.ask(|shared| {
            let known = touches.iter().map(|touch| (touch.id, shared.tell(*touch))).collect::<Vec<_>>();
            let ended = known.into_iter().filter_map(|(id, known)| match known {
                Known::Ended(ended) => Some((id, ended)),
                _ => None,
            });
            let now = shared.epoch();
            let retell = shared.marks.insert(self.number, now - self.clock.now().since(told)).is_none();
            let before = shared.marks.len();
            shared.marks.retain(|_, mark| now - *mark <= GRACE);
            shared.struck += before - shared.marks.len();
            let oldest = shared.marks.values().min().copied().unwrap_or(now);
            self.watermark.store(oldest / 1000, Ordering::Release);
            Flushed { ended: ended.collect(), retell }
        })
    }

    fn judge(&self, touch: Touch, _: u64) -> Answer<'_, Known> {
        let watermark = self.watermark.load(Ordering::Acquire);
        self.ask(|shared| {
            shared.tell(touch);
            let record = shared.records[&touch.id];
            let over = |at: u64| at.saturating_sub(record.last_activity) > shared.limits.timeout;
            if record.ended == 0 && over(shared.epoch() / 1000) && over(watermark) {
                return shared.end(touch.id, Reason::Idle, watermark);
            }
            shared.known(touch.id)
        })
    }

    fn end(&self, id: SessionId, reason: Reason) -> Answer<'_, Known> {
        self.ask(|shared| {
            let now = shared.epoch() / 1000;
            shared.end(id, reason, now)
        })
    }

    fn bury(&self, touch: Touch, reason: Reason, _: u64) -> Answer<'_, Known> {
        self.ask(|shared| {
            shared.tell(touch);
            shared.end(touch.id, reason, 0)
        })
    }

    fn obituary(&self, touch: Touch, reason: Reason) -> Ended {
        let shared = self.shared.lock();
        Ended::of(touch, reason, shared.epoch(), &shared.limits)
    }
}

struct Replica {
    keeper: Keeper,
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
        let keeper = Keeper::new(Box::new(way), clock, limits.timeout, 100);
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
        Self { shared, replicas, born: 3, last: HashMap::new(), dead: HashMap::new(), well_since: 0 }
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
            replica.next = asked_for.clamp(at + 50, at + 800);
            let said = std::mem::take(&mut self.shared.lock().said);
            for id in said {
                for replica in self.replicas.iter().filter(|replica| replica.hears()) {
                    if let Some(session) = replica.keeper.known(id) {
                        replica.keeper.look_again(&session).await;
                    }
                }
            }
            self.check();
        }
        self.move_to(until);
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
        match standing {
            Standing::Live(session) => {
                assert!(!(replica.hears() && self.dead.contains_key(&id)), "revived");
                session.touch(replica.keeper.clock().now(), Source::ClientFrame);
                self.last.insert(id, self.now());
            }
            Standing::Ended => assert!(self.dead.contains_key(&id), "dead of nothing"),
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
        for (id, last) in &self.last {
            let Some(record) = shared.records.get(id) else { continue };
            let idle = shared.now - last;
            if let Some(first) = self.dead.get(id) {
                assert_eq!((first.ended, first.reason), (record.ended, record.reason), "ended twice");
            } else if record.ended > 0 {
                assert!(idle > limit || shared.struck > 0, "cut early: idle {idle} ms");
                self.dead.insert(*id, *record);
            } else if self.well_since + limit + 3_000 < shared.now && self.replicas.iter().all(Replica::hears) {
                let all_report = shared.marks.values().all(|mark| shared.epoch() - mark < 2_000);
                assert!(!all_report || idle <= limit + 2_000, "cut late: idle {idle} ms");
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
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let ids = ["ada", "bob", "eve"].map(|token| SessionId::of_token(token.as_bytes()));
            let mut fleet = Fleet::new(timeout);
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
                assert!(fleet.dead.contains_key(id), "never cut");
                for replica in &fleet.replicas {
                    assert!(matches!(replica.keeper.standing(*id).await, Standing::Ended), "alive somewhere");
                }
            }
        });
    }
}
