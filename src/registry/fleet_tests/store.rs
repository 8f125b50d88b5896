//! The store of the simulated fleet: the real scripts on a simulated Redis. Messages take time, and they or their responses can
//! be lost.

use super::GRACE;
use super::witness::{EPOCH, Witness};
use crate::clock::Clock;
use crate::session::{Limits, Reason, SessionId, Source};
use crate::store::{Ended, Link, RedisStore, Simulated, words_of};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep, timeout};

/// How long a response is waited for.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many milliseconds a message to a slow store may take: longer than the caller waits.
const SLOW: u64 = 700;

/// The key of the replicas' marks.
const REPLICAS: &str = "sim:replicas";
const SESSION: &str = "sim:session:";

/// The state that all replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    server: Simulated,
    seed: u64,
    /// How many milliseconds a message normally takes at most.
    pub(super) distance: u64,
    begun: Instant,
    /// No replica reaches the store.
    pub(super) is_down: bool,
    /// The store is slow, and many responses come too late.
    pub(super) is_slow: bool,
    /// Notifications are dropped.
    pub(super) is_mute: bool,
    subscribers: BTreeMap<usize, Subscriber>,
    pub(super) witness: Witness,
}

/// How a replica receives messages; `None` means that some may have been missed.
#[derive(Clone, Debug)]
struct Subscriber {
    sender: UnboundedSender<Option<String>>,
    cut_off: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(limits: Limits, seed: u64, distance: u64) -> Self {
        Self {
            limits,
            server: Simulated::default(),
            seed,
            distance,
            #[expect(clippy::disallowed_methods, reason = "this time is simulated")]
            begun: Instant::now(),
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

    /// How long a message takes: random, but the same for the same seed.
    fn delay(&self, of: impl Hash) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.now(), of).hash(&mut hasher);
        Duration::from_millis(hasher.finish() % if self.is_slow { SLOW } else { self.distance })
    }

    /// The server, at the present time.
    fn server(&mut self) -> &mut Simulated {
        self.server.now = self.epoch();
        &mut self.server
    }

    /// The record of a session.
    pub(super) fn record(&mut self, id: SessionId) -> Option<Ended> {
        let fields = self.server().hash(&format!("{SESSION}{id}"));
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        Some(Ended {
            last_activity: number("last_activity")?,
            source: Source::from_name(fields.get("source")?)?,
            created: number("created")?,
            ended: number("ended").unwrap_or(0),
            reason: fields.get("reason").and_then(|reason| Reason::from_name(reason)).unwrap_or(Reason::Idle),
            counting: None,
            watermark: 0,
            remembered_for: 0,
        })
    }

    /// The start of unbroken counting, in epoch seconds; 0 before the first report.
    pub(super) fn counting(&mut self) -> u64 {
        self.server().hash(REPLICAS).get("counting").and_then(|counting| counting.parse().ok()).unwrap_or(0)
    }

    /// Up to when each replica has reported everything, in epoch milliseconds.
    pub(super) fn marks(&mut self) -> BTreeMap<usize, u64> {
        let number = |name: &str| usize::from_str_radix(name.strip_prefix("replica-")?, 16).ok();
        let mark = |value: &str| value.split(' ').next()?.parse().ok();
        self.server().hash(REPLICAS).iter().filter_map(|(name, value)| Some((number(name)?, mark(value)?))).collect()
    }

    /// Executes what one message carries, and shows the witness each end.
    fn execute(&mut self, commands: &[Cmd]) -> Vec<RedisResult<Value>> {
        let replies = commands.iter().map(|command| {
            let words = words_of(command);
            // EVAL, script, number of keys, key, step.
            let id = words.get(3).and_then(|key| SessionId::from_hex(str::from_utf8(key).ok()?.strip_prefix(SESSION)?));
            let is_verdict = words.get(4).is_some_and(|step| step == b"judge");
            let is_live = |shared: &mut Self, id| shared.record(id).is_none_or(|record| record.ended == 0);
            let before = id.filter(|id| is_live(self, *id));
            let reply = self.server().run(&words).map_err(error_of);
            if let Some(id) = before
                && !is_live(self, id)
            {
                self.note_end(id, is_verdict);
            }
            reply
        });
        let replies = replies.collect();
        for message in self.server.take_published() {
            self.publish(Some(&message));
        }
        replies
    }

