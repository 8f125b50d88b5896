//! What fleets of several sizes cost a real Redis, and how they recover from faults. See README.md beside this file.
// A benchmark that unwraps stops where something is wrong; its clock is the one on the wall.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use futures_util::future::join_all;
use idlegate::clock::{Clock, Moment, epoch_milliseconds};
use idlegate::config::{Config, Variables};
use idlegate::registry::{MAX_LISTED, Registry, Resolved, TrackedSession};
use idlegate::server::Server;
use idlegate::session::{SessionId, Source};
use idlegate::systemd::HandedOver;
use parking_lot::Mutex;
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::fmt::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tracing::{Instrument, Level, error_span};

/// The interval of the driver, and how many of them lie between two pongs, and between two frames, of a session.
const TICK: Duration = Duration::from_millis(100);
const PONG_TICKS: usize = 450;
const FRAME_TICKS: usize = 10;
/// One session in so many sends a frame every second.
const FRAMES_OF: usize = 20;
/// Activity may wait this long, in milliseconds, where the store already knows recent activity of the session.
const WAITS: u64 = 5_000;
/// Other activity older than this, in milliseconds, must be synced: reports are sent every second.
const STALE: u64 = 2_000;
/// A fleet that has not settled by then, in milliseconds, is reported as such.
const GIVE_UP: u64 = 60_000;
/// The longest time in which a recheck of all sessions is measured, in seconds.
const MAX_RECHECK: u32 = 15;
/// The timeout of the sessions whose ends are timed, and over how long their last activity is spread, in milliseconds.
const SHORT_TIMEOUT: u64 = 5_000;
const PHASES: usize = 2_000;
/// The whole run ends by then.
const RUN_LIMIT: Duration = Duration::from_secs(900);

/// The scope of a run. Sizes in one list are measured at the same time. `window`: how many seconds of normal work are
/// measured. `quiet`: how long a fleet must stay settled, in milliseconds.
struct Plan {
    sizes: &'static [&'static [usize]],
    window: u32,
    quiet: u64,
    storms: bool,
}

const FULL: Plan = Plan { sizes: &[&[1_000, 10_000], &[100_000]], window: 20, quiet: 2_000, storms: true };
const QUICK: Plan = Plan { sizes: &[&[1_000, 10_000]], window: 2, quiet: 1_500, storms: false };

/// What idlegate logs at `warn` and above.
static LOG: Mutex<String> = Mutex::new(String::new());

