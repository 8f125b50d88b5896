//! What Redis holds: sessions that a person can read, no token, and no more work than needed.

use crate::harness::{App, Idlegate, Redis, Request, Tunnel, Way, eventually, replica, soon};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;

const QUIET: &[&str] = &["--ping", "600"];

fn names(hash: &BTreeMap<String, String>) -> Vec<&str> {
    hash.keys().map(String::as_str).collect()
}

fn key(token: &str) -> String {
    format!("idlegate:session:{}", idlegate::session::SessionId::of_token(token.as_bytes()))
}

async fn time_to_live(redis: &Redis, token: &str) -> u64 {
    redis.ask(&format!("TTL {}", key(token))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_a_hash_that_a_person_can_read() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "2s", &[("IDLEGATE_IDLE_RETENTION", "100s")]);
    let begun = redis.now().await;
    let mut tunnel = Tunnel::open(&proxy, "ada's-token").await;
    eventually("a frame to be reported", async || {
        tunnel.echo().await;
        redis.session("ada's-token").await["source"] != "accepted"
    })
    .await;
    let live = redis.session("ada's-token").await;
    assert_eq!(names(&live), ["created", "last_activity", "source"], "{live:?}");
    assert!(["client-frame", "server-frame"].contains(&live["source"].as_str()), "{live:?}");
    for field in ["created", "last_activity"] {
        let second: u64 = live[field].parse().unwrap();
        assert!((begun..=begun + 2).contains(&second), "{field} of {live:?} is not about {begun}");
    }
    let lives = time_to_live(&redis, "ada's-token").await;
    assert!((3599..=3602).contains(&lives), "the limit and an hour, as the retention is shorter, but {lives}");
    soon("the cut", tunnel.cut(Duration::from_secs(9))).await;
    let ended = redis.session("ada's-token").await;
    assert_eq!(names(&ended), ["created", "ended", "last_activity", "reason", "source"], "{ended:?}");
    let [last, end] = ["last_activity", "ended"].map(|field| ended[field].parse::<u64>().unwrap());
    assert!(ended["reason"] == "idle" && (3..=4).contains(&(end - last)), "{ended:?}");
    let lives = time_to_live(&redis, "ada's-token").await;
    assert!((98..=100).contains(&lives), "retention, but {lives}");
}

