//! The simplest store that follows the watermark rule, and each replica's link to it: messages and responses are
//! delayed, and may be lost.

use super::GRACE;
use super::witness::{EPOCH, Witness};
use crate::clock::Moment;
use crate::session::{EpochSeconds, Limits, Mode, Reason, SessionId, Verdict};
use crate::store::{Ended, Flushed, Known, Live, Notification, Store, StoreError, StoreFuture, Touch};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

/// How long a replica waits for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum delay of a message to a slow store, in milliseconds. Both directions together can exceed the timeout.
const SLOW: u64 = 700;

/// The state that all replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    seed: u64,
    /// The normal maximum delay of a message, in milliseconds.
    pub(super) distance: u64,
    begun: Instant,
    pub(super) records: HashMap<SessionId, Ended>,
    /// Since when counting is unbroken, in epoch seconds.
    pub(super) counting: u64,
    /// Up to when each replica has reported everything, in epoch milliseconds.
    pub(super) marks: BTreeMap<usize, u64>,
    /// No replica reaches the store.
    pub(super) is_down: bool,
    /// The store is slow, and many of its responses come too late.
    pub(super) is_slow: bool,
    /// All notifications are dropped.
    pub(super) is_mute: bool,
    subscribers: BTreeMap<usize, Subscriber>,
    pub(super) witness: Witness,
}

/// How a replica receives notifications.
#[derive(Clone, Debug)]
struct Subscriber {
    sender: UnboundedSender<Notification>,
    cut_off: Arc<AtomicBool>,
}

/// The response to a flush.
struct Report {
    flushed: Flushed,
    mark: u64,
    watermark: u64,
}

impl Shared {
    pub(super) fn new(limits: Limits, seed: u64, distance: u64) -> Self {
        Self {
            limits,
            seed,
            distance,
            #[expect(clippy::disallowed_methods, reason = "this time is simulated")]
            begun: Instant::now(),
            records: HashMap::new(),
            counting: 0,
            marks: BTreeMap::new(),
            is_down: false,
            is_slow: false,
            is_mute: false,
            subscribers: BTreeMap::new(),
            witness: Witness::default(),
        }
    }

    /// Milliseconds since the simulation began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }

    pub(super) fn epoch(&self) -> u64 {
        EPOCH + self.now()
    }