/// How many times all sessions were listed.
static LISTS: AtomicU64 = AtomicU64::new(0);

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        *LOG.lock() += &String::from_utf8_lossy(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn is_outage(line: &&str) -> bool {
    line.contains("store unavailable") || line.contains("store refuses")
}

/// A server with the settings of deploy/kubernetes/redis, on a socket in its own folder.
struct Redis {
    child: Child,
    folder: TempDir,
}

impl Redis {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut redis = Self { child: launch(&folder), folder };
        redis.listens().await;
        redis
    }

    /// Waits until it listens: its socket file exists before that.
    async fn listens(&mut self) {
        while UnixStream::connect(self.folder.path().join("s")).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "redis-server has ended");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("s").display())
    }

    async fn connect(&self) -> MultiplexedConnection {
        // A server that is busy answers late.
        let patient = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    async fn restart_empty(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(self.folder.path().join("appendonlydir"));
        let _ = std::fs::remove_file(self.folder.path().join("dump.rdb"));
        self.child = launch(&self.folder);
        self.listens().await;
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--appendonly", "yes", "--maxmemory", "128mb", "--maxmemory-policy", "noeviction"])
        .args(["--latency-tracking-info-percentiles", "100", "--port", "0", "--unixsocket", "s", "--dir"])
        .arg(folder.path())
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Replicas that share a Redis, all in this process.
struct Fleet {
    /// The first to be dropped: no replica outlives its Redis.
    tasks: JoinSet<()>,
    redis: Redis,
    connection: MultiplexedConnection,
    clock: Clock,
    registries: Vec<Arc<Registry>>,
    sessions: usize,
    /// Each session as each replica that knows it has it. The first `sessions` are of different sessions.
    known: Arc<Vec<Arc<TrackedSession>>>,
    /// How many activities the driver has caused.
    activities: Arc<AtomicU64>,
}

/// Totals at one moment.
struct Totals {
    cpu: f64,
    bytes: f64,
    key_reads: f64,
    round_trips: f64,
    activities: f64,
}

impl Fleet {
    /// Starts the replicas, and begins this many sessions. Every second one is known to two replicas.
    async fn start(replicas: usize, sessions: usize, idle_timeout: u64) -> Self {
        let (redis, clock) = (Redis::start().await, Clock::system());
        let (mut registries, mut tasks) = (Vec::new(), JoinSet::new());
        for _ in 0..replicas {
            let server = Server::bind(config(&redis.url(), idle_timeout), HandedOver::default()).await.unwrap();
            registries.push(Arc::clone(server.registry()));
            tasks.spawn(server.run().instrument(error_span!("fleet", redis = redis.url())));
        }
        while !registries.iter().all(|registry| registry.store.status().is_some_and(|status| status.takes)) {
            sleep(TICK).await;
        }
        let known = Arc::new(begin(&registries, sessions).await);
        let (connection, activities) = (redis.connect().await, Arc::default());
        Self { tasks, redis, connection, clock, registries, sessions, known, activities }
    }

    /// Starts the activity: a pong every 45 s on each replica that knows a session, and the frames of some.
    fn drive(&mut self) {
        let (known, clock, activities) = (Arc::clone(&self.known), self.clock.clone(), Arc::clone(&self.activities));
        let with_frames = self.sessions / FRAMES_OF;
        self.tasks.spawn(async move {
            let mut ticks = interval(TICK);
            for tick in 0.. {
                ticks.tick().await;
                let now = clock.now();
                let pongs = known.iter().skip(tick % PONG_TICKS).step_by(PONG_TICKS);
                let frames = known[..with_frames].iter().skip(tick % FRAME_TICKS).step_by(FRAME_TICKS);
                activities.fetch_add((pongs.len() + frames.len()) as u64, Ordering::Relaxed);
                pongs.for_each(|session| session.touch(now, Source::ClientPong));
                frames.for_each(|session| session.touch(now, Source::ClientFrame));
            }
        });
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        asked.arg(words.collect::<Vec<_>>());
        asked.query_async(&mut self.connection).await.unwrap()
    }

    async fn info(&mut self, section: &str) -> HashMap<String, String> {
        let text: String = self.ask(&format!("INFO {section}")).await;
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    async fn totals(&mut self) -> Totals {
        let (cpu, stats) = (self.info("cpu").await, self.info("stats").await);
        let number = |from: &HashMap<String, String>, name: &str| from[name].parse::<f64>().unwrap();
        let round_trips = self.registries.iter().map(|registry| {
            let (text, name) = (registry.metrics().text(), "idlegate_store_round_trip_seconds_count ");
            text.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).unwrap()
        });
        Totals {
            cpu: number(&cpu, "used_cpu_user") + number(&cpu, "used_cpu_sys"),
            bytes: number(&stats, "total_net_input_bytes"),
            key_reads: number(&stats, "keyspace_hits") + number(&stats, "keyspace_misses"),
            round_trips: round_trips.sum(),
            activities: float(self.activities.load(Ordering::Relaxed)),
        }
    }

    /// The command or transaction that held the server longest since its statistics were reset, in milliseconds.
    async fn longest_block(&mut self) -> (f64, String) {
        let stats = self.info("latencystats").await;
        let all = stats.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("latency_percentiles_usec_")?;
            Some((value.strip_prefix("p100=")?.parse::<f64>().ok()? / 1000.0, name.to_owned()))
        });
        // Those that this benchmark sends do not count.
        let theirs = all.filter(|(_, name)| name != "info" && !name.starts_with("config"));
        theirs.max_by(|(one, _), (other, _)| one.total_cmp(other)).unwrap_or_default()
    }

    fn outages(&self) -> usize {
        let (log, redis) = (LOG.lock(), self.redis.url());
        log.lines().filter(|line| line.contains(&redis)).filter(is_outage).count()
    }

    /// How many seconds after `since` the fleet was settled, and stayed so: the store has every session, no activity
    /// waits for its report too long, and no outage is logged. `None`: not in time.
    async fn settled(&mut self, since: Moment, quiet: u64) -> Option<f64> {
        let (mut outages, mut settled) = (self.outages(), None);
        loop {
            sleep(TICK).await;
            let (now, logged) = (self.clock.now(), self.outages());
            if now.since(since) > GIVE_UP {
                return None;
            }
            let is_calm = std::mem::replace(&mut outages, logged) == logged;
            let unsynced = self.known.iter().filter_map(|session| session.activity_record().unsynced(now, WAITS));
            let all_synced = unsynced.map(|last| now.since(last.at)).all(|age| age <= STALE);
            // The number of all keys is cheap to ask for. At the end the sessions are counted.
            if !(is_calm && all_synced && self.ask::<usize>("DBSIZE").await >= self.sessions) {
                settled = None;
                continue;
            }
            let from = *settled.get_or_insert(now);
            if now.since(from) >= quiet && self.ask::<Vec<String>>("KEYS scale:session:*").await.len() >= self.sessions
            {
                assert!(self.known.iter().all(|session| session.ended().is_none()), "an active session has ended");
                return Some(seconds(from.since(since)));
            }
        }
    }

    /// Drops the connections of these types; or, if there are none, restarts Redis without its data. Returns after how
    /// many seconds the fleet had settled, and how many outages were logged.
    async fn recover(&mut self, dropped: &[&str], quiet: u64) -> (String, usize) {
        between_reports().await;
        let (since, outages) = (self.clock.now(), self.outages());
        if dropped.is_empty() {
            self.redis.restart_empty().await;
            self.connection = self.redis.connect().await;
        }
        for kind in dropped {
            // All but the one that asks.
            self.ask::<u64>(&format!("CLIENT KILL TYPE {kind}")).await;
        }
        let settled = self.settled(since, quiet).await.map(|settled| format!("{settled:.1}"));
        (settled.unwrap_or_else(|| format!("> {:.0}", seconds(GIVE_UP))), self.outages() - outages)
    }
}