/// All keys and values of the server, as text.
async fn everything(redis: &Redis) -> Vec<String> {
    let keys: Vec<String> = redis.ask("KEYS *").await;
    let mut all = keys.clone();
    for key in keys {
        let kind: String = redis.ask(&format!("TYPE {key}")).await;
        match kind.as_str() {
            "hash" => all.extend(redis.ask::<Vec<String>>(&format!("HGETALL {key}")).await),
            "string" => all.push(redis.ask(&format!("GET {key}")).await),
            other => panic!("{key} is a {other}"),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_stored_and_an_unknown_one_leaves_no_key() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[]);
    let _tunnel = Tunnel::open(&proxy, "the-only-token").await;
    for number in 0..20 {
        let request =
            Request::get(proxy.address, "/api/get-all-students").header("session-id", &format!("no-{number}"));
        assert_eq!(request.send().await.status, 401);
    }
    let sessions: Vec<String> = redis.ask("KEYS idlegate:session:*").await;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let all = everything(&redis).await;
    assert!(!all.iter().any(|text| text.contains("token") || text.contains("no-")), "{all:?}");
    let mut others: Vec<String> = redis.ask("KEYS *").await;
    others.retain(|key| !key.contains(":session:"));
    others.sort();
    assert_eq!(others, ["idlegate:ends", "idlegate:replicas"]);
    let ends: Vec<String> = redis.ask("HKEYS idlegate:ends").await;
    assert_eq!(ends, ["since"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prefixes_are_two_worlds() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let one = replica(&app, &redis.url(), "2s", &[("IDLEGATE_STORE_PREFIX", "one")]);
    let other = replica(&app, &redis.url(), "1h", &[("IDLEGATE_STORE_PREFIX", "other")]);
    let mut cut = Tunnel::open(&one, "shared").await;
    let mut kept = Tunnel::open(&other, "shared").await;
    cut.cut(Duration::from_secs(9)).await;
    assert!(Tunnel::try_open(one.address, "shared").await.is_err());
    kept.echo().await;
    let mut keys: Vec<String> = redis.ask("KEYS *:session:*").await;
    keys.sort();
    assert!(keys.len() == 2 && keys[0].starts_with("one:") && keys[1].starts_with("other:"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_known_session_costs_no_round_trip() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[]);
    let mut tunnel = Tunnel::open(&proxy, "busy").await;
    eventually("the first report", async || redis.ask::<bool>("HEXISTS idlegate:replicas counting").await).await;
    let (before, begun) = (redis.calls().await, std::time::Instant::now());
    for _ in 0..200 {
        tunnel.echo().await;
        Request::get(proxy.address, "/api/get-all-students").header("session-id", "busy").send().await;
    }
    let (after, took) = (redis.calls().await, begun.elapsed());
    let more = |command: &str| after.get(command).unwrap_or(&0) - before.get(command).unwrap_or(&0);
    // One call a second, whatever happens in it.
    let calls = more("eval") + more("evalsha");
    assert!(calls <= 2 + took.as_secs(), "in {took:?} of 400 frames and requests: {before:?}, {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_token_is_looked_up_once_however_many_ask() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let slow = Way::to(&redis, Duration::from_millis(150)).await;
    let proxy = replica(&app, &slow.url(), "1h", &[("IDLEGATE_STORE_LOOKUP_TIMEOUT", "5s")]);
    eventually("the first report", async || redis.ask::<bool>("HEXISTS idlegate:replicas counting").await).await;
    let ask = |token: &'static str| async move {
        let request = Request::get(proxy.address, "/api/get-all-students").header("session-id", token);
        assert_eq!(request.send().await.status, 401);
    };
    ask("one").await;
    let before = redis.calls().await;
    futures_util::future::join_all((0..100).map(|_| ask("another"))).await;
    let after = redis.calls().await;
    assert_eq!(after["hmget"] - before["hmget"], 1, "{before:?}, {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_the_server_forgets_in_the_middle_of_traffic_are_loaded_again() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "2s", &[]);
    let mut busy = Tunnel::open(&proxy, "busy").await;
    let forgetting = async {
        for _ in 0..40 {
            redis.ask::<()>("SCRIPT FLUSH").await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    let traffic = async {
        for number in 0..20 {
            let mut tunnel = Tunnel::open(&proxy, &format!("token-{number}")).await;
            tunnel.echo().await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::join!(forgetting, traffic, busy.busy_for(Duration::from_secs(4)));
    let last = std::time::Instant::now();
    let idle = busy.cut(Duration::from_secs(6)).await - last;
    assert!(idle < Duration::from_secs(4), "cut late, after {idle:?}");
    assert!(proxy.logged("until it is back").is_empty(), "{}", proxy.whole_log());
    assert_eq!(redis.ask::<Vec<String>>("KEYS idlegate:session:*").await.len(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_data_in_redis_affects_only_its_key_and_is_logged_once() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "3s", &[]));
    let (mut victim, mut other) = (Tunnel::open(&one, "victim").await, Tunnel::open(&two, "other").await);
    other.busy_for(Duration::from_secs(1)).await;
    redis.ask::<()>(&format!("SET {} junk", key("victim"))).await;
    redis.ask::<()>("HSET idlegate:mode junk junk").await;
    redis.ask::<()>("HSET idlegate:replicas foo junk counting junk steps junk ghost-0123abcd 9999999999999,off").await;
    let (count, lines) = (|proxy: &Idlegate, line| proxy.logged(line).len(), "unexpected data in");
    eventually("both keys to be mended", async || {
        victim.echo().await;
        other.echo().await;
        count(&one, lines) + count(&two, lines) >= 2 && redis.session("victim").await.contains_key("last_activity")
    })
    .await;
    other.echo().await;
    let last = std::time::Instant::now();
    victim.echo().await;
    let (cut, _) = tokio::join!(other.cut(Duration::from_secs(9)), victim.cut(Duration::from_secs(9)));
    let idle = cut - last;
    assert!(Duration::from_secs_f64(2.9) < idle && idle < Duration::from_secs(5), "cut after {idle:?}");
    for (line, times) in
        [("unexpected data in a session key", 1), ("unexpected data in the replicas key", 1), ("store unavailable", 0)]
    {
        assert_eq!(count(&one, line) + count(&two, line), times, "{line}: {}\n{}", one.whole_log(), two.whole_log());
    }
    for proxy in [&one, &two] {
        assert_eq!(count(proxy, "the fleet's mode in the store is not valid"), 1, "{}", proxy.whole_log());
    }
}