    /// The delay of a message: random, but the same in every run with the same seed.
    fn delay(&self, of: impl Hash) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.now(), of).hash(&mut hasher);
        Duration::from_millis(hasher.finish() % if self.is_slow { SLOW } else { self.distance })
    }

    fn known(&self, id: SessionId) -> Known {
        let Some(record) = self.records.get(&id) else { return Known::Unknown };
        if record.ended > 0 {
            return Known::Ended(Ended { remembered_for: self.limits.retention * 1000, ..*record });
        }
        let now = self.epoch();
        let due = match self.limits.judge(record.created, record.last_activity.max(self.counting), now / 1000) {
            Verdict::Live { due } => due * 1000,
            Verdict::Over(_) => now,
        };
        let ago = |second: u64| now - second * 1000;
        let (age, created_age) = (ago(record.last_activity), ago(record.created));
        Known::Live(Live { age, source: record.source, created_age, due_in: due.saturating_sub(now) })
    }

    fn update(&mut self, touch: Touch) -> Known {
        let second = |age: u64| (self.epoch() - age) / 1000;
        let fresh = Ended {
            last_activity: second(touch.age),
            source: touch.source,
            created: second(touch.created_age),
            ended: 0,
            reason: Reason::Idle,
            counting: None,
            watermark: 0,
            remembered_for: 0,
        };
        let record = self.records.entry(touch.id).or_insert(fresh);
        if record.ended == 0 && fresh.last_activity > record.last_activity {
            (record.last_activity, record.source) = (fresh.last_activity, fresh.source);
        }
        self.known(touch.id)
    }

    /// Accepts a replica's report and its mark. `confirmed` is the last mark that the store confirmed to the replica.
    fn flush(&mut self, number: usize, touches: &[Touch], synced_to: u64, confirmed: u64) -> Report {
        let known: Vec<_> = touches.iter().map(|touch| (touch.id, self.update(*touch))).collect();
        let ended = known.into_iter().filter_map(|(id, known)| match known {
            Known::Ended(ended) => Some((id, ended)),
            _ => None,
        });
        let (now, before) = (self.epoch(), self.marks.get(&number).copied());
        let resync = before.is_none_or(|before| before < confirmed);
        // A replica that must resync holds verdicts back, for a limited time. All other marks are taken as reported,
        // even from the future: a store that corrected them would hide a registry that claims too much.
        let mark = if resync { before.unwrap_or(now - GRACE + 2_000) } else { synced_to };
        self.marks.insert(number, mark);
        self.marks.retain(|_, mark| now.saturating_sub(*mark) <= GRACE);
        let flushed = Flushed { ended: ended.collect(), resync, fleet: None, unkept: false };
        Report { flushed, mark, watermark: self.watermark() }
    }

    /// Up to when every replica has reported everything.
    fn watermark(&self) -> u64 {
        self.marks.values().min().copied().unwrap_or(0) / 1000
    }

    fn judge(&mut self, touch: Touch, watermark: u64) -> Known {
        self.update(touch);
        let record = self.records[&touch.id];
        let idle_since = record.last_activity.max(self.counting);
        let over = |at: u64| at.saturating_sub(idle_since) > self.limits.timeout;
        if record.ended == 0 && over(self.epoch() / 1000) && over(watermark) {
            let now = self.now();
            self.witness.check_cut(touch.id, &record, now, self.limits.timeout, &self.marks);
            return self.end(touch.id, Reason::Idle, watermark);
        }
        self.known(touch.id)
    }

    fn end(&mut self, id: SessionId, reason: Reason, watermark: u64) -> Known {
        let now = self.now();
        if let Some(record) = self.records.get_mut(&id).filter(|record| record.ended == 0) {
            (record.ended, record.reason, record.watermark) = ((EPOCH + now) / 1000, reason, watermark);
            self.witness.saw_end(id, now);
            self.notify(&Notification::Ended(id));
        }
        self.known(id)
    }

    /// Loses all data.
    pub(super) fn forget(&mut self) {
        self.records.clear();
        self.marks.clear();
        self.counting = self.epoch() / 1000;
        self.witness.ends.clear();
    }

    /// Notifies every replica that can receive it.
    pub(super) fn notify(&self, what: &Notification) {
        for (number, subscriber) in &self.subscribers {
            let (delay, what, Subscriber { sender, cut_off }) = (self.delay(number), what.clone(), subscriber.clone());
            if self.is_down || self.is_mute || cut_off.load(Ordering::Acquire) {
                continue;
            }
            tokio::spawn(async move {
                sleep(delay).await;
                // A killed replica receives nothing.
                let _ = sender.send(what);
            });
        }
    }
}

/// One replica's link to the shared store.
#[derive(Debug)]
pub(super) struct StoreLink {
    shared: Arc<Mutex<Shared>>,
    number: usize,
    offset: u64,
    cut_off: Arc<AtomicBool>,
    /// The time of the replica's clock.
    time: Arc<AtomicU64>,
    watermark: AtomicU64,
    /// The mark that the replica knows the store has.
    confirmed: AtomicU64,
    notifications: tokio::sync::Mutex<UnboundedReceiver<Notification>>,
}