fn config(redis: &str, idle_timeout: u64) -> Config {
    let text = format!(
        "listen = '127.0.0.1:0'\nupstream = 'http://127.0.0.1:9'\nmax_sessions = 1_000_000\n\
        [idle]\ntimeout = '{idle_timeout}ms'\n[store]\nurl = '{redis}'\nprefix = 'scale'\n\
        [[token]]\nfrom = 'header'\nname = 'x-token'\n"
    );
    Config::parse(&text, "scale", &Variables::default()).unwrap()
}

/// Begins sessions. Returns those of the replicas where they begin, then every second one as another replica has it.
async fn begin(registries: &[Arc<Registry>], sessions: usize) -> Vec<Arc<TrackedSession>> {
    let replicas = registries.len();
    let shared = if replicas > 1 { sessions / 2 } else { 0 };
    let begun = (0..sessions).map(|index| (index, index / 2 % replicas, true));
    let looked_up = (0..shared).map(|half| (2 * half, (half + 1) % replicas, false));
    let mut known = Vec::new();
    for some in begun.chain(looked_up).collect::<Vec<_>>().chunks(256) {
        let some = some.iter().map(async |&(index, replica, begins)| {
            let (id, registry) = (SessionId::of_token(format!("token-{index}").as_bytes()), &registries[replica]);
            let resolved =
                if begins { registry.table.accept(id, None, None).await } else { registry.table.resolve(id).await };
            let Resolved::Live(session) = resolved else { panic!("not live: {resolved:?}") };
            session
        });
        known.extend(join_all(some).await);
    }
    known
}

/// Waits for the middle between two reports, so that a window has a whole number of them. All replicas report right
/// after the turn of a second of Redis' clock, which is the clock of this machine.
async fn between_reports() {
    sleep(Duration::from_millis(1_000 - (epoch_milliseconds() + 400) % 1_000)).await;
}

/// One row of the main table.
async fn row(plan: &Plan, replicas: usize, sessions: usize) -> String {
    let mut fleet = Fleet::start(replicas, sessions, 3_600_000).await;
    fleet.drive();
    let now = fleet.clock.now();
    // After this time the next report has a whole second of activity.
    let state = if fleet.settled(now, 500).await.is_some() { "" } else { " (reports are late)" };
    between_reports().await;
    fleet.ask::<()>("CONFIG RESETSTAT").await;
    let before = fleet.totals().await;
    sleep(Duration::from_millis(u64::from(plan.window) * 1_000 - 500)).await;
    between_reports().await;
    let after = fleet.totals().await;
    let (block, command) = fleet.longest_block().await;
    let per_second = |total: fn(&Totals) -> f64| (total(&after) - total(&before)) / f64::from(plan.window);
    let cpu = per_second(|totals| totals.cpu);
    let recheck = recheck(&mut fleet, cpu, per_second(|totals| totals.key_reads)).await;
    let (dropped, dropped_outages) = fleet.recover(&["pubsub", "normal"], plan.quiet).await;
    let (emptied, emptied_outages) = fleet.recover(&[], plan.quiet).await;
    let row = format!(
        "| {replicas} | {sessions} | {:.1}{state} | {recheck:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {block:.1} ({command}) \
         | {dropped} | {dropped_outages} | {emptied} | {emptied_outages} |\n",
        cpu * 100.0,
        per_second(|totals| totals.activities),
        per_second(|totals| totals.key_reads),
        per_second(|totals| totals.bytes),
        per_second(|totals| totals.round_trips) / float(replicas as u64),
    );
    eprint!("{row}");
    row
}

