//! The store of the simulated fleet: the real scripts on a simulated Redis. Messages take time, and they or their responses can
//! be lost.

use super::GRACE;
use super::witness::{EPOCH, Witness};
use crate::clock::Clock;
use crate::registry::Registry;
use crate::session::{Limits, SessionId};
use crate::store::{EXCHANGE, Link, RedisStore, Simulated, hash_of, words_of};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a response is waited for.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many milliseconds a message to a slow store may take: longer than the caller waits.
const SLOW: u64 = 700;

/// The key of the replicas' marks.
const REPLICAS: &str = "sim:replicas";
const SESSION: &str = "sim:session:";

/// How long after a fault the store knows all ends again, in milliseconds.
const CALM_FOR: u64 = 3_500;

/// How far back a failover may go, in milliseconds.
const MAX_LAG: u64 = 2_000;

/// The server's clock: what it read at a moment of the simulation, and how fast it runs.
#[derive(Clone, Copy, Debug)]
struct ServerClock {
    at: u64,
    read: u64,
    /// In thousandths of the true rate.
    rate: u64,
}

/// The state that all replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    server: Simulated,
    clock: ServerClock,
    /// Until when the clock, and what it did, may delay an end.
    pub(super) clock_settles: u64,
    /// What a server that takes over would know: copies of the server, and when they were made.
    copies: VecDeque<(u64, Simulated)>,
    /// The number of servers so far. A message to an earlier one is lost.
    servers: u64,
    /// Replicas with odd numbers are of the next version, whose schema has more.
    pub(super) has_next_version: bool,
    /// A fault in the script: what is replaced, and by what.
    pub(super) fault: Option<(&'static str, &'static str)>,
    /// The hash and the text of the scripts that this makes: of this version, and of the next.
    scripts: HashMap<bool, (String, String)>,
    /// A fault in the replicas: each call of a report carries its mark.
    pub(super) marks_first: bool,
    /// How much longer the next message of a replica takes.
    held_up: BTreeMap<usize, u64>,
    /// How often all connections were dropped.
    drops: watch::Sender<u64>,
    /// Messages are delivered twice, the second time much later.
    pub(super) repeats: bool,
    /// The running replicas.
    pub(super) running: BTreeMap<usize, Arc<Registry>>,
    /// Until when each replica had reported its activity, by an accepted mark.
    pub(super) told: BTreeMap<usize, u64>,
    /// Since when there was no fault.
    pub(super) calm_since: u64,
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

