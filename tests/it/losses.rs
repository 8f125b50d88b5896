//! What Redis may lose, stop or get wrong, and what must hold then: dead tokens stay dead, no session ends early, and one end is
//! recorded by all.

use crate::harness::{App, BUSY, Idlegate, Redis, Request, Tunnel, Way, eventually, log_in, replica};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

async fn log_out(proxy: &Idlegate, token: &str) {
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
}

/// Whether a request with this token reaches the app.
async fn passes(proxy: &Idlegate, token: &str) -> bool {
    let request = Request::get(proxy.address, "/api/get-all-students").header("session-id", token);
    request.send().await.status != 401
}

/// Asks again and again, for so long. Returns how many requests passed, and how many were made.
async fn passed_for(proxy: &Idlegate, token: &str, time: Duration) -> (usize, usize) {
    let (begun, mut passed, mut all) = (Instant::now(), 0, 0);
    while begun.elapsed() < time {
        passed += usize::from(passes(proxy, token).await);
        all += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (passed, all)
}

/// Two replicas, and a token that died on the first. The second one has never seen it.
async fn with_a_dead_token(app: &App, redis: &Redis, more: &[(&str, &str)]) -> ([Idlegate; 2], String) {
    let replicas = std::array::from_fn(|_| replica(app, &redis.url(), "1h", more));
    let token = log_in(replicas[0].address, "ada", "lovelace").await;
    log_out(&replicas[0], &token).await;
    eventually("both to report", async || {
        redis.hash("idlegate:replicas").await.keys().filter(|name| name.contains('-')).count() == 2
    })
    .await;
    (replicas, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_with_a_dead_token_passes_on_another_replica_after_flushall() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let ([_one, two], token) = with_a_dead_token(&app, &redis, &[]).await;
    redis.ask::<()>("FLUSHALL").await;
    let (passed, all) = passed_for(&two, &token, seconds(4.0)).await;
    println!("after FLUSHALL: {passed} of {all} requests passed");
    assert!(passed == 0 && all > 2, "{passed} of {all} requests passed");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_with_a_dead_token_passes_on_another_replica_after_an_empty_restart() {
    // While Redis cannot be asked, this decides.
    let refuse = [("IDLEGATE_STORE_UNKNOWN_TOKENS", "refuse")];
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let ([_one, two], token) = with_a_dead_token(&app, &redis, &refuse).await;
    redis.kill();
    redis.start_again();
    let begun = Instant::now();
    let (mut passed, mut refused) = (0, 0);
    while begun.elapsed() < seconds(4.0) {
        let request = Request::get(two.address, "/api/get-all-students").header("session-id", &token);
        match request.send().await.status.as_u16() {
            401 | 503 => refused += 1,
            _ => passed += 1,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("after an empty restart: {passed} of {} requests passed", passed + refused);
    assert!(passed == 0 && refused > 2, "{passed} of {} requests passed", passed + refused);
    assert!(!passes(&two, &token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_stays_dead_where_one_key_of_it_is_deleted() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let ([one, two], token) = with_a_dead_token(&app, &redis, &[]).await;
    let id = idlegate::session::SessionId::of_token(token.as_bytes());
    assert_eq!(redis.ask::<u64>(&format!("DEL idlegate:session:{id}")).await, 1);
    let (passed, all) = passed_for(&two, &token, seconds(2.0)).await;
    assert!(passed == 0 && all > 2, "without its record, {passed} of {all} requests passed");
    let later = replica(&app, &redis.url(), "1h", &[]);
    for proxy in [&one, &later] {
        assert!(!passes(proxy, &token).await);
    }
}

/// As a server that evicts them does.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_stays_dead_where_its_keys_are_deleted_one_after_another() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let ([one, two], token) = with_a_dead_token(&app, &redis, &[]).await;
    let id = idlegate::session::SessionId::of_token(token.as_bytes());
    for key in ["idlegate:replicas", "idlegate:recent_ends", "idlegate:ends"] {
        redis.ask::<()>(&format!("DEL {key}")).await;
    }
    let is_back = async || redis.ask::<bool>(&format!("HEXISTS idlegate:ends {id}")).await;
    eventually("the end to be written back", is_back).await;
    redis.ask::<()>(&format!("DEL idlegate:session:{id}")).await;
    let later = replica(&app, &redis.url(), "1h", &[]);
    for proxy in [&one, &two, &later] {
        assert!(!passes(proxy, &token).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_before_a_bearer_token_is_not_looked_up() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let url = redis.url();
    let config = format!(
        "upstream = {:?}\nlisten = \"127.0.0.1:0\"\n[store]\nurl = {url:?}\n[[token]]\nfrom = \"bearer\"\n",
        app.upstream
    );
    let proxy = Idlegate::start(&config);
    let ask = async || {
        let request = Request::get(proxy.address, "/api/get-all-students").header("authorization", "Bearer known");
        request.send().await
    };
    ask().await;
    eventually("the first report", async || redis.ask::<bool>("HEXISTS idlegate:replicas counting").await).await;
    let (before, begun) = (redis.calls().await, Instant::now());
    for _ in 0..200 {
        ask().await;
    }
    let (after, took) = (redis.calls().await, begun.elapsed());
    let of = |calls: &BTreeMap<String, u64>| calls.get("eval").unwrap_or(&0) + calls.get("evalsha").unwrap_or(&0);
    // The app refuses this token, so each request looks it up; the word `Bearer` would be as many again.
    let asked = of(&after) - of(&before);
    println!("{asked} calls for 200 requests");
    assert!(asked <= 200 + 2 + 2 * took.as_secs(), "{asked} calls for 200 requests in {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_looked_up_too_late_closes_the_tunnel() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let way = Way::to(&redis, Duration::from_millis(200)).await;
    let here = replica(&app, &redis.url(), "1h", &[]);
    let far = replica(&app, &way.url(), "1h", &[("IDLEGATE_STORE_LOOKUP_TIMEOUT", "100ms")]);
    eventually("both to report", async || {
        redis.hash("idlegate:replicas").await.keys().filter(|name| name.contains('-')).count() == 2
    })
    .await;
    let token = log_in(here.address, "ada", "lovelace").await;
    log_out(&here, &token).await;
    // The answer takes 400 ms: the app has the say before it comes, and no tunnel stays open after it.
    if let Ok(mut tunnel) = Tunnel::try_open(far.address, &token).await {
        tunnel.cut(seconds(2.0)).await;
    }
    assert!(Tunnel::try_open(far.address, &token).await.is_err());
}

/// The records of ends, by session: what each replica must say alike.
fn ends(proxy: &Idlegate) -> BTreeMap<String, Value> {
    let alike = |record: &Value| json!([record["reason"], record["last_activity"], record["source"], record["now"]]);
    let records = proxy.records("cut");
    records.iter().map(|record| (record["session"].as_str().unwrap().to_owned(), alike(record))).collect()
}

/// While a replica, or Redis, stands still for 10 s, sessions get past their timeout. When it goes on, they end within 2 s, and
/// all replicas record the same ends.
async fn ends_come_soon_after_a_stop(stops_redis: bool) {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "4s", &[]));
    let mut tunnels = Vec::new();
    for number in 0..10 {
        for proxy in [&one, &two] {
            tunnels.push(Tunnel::open(proxy, &format!("token-{number}")).await);
        }
    }
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        tokio::time::sleep(Duration::from_millis(number as u64 * 7)).await;
        tunnel.echo().await;
    }
    if stops_redis {
        redis.freeze();
    } else {
        two.freeze();
    }
    tokio::time::sleep(seconds(10.0)).await;
    assert!(one.records("cut").is_empty(), "{:?}", one.records("cut"));
    if stops_redis {
        redis.thaw();
    } else {
        two.thaw();
    }
    let back = Instant::now();
    let cuts = tunnels.iter_mut().map(|tunnel| tunnel.cut(seconds(9.0)));
    let cuts = futures_util::future::join_all(cuts).await;
    let took = *cuts.iter().max().unwrap() - back;
    println!("after a stop of {}: all closed within {took:?}", if stops_redis { "Redis" } else { "a replica" });
    // The stopped one reports within 1.2 s, the verdict comes 0.6 s after that, and the other closes within a second.
    assert!(took < seconds(4.0) + BUSY, "{took:?}");
    eventually("all records", async || ends(&one).len() == 10 && ends(&two).len() == 10).await;
    assert_eq!(ends(&one), ends(&two));
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_come_soon_after_a_replica_or_redis_stood_still() {
    tokio::join!(ends_come_soon_after_a_stop(false), ends_come_soon_after_a_stop(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_of_redis_that_runs_fast_ends_nothing_early() {
    let (app, redis) = (App::start(QUIET), Redis::with_clock());
    redis.run_clock_fast(200_000);
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "10s", &[]));
    let mut lives = Vec::new();
    for number in 0..10 {
        let token = format!("token-{number}");
        let (watching, mut used) = (Tunnel::open(&one, &token).await, Tunnel::open(&two, &token).await);
        tokio::time::sleep(Duration::from_millis(130)).await;
        used.echo().await;
        lives.push((watching, used, Instant::now()));
    }
    let cuts = lives.iter_mut().map(|(watching, used, last)| async move {
        let (one, other) = tokio::join!(watching.cut(seconds(20.0)), used.cut(seconds(20.0)));
        one.min(other) - *last
    });
    let idle = futures_util::future::join_all(cuts).await;
    let (first, last) = (*idle.iter().min().unwrap(), *idle.iter().max().unwrap());
    println!("20 % fast, a timeout of 10 s: ended after {first:?} to {last:?}");
    assert!(first > seconds(10.0) && last < seconds(15.0) + BUSY, "{first:?} to {last:?}");
}