/// Takes the subscriptions away, so that each replica looks up all its sessions, as it does once a minute. Returns what
/// CPU time that takes beyond the usual, in milliseconds.
async fn recheck(fleet: &mut Fleet, usual_cpu: f64, usual_reads: f64) -> f64 {
    let begun = fleet.totals().await;
    fleet.ask::<u64>("CLIENT KILL TYPE pubsub").await;
    let (mut length, mut reads) = (0, begun.key_reads);
    loop {
        sleep(TICK).await;
        between_reports().await;
        length += 1;
        let now = fleet.totals().await;
        if now.key_reads - std::mem::replace(&mut reads, now.key_reads) < 1.2 * usual_reads || length == MAX_RECHECK {
            return 1000.0 * (now.cpu - begun.cpu - usual_cpu * f64::from(length)).max(0.0);
        }
    }
}

/// Four replicas with 12,000 sessions each lose their connections once. Returns a row for each kind of loss.
async fn storm(quiet: u64) -> String {
    let mut fleet = Fleet::start(4, 32_000, 3_600_000).await;
    fleet.drive();
    let now = fleet.clock.now();
    fleet.settled(now, quiet).await;
    let mut rows = String::new();
    for (name, dropped) in [("those for commands", &["normal"][..]), ("all", &["pubsub", "normal"])] {
        let before = fleet.totals().await;
        let (settled, outages) = fleet.recover(dropped, quiet).await;
        let after = fleet.totals().await;
        let again = after.key_reads - before.key_reads - (after.activities - before.activities);
        let times = again / float(fleet.known.len() as u64);
        writeln!(rows, "| {name} | {settled} | {outages} | {again:.0} | {times:.1} |").unwrap();
    }
    rows
}

/// How late sessions end that were last active at different phases of a second. Returns a row.
async fn lateness(replicas: usize) -> String {
    const FEW: usize = 500;
    let fleet = Fleet::start(replicas, FEW, SHORT_TIMEOUT).await;
    let mut ends = JoinSet::new();
    for (index, session) in fleet.known.iter().cloned().enumerate() {
        let clock = fleet.clock.clone();
        ends.spawn(async move {
            if index < FEW {
                sleep(Duration::from_millis((index * 1_619 % PHASES) as u64)).await;
                session.touch(clock.now(), Source::ClientFrame);
            }
            session.cut().await;
            (index, clock.now())
        });
    }
    let mut late = Vec::new();
    let all = async {
        while let Some(Ok((index, ended))) = ends.join_next().await {
            // The replica that saw the last activity, which the other does not know to the millisecond.
            let active = if index < FEW { index } else { 2 * (index - FEW) };
            let last = fleet.known[active].activity_record().last().at;
            late.push(seconds(ended.0) - seconds(last.plus(SHORT_TIMEOUT).0));
        }
    };
    let _ = timeout(Duration::from_millis(GIVE_UP), all).await;
    late.sort_by(f64::total_cmp);
    let at = |index: usize| late.get(index).copied().unwrap_or(f64::NAN);
    let (least, half, most) = (at(0), at(late.len() / 2), at(late.len().saturating_sub(1)));
    format!("| {replicas} | {} of {} | {least:.2} | {half:.2} | {most:.2} |\n", late.len(), fleet.known.len())
}