impl StoreLink {
    pub(super) fn new(
        shared: &Arc<Mutex<Shared>>,
        number: usize,
        time: &Arc<AtomicU64>,
        offset: u64,
        cut_off: &Arc<AtomicBool>,
    ) -> Self {
        let (sender, notifications) = unbounded_channel();
        shared.lock().subscribers.insert(number, Subscriber { sender, cut_off: Arc::clone(cut_off) });
        let (shared, time, cut_off) = (Arc::clone(shared), Arc::clone(time), Arc::clone(cut_off));
        let [watermark, confirmed] = [0; 2].map(AtomicU64::new);
        Self { shared, number, time, offset, cut_off, watermark, confirmed, notifications: notifications.into() }
    }

    /// Sends a message and waits for its response. The message is delivered even if the replica is killed meanwhile.
    async fn ask<T: Send + 'static>(
        &self,
        about: impl Hash,
        ask: impl FnOnce(&mut Shared) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, answer) = tokio::sync::oneshot::channel();
        let (shared, cut_off) = (Arc::clone(&self.shared), Arc::clone(&self.cut_off));
        let [there, back] = [0, 1].map(|way| self.shared.lock().delay((way, self.number, &about)));
        tokio::spawn(async move {
            // A stopped server refuses at once. A replica that is cut off waits until its timeout.
            let passes = async |takes| {
                sleep(takes).await;
                if cut_off.load(Ordering::Acquire) {
                    sleep(RESPONSE_TIMEOUT).await;
                    return false;
                }
                !shared.lock().is_down
            };
            if passes(there).await {
                let answered = ask(&mut shared.lock());
                if passes(back).await {
                    // The caller may have stopped waiting.
                    let _ = sender.send(answered);
                }
            }
        });
        let lost = || StoreError::Unavailable("lost on the way".to_owned());
        let answered = timeout(RESPONSE_TIMEOUT, answer).await;
        // A lookup runs in its own task, so the clock is advanced here as well.
        self.time.store(self.shared.lock().now() + self.offset, Ordering::Release);
        answered.map_err(|_| lost())?.map_err(|_| lost())
    }
}

impl Store for StoreLink {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn now(&self) -> Option<u64> {
        Some(self.shared.lock().epoch())
    }

    fn counting(&self) -> EpochSeconds {
        self.shared.lock().counting
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        Box::pin(self.ask(id, move |shared| shared.known(id)))
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        Box::pin(self.ask(touch.id, move |shared| shared.update(touch)))
    }

    fn flush<'a>(&'a self, touches: &'a [Touch], synced_to: Moment, _: Mode) -> StoreFuture<'a, Flushed> {
        let (number, touches, synced_to) = (self.number, touches.to_vec(), EPOCH + synced_to.0 - self.offset);
        let confirmed = self.confirmed.load(Ordering::Acquire);
        Box::pin(async move {
            let flush = move |shared: &mut Shared| shared.flush(number, &touches, synced_to, confirmed);
            let report = self.ask("flush", flush).await?;
            self.watermark.store(report.watermark, Ordering::Release);
            self.confirmed.store(report.mark, Ordering::Release);
            Ok(report.flushed)
        })
    }

    fn judge(&self, touch: Touch, _: u64, _: Mode) -> StoreFuture<'_, Known> {
        let watermark = self.watermark.load(Ordering::Acquire);
        Box::pin(self.ask(touch.id, move |shared| shared.judge(touch, watermark)))
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        Box::pin(self.ask(id, move |shared| shared.end(id, reason, 0)))
    }

    fn report_ends(&self, touch: Touch, reason: Reason, _: u64) -> StoreFuture<'_, Known> {
        let report_ends = move |shared: &mut Shared| {
            shared.update(touch);
            shared.end(touch.id, reason, 0)
        };
        Box::pin(self.ask(touch.id, report_ends))
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        let shared = self.shared.lock();
        Ended::of(touch, reason, shared.epoch(), &shared.limits, 0)
    }

    fn next_notification(&self) -> StoreFuture<'_, Notification> {
        Box::pin(async {
            let lost = || StoreError::Unavailable("no more notifications will come".to_owned());
            self.notifications.lock().await.recv().await.ok_or_else(lost)
        })
    }
}
