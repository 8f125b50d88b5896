//! Tests of the Redis store against a real server.

mod fuzz;
mod junk;
mod lost;
mod replica;
mod switch;

use super::{RedisSettings, RedisStore};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::registry::{Registry, Resolved, Services};
use crate::secret::Secret;
use crate::session::{Limits, Mode, SessionId, Source};
use crate::store::contract::ShortForms;
use crate::store::{Known, Reply, Store, Touch, contract};
use redis::FromRedisValue;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A server for one test, on a socket in its own folder.
pub(super) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = std::env::var_os("TEST_REDIS_SERVER").unwrap_or("redis-server".into());
        let child = Command::new(program)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("s"))
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server, which tests/run installs");
        // The socket file exists before the server listens on it.
        while std::os::unix::net::UnixStream::connect(folder.path().join("s")).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, folder }
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("s").display())
    }

    fn store(&self, limits: Limits) -> RedisStore {
        let url = Secret::new(&self.url());
        let settings = RedisSettings {
            url,
            prefix: "test".to_owned(),
            password_file: None,
            sentinel_password_file: None,
            ca_file: None,
            replica_grace: Duration::from_secs(30),
            decides_alone: false,
        };
        RedisStore::new(settings, limits, Clock::system()).unwrap()
    }

    async fn ask(&self, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query_async(&mut connection).await.unwrap()
    }

    async fn hash(&self, key: &str) -> BTreeMap<String, String> {
        BTreeMap::from_redis_value(self.ask(&["HGETALL", key]).await).unwrap()
    }

    /// Replaces the value at `key` by one of another type.
    async fn replace(&self, key: &str, kind: usize) {
        let commands: [&[&str]; 4] =
            [&["SET", key, "junk"], &["RPUSH", key, "junk"], &["SADD", key, "junk"], &["ZADD", key, "1", "junk"]];
        // In one script, because a replica might write in between.
        let script = "redis.call('DEL', ARGV[2]) return redis.call(unpack(ARGV))";
        self.ask(&[&["EVAL", script, "0"], commands[kind % 4]].concat()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LIMITS: Limits = contract::LIMITS;

fn touch(token: &str, age: u64) -> Touch {
    Touch { id: SessionId::of_token(token.as_bytes()), age, source: Source::ClientPong, created_age: age, begins: true }
}

fn key_of(token: &str) -> String {
    format!("test:session:{}", SessionId::of_token(token.as_bytes()))
}

async fn flush(store: &dyn Store, touches: &[Touch]) -> Reply {
    store.flush(touches, Clock::system().now(), Mode::Enforce).await.unwrap()
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap_or_else(|_| panic!("timed out waiting for {what}"));
}

/// A store whose replica has been counting for a long time.
async fn counting(server: &Server, limits: Limits) -> RedisStore {
    let store = server.store(limits);
    store.flush(&[], store.server.clock.now(), Mode::Enforce).await.unwrap();
    server.ask(&["HSET", "test:replicas", "counting", "1000000000"]).await;
    store.flush(&[], store.server.clock.now(), Mode::Enforce).await.unwrap();
    store
}

#[tokio::test]
async fn it_keeps_the_promises_of_every_store() {
    let server = Server::start();
    contract::keeps_its_promises(&counting(&server, LIMITS).await).await;
    // Once more, after the server has forgotten its scripts.
    server.ask(&["SCRIPT", "FLUSH"]).await;
    server.ask(&["FLUSHALL"]).await;
    contract::keeps_its_promises(&counting(&server, LIMITS).await).await;
}

#[tokio::test]
async fn no_session_ends_before_every_replica_has_reported() {
    let server = Server::start();
    let here = counting(&server, LIMITS).await;
    let there = counting(&server, LIMITS).await;
    here.begin(touch("ada", 10_000)).await.unwrap();
    // Two seconds later the session is overdue by its own time. But `there` has not reported since.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    here.flush(&[], here.server.clock.now(), Mode::Enforce).await.unwrap();
    let known = here.judged(touch("ada", 12_100), 12_100, Mode::Enforce).await;
    assert!(matches!(known, Known::Live(_)), "{known:?}");
    there.flush(&[touch("ada", 500)], there.server.clock.now(), Mode::Enforce).await.unwrap();
    here.flush(&[], here.server.clock.now(), Mode::Enforce).await.unwrap();
    let Known::Live(live) = here.judged(touch("ada", 12_100), 12_100, Mode::Enforce).await else { panic!("cut early") };
    assert!(live.age < 2_000, "{live:?}");
}

/// A single replica is suspended for three seconds, longer than `max_gap` or not, and its session is idle past the
/// timeout then. Returns the outcome; without a server if it is gone meanwhile.
async fn stood_still(max_gap: u64, outage: bool) -> Known {
    let server = Server::start();
    let mut store = counting(&server, LIMITS).await;
    store.server.max_gap = max_gap;
    store.server.settings.decides_alone = true;
    store.begin(touch("ada", 8_500)).await.unwrap();
    store.flush(&[], store.server.clock.now(), Mode::Enforce).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = touch("ada", 11_500);
    // A request may be faster than the report.
    let known = store.judged(idle, 11_500, Mode::Enforce).await;
    assert!(matches!(known, Known::Live(_)), "judged by marks from before: {known:?}");
    if outage {
        drop(server);
        store.flush(&[idle], store.server.clock.now(), Mode::Enforce).await.unwrap_err();
        return store.decide_alone(idle, 11_500).map_or(known, Known::Ended);
    }
    store.flush(&[idle], store.server.clock.now(), Mode::Enforce).await.unwrap();
    store.judged(idle, 11_500, Mode::Enforce).await
}

#[tokio::test]
async fn idle_time_starts_again_after_a_single_replica_was_suspended() {
    for outage in [false, true] {
        let (briefly, long) = tokio::join!(stood_still(60_000, outage), stood_still(2_000, outage));
        assert!(matches!(briefly, Known::Ended(_)), "{briefly:?}");
        assert!(matches!(long, Known::Live(_)), "cut for time that did not count: {long:?}");
    }
}

/// Longer than activity may wait that cannot end a session yet.
const WAIT: Duration = Duration::from_millis(LIMITS.timeout * 10 + 5);

#[tokio::test]
async fn an_outage_costs_one_touch_per_session_when_it_is_over() {
    let server = Server::start();
    let registry = Registry::new(Services::new(Box::new(server.store(LIMITS)), Clock::system(), LIMITS), 10_000);
    registry.exchange.round().await;
    let mut sessions = Vec::new();
    for number in 0..1_000 {
        let id = SessionId::of_token(format!("token-{number}").as_bytes());
        let Resolved::Live(session) = registry.table.accept(id, None, None).await else { panic!("not begun") };
        sessions.push(session);
    }
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        for session in &sessions {
            session.touch(registry.clock().now(), Source::ClientFrame);
        }
        registry.exchange.round().await;
    }
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    sleep(WAIT).await;
    server.ask(&["CONFIG", "RESETSTAT"]).await;
    registry.exchange.round().await;
    registry.exchange.round().await;
    let redis::Value::BulkString(stats) = server.ask(&["INFO", "commandstats"]).await else { panic!("no text") };
    let stats = String::from_utf8(stats).unwrap();
    let calls = |command: &str, count: usize| stats.contains(&format!("cmdstat_{command}:calls={count},"));
    // Five calls of 200 sessions each, and one of the second round.
    assert!(calls("evalsha", 6) && calls("hmget", 1_000), "{stats}");
}

#[tokio::test]
async fn ten_thousand_active_sessions_cost_fifty_calls_a_report() {
    let server = Server::start();
    let store = server.store(LIMITS);
    let metrics = Arc::<Metrics>::default();
    let store = store.with_metrics(metrics.store.clone());
    let registry = Registry::new(Services::new(Box::new(store), Clock::system(), LIMITS), 10_000);
    registry.exchange.round().await;
    let mut sessions = Vec::new();
    for number in 0..10_000 {
        let id = SessionId::of_token(format!("token-{number}").as_bytes());
        let Resolved::Live(session) = registry.table.accept(id, None, None).await else { panic!("not begun") };
        sessions.push(session);
    }
    registry.exchange.round().await;
    let round_trips = || {
        let text = metrics.text();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("idlegate_store_round_trip_seconds_count "));
        lines.next().unwrap().parse::<u64>().unwrap()
    };
    let before = round_trips();
    server.ask(&["CONFIG", "RESETSTAT"]).await;
    for _ in 0..3 {
        sleep(WAIT).await;
        for session in &sessions {
            session.touch(registry.clock().now(), Source::ClientFrame);
        }
        registry.exchange.round().await;
    }
    assert_eq!(round_trips() - before, 3 * 50, "one round trip for 200 sessions");
    let redis::Value::BulkString(stats) = server.ask(&["INFO", "commandstats"]).await else { panic!("no text") };
    let stats = String::from_utf8(stats).unwrap();
    let calls = |command: &str, count: usize| stats.contains(&format!("cmdstat_{command}:calls={count},"));
    assert!(calls("evalsha", 3 * 50) && calls("hmget", 3 * 10_000), "{stats}");
}

#[tokio::test]
async fn activity_waits_where_the_store_knows_of_recent_activity() {
    let server = Server::start();
    let limits = Limits { timeout: 300, lifetime: None, ..LIMITS };
    let registry = Registry::new(Services::new(Box::new(server.store(limits)), Clock::system(), limits), 10);
    registry.exchange.round().await;
    let id = SessionId::of_token(b"ada");
    let Resolved::Live(session) = registry.table.accept(id, None, None).await else { panic!("not begun") };
    let told = async || server.hash(&key_of("ada")).await["source"].clone();
    let begun = registry.clock().now();
    while registry.clock().now().since(begun) < 1_500 {
        session.touch(registry.clock().now(), Source::ClientFrame);
        registry.exchange.round().await;
        assert_eq!(told().await, "accepted", "told before 1 % of the timeout");
    }
    eventually("the activity to be told, though no more follows", async || {
        registry.exchange.round().await;
        told().await == "client-frame"
    })
    .await;
}