    /// An end that is decided here, and not only reported again, must be right.
    fn note_end(&mut self, id: SessionId, is_verdict: bool) {
        let (now, marks) = (self.now(), self.marks());
        let Some(record) = self.record(id) else { return };
        if is_verdict {
            self.witness.check_cut(id, &record, now, self.limits.timeout, &marks);
        }
        self.witness.saw_end(id, now);
    }

    /// Loses all data.
    pub(super) fn forget(&mut self) {
        self.server.forget();
        self.witness.ends.clear();
    }

    /// Lets every replica subscribe again: it may have missed messages.
    pub(super) fn resubscribe(&self) {
        self.publish(None);
    }

    /// Sends a message to all replicas that can receive it.
    fn publish(&self, message: Option<&String>) {
        for (number, subscriber) in &self.subscribers {
            let (delay, Subscriber { sender, cut_off }) = (self.delay(number), subscriber.clone());
            if self.is_down || self.is_mute || cut_off.load(Ordering::Acquire) {
                continue;
            }
            let message = message.cloned();
            tokio::spawn(async move {
                sleep(delay).await;
                // A killed replica receives nothing.
                let _ = sender.send(message);
            });
        }
    }
}

fn error_of(message: String) -> RedisError {
    if message.starts_with("NOSCRIPT") {
        return RedisError::from((ErrorKind::Server(ServerErrorKind::NoScript), "no such script"));
    }
    RedisError::from((ErrorKind::Server(ServerErrorKind::ResponseError), "the server refuses", message))
}

/// One replica's connection to the store.
#[derive(Debug)]
pub(super) struct StoreLink {
    shared: Arc<Mutex<Shared>>,
    number: usize,
    offset: u64,
    cut_off: Arc<AtomicBool>,
    /// The replica's clock.
    time: Arc<AtomicU64>,
    messages: tokio::sync::Mutex<UnboundedReceiver<Option<String>>>,
}

impl StoreLink {
    /// The store of a replica, at the other end of a link.
    pub(super) fn store(
        shared: &Arc<Mutex<Shared>>,
        number: usize,
        time: &Arc<AtomicU64>,
        offset: u64,
        cut_off: &Arc<AtomicBool>,
    ) -> RedisStore {
        let (sender, messages) = unbounded_channel();
        shared.lock().subscribers.insert(number, Subscriber { sender, cut_off: Arc::clone(cut_off) });
        let limits = shared.lock().limits;
        let link = Self {
            shared: Arc::clone(shared),
            number,
            offset,
            cut_off: Arc::clone(cut_off),
            time: Arc::clone(time),
            messages: messages.into(),
        };
        let clock = Clock::simulated(Arc::clone(time));
        let name = format!("replica-{number:08x}");
        RedisStore::simulated(Arc::new(link), limits, clock, name, Duration::from_millis(GRACE))
    }
}

impl Link for StoreLink {
    /// Sends a message, which travels on whatever happens to the replica, and waits for the response.
    fn send(&self, commands: Vec<Cmd>) -> BoxFuture<'_, RedisResult<Vec<RedisResult<Value>>>> {
        Box::pin(async move {
            let (sender, response) = tokio::sync::oneshot::channel();
            let (shared, cut_off) = (Arc::clone(&self.shared), Arc::clone(&self.cut_off));
            let about = commands.iter().map(Cmd::get_packed_command).collect::<Vec<_>>();
            let [there, back] = [0, 1].map(|way| self.shared.lock().delay((way, self.number, &about)));
            tokio::spawn(async move {
                // A stopped server refuses at once; a replica that is cut off waits until its timeout.
                let passes = async |takes| {
                    sleep(takes).await;
                    if cut_off.load(Ordering::Acquire) {
                        sleep(RESPONSE_TIMEOUT).await;
                        return false;
                    }
                    !shared.lock().is_down
                };
                if passes(there).await {
                    let replies = shared.lock().execute(&commands);
                    if passes(back).await {
                        // The caller may have given up.
                        let _ = sender.send(replies);
                    }
                }
            });
            let lost = || RedisError::from((ErrorKind::Io, "lost on the way"));
            let response = timeout(RESPONSE_TIMEOUT, response).await;
            // A lookup continues by itself, even while its replica is frozen.
            self.time.store(self.shared.lock().now() + self.offset, Ordering::Release);
            response.map_err(|_| lost())?.map_err(|_| lost())
        })
    }

    fn next_message(&self) -> BoxFuture<'_, Option<String>> {
        Box::pin(async {
            match self.messages.lock().await.recv().await {
                Some(message) => message,
                None => std::future::pending().await,
            }
        })
    }
}