/// How long a request waits for its session to be found, in microseconds: alone, and while all sessions are listed again and
/// again. Returns two rows.
async fn admissions(sessions: usize) -> String {
    const REQUESTS: usize = 50_000;
    const MANY_LISTS: u64 = 20;
    let fleet = Fleet::start(1, sessions, 3_600_000).await;
    let registry = Arc::clone(&fleet.registries[0]);
    let mut text = String::new();
    for is_listed in [false, true] {
        let (registry, listed) = (Arc::clone(&registry), Arc::clone(&registry));
        let listing = tokio::spawn(async move {
            loop {
                assert!(!listed.inspect.views(0, MAX_LISTED).await.found.is_empty());
                LISTS.fetch_add(1, Ordering::Relaxed);
            }
        });
        if !is_listed {
            listing.abort();
        }
        let requests = tokio::spawn(async move {
            let mut waits = Vec::new();
            let is_enough = |count| count >= REQUESTS && (!is_listed || LISTS.load(Ordering::Relaxed) >= MANY_LISTS);
            for number in (0..).take_while(|count| !is_enough(*count)) {
                let id = SessionId::of_token(format!("token-{}", number * 7_919 % sessions).as_bytes());
                let begun = Instant::now();
                assert!(matches!(registry.table.resolve(id).await, Resolved::Live(_)));
                waits.push(begun.elapsed().as_micros());
                tokio::task::yield_now().await;
            }
            waits
        });
        let mut waits = requests.await.unwrap();
        listing.abort();
        waits.sort_unstable();
        let at = |share: usize| waits[(waits.len() - 1) * share / 1000];
        let lists = LISTS.swap(0, Ordering::Relaxed);
        writeln!(
            text,
            "| {sessions} | {lists} | {} | {} | {} | {} | {} |",
            waits.len(),
            at(500),
            at(990),
            at(999),
            at(1000)
        )
        .unwrap();
    }
    text
}

async fn run(plan: &Plan) -> String {
    let mut text = String::from(
        "| replicas | live sessions | Redis CPU, % of a core | more CPU each minute for the recheck, ms | activities/s \
         | keys read/s | bytes in/s | calls/s of a replica | longest block, ms | all connections dropped: settled after, s \
         | outages logged | empty restart: settled after, s | outages logged |\n|",
    ) + &"---|".repeat(13)
        + "\n";
    for replicas in [1, 4, 10] {
        for sizes in plan.sizes {
            text += &join_all(sizes.iter().map(|sessions| row(plan, replicas, *sessions))).await.concat();
        }
    }
    text += "\n| replicas | ends seen | earliest, s late | p50, s late | max, s late |\n|---|---|---|---|---|\n";
    text += &join_all([1, 4, 10].map(lateness)).await.concat();
    if plan.storms {
        text += "\n| storm: dropped connections | settled after, s | outages logged | keys read, not for new activity \
                 | per known session |\n|---|---|---|---|---|\n";
        text += &storm(plan.quiet).await;
    }
    text += "\n| live sessions | lists meanwhile | requests | a request waits, p50, µs | p99, µs | p99.9, µs | max, µs |\n|---|---|---|---|---|---|---|\n";
    text += &admissions(if plan.storms { 100_000 } else { 10_000 }).await;
    let log = LOG.lock();
    let others: Vec<_> = log.lines().filter(|line| !is_outage(line)).collect();
    if let Some(first) = others.first() {
        write!(text, "\nOther warnings: {}. The first: {first}\n", others.len()).unwrap();
    }
    text
}

fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Whatever ends the run, the servers are dropped, which kills them.
async fn run_unless_stopped(plan: &Plan) -> Option<String> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).unwrap(), signal(SignalKind::terminate()).unwrap());
    tokio::select! {
        tables = timeout(RUN_LIMIT, run(plan)) => tables.ok(),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    }
}

fn main() {
    // Cargo gives it to benchmarks. `cargo test --all-targets` runs them as well, without it.
    if !std::env::args().any(|argument| argument == "--bench") {
        return println!("run it by `cargo bench --bench scale`");
    }
    let quick = std::env::args().any(|argument| argument == "quick");
    let (plan, name) = if quick { (QUICK, "quick") } else { (FULL, "full") };
    tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).with_writer(|| Log).init();
    let clock = Clock::system();
    let started = clock.now();
    let tables = tokio::runtime::Runtime::new().unwrap().block_on(run_unless_stopped(&plan));
    let tables = tables.expect("the run was not stopped, and ended in time");
    let took = seconds(clock.now().since(started));
    let (revision, cores) = (idlegate::version::REVISION, std::thread::available_parallelism().map_or(0, usize::from));
    let text = format!("A {name} run of `{revision}` on {cores} cores, {took:.0} s:\n\n{tables}");
    print!("\n{text}");
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/scale.md"), text).unwrap();
}