/// What is stored of a session, by the server's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    pub(super) last_activity: u64,
    pub(super) idle_since: u64,
    pub(super) is_ended: bool,
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
            clock: ServerClock { at: 0, read: EPOCH, rate: 1_000 },
            clock_settles: 0,
            copies: VecDeque::new(),
            servers: 1,
            has_next_version: false,
            fault: None,
            scripts: HashMap::new(),
            marks_first: false,
            held_up: BTreeMap::new(),
            drops: watch::Sender::new(0),
            repeats: false,
            running: BTreeMap::new(),
            told: BTreeMap::new(),
            calm_since: 0,
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

    /// The server's time, in epoch milliseconds.
    pub(super) fn epoch(&self) -> u64 {
        self.clock.read + (self.now() - self.clock.at) * self.clock.rate / 1_000
    }

    /// Steps the server's clock by so many milliseconds, and lets it run at `rate` thousandths from now on.
    pub(super) fn set_clock(&mut self, step: i64, rate: u64) {
        let read = self.epoch().saturating_add_signed(step);
        self.clock = ServerClock { at: self.now(), read, rate };
        let settles = self.now() + self.limits.timeout * 1_100 + step.unsigned_abs() + 8_000;
        self.clock_settles = self.clock_settles.max(settles);
    }

    /// Holds the next message of a replica up, on a way that nothing cuts off.
    pub(super) fn hold_up(&mut self, replica: usize, milliseconds: u64) {
        self.held_up.insert(replica, milliseconds);
    }

    /// Drops all connections at once. What is on its way may still arrive, and its response does not.
    pub(super) fn drop_connections(&self) {
        self.drops.send_modify(|drops| *drops += 1);
    }

    pub(super) fn clock_is_exact(&self) -> bool {
        self.clock.rate == 1_000 && self.now() > self.clock_settles
    }

    /// Another server takes over, whose clock differs. It has not seen the last `lag` milliseconds.
    pub(super) fn fail_over(&mut self, lag: u64, step: i64) {
        let since = self.now().saturating_sub(lag);
        let copy = self.copies.iter().rev().find(|(at, _)| *at <= since).cloned();
        let (since, copy) = copy.unwrap_or_default();
        self.server = copy;
        self.copies.clear();
        self.servers += 1;
        self.drop_connections();
        for told in self.told.values_mut() {
            *told = since.min(*told);
        }
        self.witness.ends.retain(|_, ended| *ended < since);
        self.set_clock(step, 1_000);
    }

    /// Loses the record of one session, or all ends.
    pub(super) fn evict(&mut self, session: Option<SessionId>) {
        match session {
            Some(id) => self.server.evict(&format!("{SESSION}{id}")),
            None => self.server.evict("sim:ends"),
        }
        // Where both are lost, a replica that knows the end reports it again.
        let ended: Vec<_> = self.witness.ends.keys().copied().collect();
        for id in ended {
            if self.record(id).is_none_or(|record| !record.is_ended) {
                self.witness.ends.remove(&id);
            }
        }
    }

    /// The app gets a token that this replica took for unknown. No other replica may know its end, unless a fault keeps the
    /// store from knowing it in time.
    pub(super) fn passes(&mut self, id: SessionId, replica: usize) {
        let is_dead =
            |registry: &Arc<Registry>| registry.table.known(id).is_some_and(|session| session.ended().is_some());
        let knows = self.running.iter().find(|(_, registry)| is_dead(registry)).map(|(number, _)| *number);
        let is_calm = self.now() - self.calm_since > CALM_FOR && self.distance <= 3 && self.told.contains_key(&replica);
        if is_calm && let Some(knows) = knows {
            self.witness.object(format!("a dead token passes on replica {replica}, and replica {knows} knows its end"));
        }
    }

    fn copy_server(&mut self) {
        let now = self.now();
        if self.copies.back().is_none_or(|(at, _)| now - at >= 100) {
            self.copies.push_back((now, self.server.clone()));
            self.copies.retain(|(at, _)| now - at <= MAX_LAG + 200);
        }
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
    pub(super) fn record(&mut self, id: SessionId) -> Option<Stored> {
        let id = id.to_string();
        let (server, key) = (self.server(), format!("{SESSION}{id}"));
        let is_ended = server.field(&key, "ended").is_some() || server.field("sim:ends", &id).is_some();
        let mut number = |name: &str| server.field(&key, name).and_then(|value| value.parse::<u64>().ok());
        let last_activity = number("last_activity").or(is_ended.then_some(0))?;
        Some(Stored { last_activity, idle_since: last_activity.max(number("restored").unwrap_or(0)), is_ended })
    }

    /// The start of unbroken counting, in epoch seconds; 0 before the first report.
    pub(super) fn counting(&mut self) -> u64 {
        self.server().field(REPLICAS, "counting").and_then(|counting| counting.parse().ok()).unwrap_or(0)
    }

    /// What is stored of the replicas, and the server's time.
    pub(super) fn facts(&mut self) -> (u64, HashMap<String, String>) {
        (self.epoch(), self.server().hash(REPLICAS))
    }

    /// Whether replicas that were there before a loss are still waited for.
    pub(super) fn waits_for_replicas(&mut self) -> bool {
        let generation = self.server().field(REPLICAS, "generation");
        generation.is_some_and(|text| text.split(' ').nth(1).is_some_and(|expected| expected != "0"))
    }

    /// Up to when each replica has reported everything, in epoch milliseconds.
    pub(super) fn marks(&mut self) -> BTreeMap<usize, u64> {
        let number = |name: &str| usize::from_str_radix(name.strip_prefix("replica-")?, 16).ok();
        let mark = |value: &str| value.split(' ').next()?.parse().ok();
        self.server().hash(REPLICAS).iter().filter_map(|(name, value)| Some((number(name)?, mark(value)?))).collect()
    }

    /// Executes what a message of a replica carries, sent at `sent`, and shows the witness each end.
    fn execute(&mut self, commands: &[Cmd], replica: usize, sent: u64) -> Vec<RedisResult<Value>> {
        self.copy_server();
        let replies = commands.iter().map(|command| {
            let mut words = words_of(command);
            if self.marks_first {
                mark_in_any_call(&mut words);
            }
            self.replace_script(&mut words, replica);
            self.server.now = self.epoch();
            let steps = steps_of(&words);
            let is_live = |shared: &mut Self, id| shared.record(id).is_none_or(|record| !record.is_ended);
            // A session may be in a call twice: with its activity, and with its end.
            let live: HashMap<_, _> = steps.into_iter().filter(|(id, _)| is_live(self, *id)).collect();
            let reply = self.server.run(&words).map_err(error_of);
            if reply.as_ref().is_ok_and(is_accepted_mark) {
                let synced_to = sent - collected_before(&words);
                let told = self.told.entry(replica).or_insert(synced_to);
                *told = synced_to.max(*told);
            }
            for (id, op) in live {
                if !is_live(self, id) {
                    self.note_end(id, op == b"ask");
                }
            }
            reply
        });
        let replies = replies.collect();
        for message in self.server.take_published() {
            self.publish(Some(&message));
        }
        replies
    }

    fn is_next_version(&self, replica: usize) -> bool {
        self.has_next_version && replica % 2 == 1
    }

    /// Puts the script of another version, or one with a fault, in place of the true one.
    fn replace_script(&mut self, words: &mut [Vec<u8>], replica: usize) {
        let is_exchange = words.len() > 20 && words[0].starts_with(b"EVAL");
        if !is_exchange || (self.fault.is_none() && !self.is_next_version(replica)) {
            return;
        }
        let is_next_version = self.is_next_version(replica);
        if !self.scripts.contains_key(&is_next_version) {
            let script = self.script_of(is_next_version);
            self.scripts.insert(is_next_version, (hash_of(script.as_bytes()), script));
        }
        let (hash, script) = &self.scripts[&is_next_version];
        let named = if words[0] == b"EVALSHA" { hash } else { script };
        words[1] = named.clone().into_bytes();
    }

    fn script_of(&self, is_next_version: bool) -> String {
        let mut script = EXCHANGE.to_owned();
        let mut replace = |from: &str, to: &str| {
            assert!(script.contains(from), "the script has no {from:?}");
            script = script.replace(from, to);
        };
        if let Some((from, to)) = self.fault {
            replace(from, to);
        }
        if is_next_version {
            replace(".. mark.more\n", ".. (mark.more == '' and ' 17 more' or mark.more)\n");
            replace("if facts.left > 0 then keep(", "keep('later', 'unheard of')\n  if facts.left > 0 then keep(");
        }
        script
    }

    /// An end that is decided here, and not only reported again, must be right.
    fn note_end(&mut self, id: SessionId, is_verdict: bool) {
        let (now, marks) = (self.now(), self.marks());
        if is_verdict {
            self.witness.check_cut(id, now, self.limits.timeout, &marks, &self.told);
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

/// The sessions of a call, and what it does for each: EVAL, script, number of keys, keys, header, and seven words for each
/// session.
fn steps_of(words: &[Vec<u8>]) -> Vec<(SessionId, Vec<u8>)> {
    const HEADER: usize = 27;
    let number = words.get(2).and_then(|keys| str::from_utf8(keys).ok()?.parse::<usize>().ok());
    let arguments = words.get(3 + number.unwrap_or(0) + HEADER..).unwrap_or_default();
    let step = |step: &[Vec<u8>]| Some((SessionId::from_hex(str::from_utf8(&step[0]).ok()?)?, step[1].clone()));
    arguments.chunks_exact(7).filter_map(step).collect()
}

/// How many milliseconds before it was sent a call's activity was collected.
fn collected_before(words: &[Vec<u8>]) -> u64 {
    let number = |at: usize| words.get(at).and_then(|word| str::from_utf8(word).ok()?.parse::<u64>().ok());
    let header = 3 + usize::try_from(number(2).unwrap_or(0)).unwrap();
    number(header + 9).unwrap_or(0).saturating_sub(number(header + 8).unwrap_or(0))
}

/// Lets a call of a report carry a mark, though later calls of it carry activity.
fn mark_in_any_call(words: &mut [Vec<u8>]) {
    let keys = words.get(2).and_then(|keys| str::from_utf8(keys).ok()?.parse::<usize>().ok());
    let header = 3 + keys.unwrap_or(0);
    if words.get(header + 2).is_some_and(|kind| kind == b"part") {
        words[header + 2] = b"report".to_vec();
        words[header + 8] = words[header + 9].clone();
    }
}

/// Whether this is the reply to a report whose mark counts.
fn is_accepted_mark(reply: &Value) -> bool {
    matches!(reply, Value::Array(parts) if parts.len() == 21 && parts[5] == Value::Int(1))
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
        let is_next_version = shared.lock().is_next_version(number);
        RedisStore::simulated(Arc::new(link), limits, clock, name, Duration::from_millis(GRACE), is_next_version)
    }
}

impl Link for StoreLink {
    /// Sends a message, which travels on whatever happens to the replica, and waits for the response.
    fn send(&self, commands: Vec<Cmd>) -> BoxFuture<'_, RedisResult<Vec<RedisResult<Value>>>> {
        Box::pin(async move {
            let (sender, response) = tokio::sync::oneshot::channel();
            let (shared, cut_off) = (Arc::clone(&self.shared), Arc::clone(&self.cut_off));
            let about: usize = commands.iter().flat_map(words_of).map(|word| word.len()).sum();
            let [there, back] = [0, 1].map(|way| self.shared.lock().delay((way, self.number, about)));
            let (number, sent, server, mut drops) = {
                let shared = self.shared.lock();
                (self.number, shared.now(), shared.servers, shared.drops.subscribe())
            };
            let held_up = self.shared.lock().held_up.remove(&number);
            let there = there + Duration::from_millis(held_up.unwrap_or(0));
            if self.shared.lock().repeats {
                let (shared, commands) = (Arc::clone(&self.shared), commands.clone());
                tokio::spawn(async move {
                    sleep(20 * there + back).await;
                    let mut shared = shared.lock();
                    if !shared.is_down && shared.servers == server {
                        shared.execute(&commands, number, sent);
                    }
                });
            }
            tokio::spawn(async move {
                // A stopped server refuses at once; a replica that is cut off waits until its timeout.
                let passes = async |takes| {
                    sleep(takes).await;
                    if held_up.is_none() && cut_off.load(Ordering::Acquire) {
                        sleep(RESPONSE_TIMEOUT).await;
                        return false;
                    }
                    let shared = shared.lock();
                    !shared.is_down && shared.servers == server
                };
                // With a dropped connection, every other message is lost.
                let drops = shared.lock().drops.subscribe();
                if passes(there).await && (there.as_millis().is_multiple_of(2) || !drops.has_changed().unwrap_or(true))
                {
                    let replies = shared.lock().execute(&commands, number, sent);
                    if passes(back).await {
                        // The caller may have given up.
                        let _ = sender.send(replies);
                    }
                }
            });
            let lost = || RedisError::from((ErrorKind::Io, "lost on the way"));
            let response = tokio::select! {
                response = timeout(RESPONSE_TIMEOUT, response) => Some(response),
                _ = drops.changed() => None,
            };
            // A lookup continues by itself, even while its replica is frozen.
            self.time.store(self.shared.lock().now() + self.offset, Ordering::Release);
            let response = response.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))?;
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
