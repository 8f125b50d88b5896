//! Several replicas in front of one app: one session, one end.

use crate::harness::{App, Idlegate, Redis, Tunnel, ask, eventually, id, replica};
use http::{Method, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn fleet<const N: usize>(app: &App, redis: &Redis, limit: &str) -> [Idlegate; N] {
    std::array::from_fn(|_| replica(app, &redis.url(), limit, &[("IDLEGATE_STORE_REPLICA_GRACE", "6s")]))
}

async fn is_refused(proxy: &Idlegate, token: &str) -> bool {
    Tunnel::try_open(proxy.address, token).await.err() == Some(StatusCode::UNAUTHORIZED)
}

/// All tunnels are cut: no earlier than `limit` after `last`, which was before the last frame was sent, and all of them
/// within one second. (That it was not late is for the logs to say.)
async fn all_are_cut(tunnels: &mut [Tunnel], last: Instant, limit: f64) {
    let cuts = futures_util::future::join_all(tunnels.iter_mut().map(|tunnel| tunnel.cut(seconds(limit + 8.0)))).await;
    let (first, last_cut) = (*cuts.iter().min().unwrap() - last, *cuts.iter().max().unwrap() - last);
    println!("limit {limit} s: decided after {first:?}, all cut {:?} later", last_cut.saturating_sub(first));
    assert!(first > seconds(limit), "cut early, after {first:?}");
    let apart = last_cut.saturating_sub(first);
    assert!(apart < seconds(1.0), "the last tunnel lived {apart:?} longer than the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_on_one_replica_keep_a_session_on_all_and_silence_cuts_it_on_all() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let replicas: [Idlegate; 3] = fleet(&app, &redis, "3s");
    let [a, b, c] = &replicas;
    let mut tunnels =
        [Tunnel::open(a, "shared").await, Tunnel::open(b, "shared").await, Tunnel::open(c, "shared").await];
    tunnels[0].busy_for(seconds(7.5)).await;
    for proxy in &replicas {
        assert!(proxy.logged("session ended").is_empty(), "cut early: {}", proxy.whole_log());
    }
    let last = Instant::now();
    tunnels[0].echo().await;
    all_are_cut(&mut tunnels, last, 3.0).await;
    for proxy in &replicas {
        assert!(is_refused(proxy, "shared").await);
        proxy.has_cut_in_time(1).await;
    }
    let late = fleet::<1>(&app, &redis, "3s");
    assert!(is_refused(&late[0], "shared").await, "a replica that started later revived it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_in_time_whichever_replica_saw_the_last_frame() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let replicas: [Idlegate; 3] = fleet(&app, &redis, "2s");
    let lives = (0..12_u32).map(|number| {
        let (a, b) = (&replicas[number as usize % 3], &replicas[(number as usize + 1) % 3]);
        async move {
            tokio::time::sleep(Duration::from_millis(u64::from(number) * 137)).await;
            let token = format!("token-{number}");
            let mut tunnels = vec![Tunnel::open(a, &token).await];
            if number % 2 == 0 {
                tunnels.push(Tunnel::open(b, &token).await);
            }
            let last = Instant::now();
            tunnels.last_mut().unwrap().echo().await;
            all_are_cut(&mut tunnels, last, 2.0).await;
        }
    });
    futures_util::future::join_all(lives).await;
    for proxy in &replicas {
        proxy.has_cut_in_time(proxy.logged("a session is tracked").len()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_on_one_replica_closes_the_tunnels_on_another_and_kills_the_token_everywhere() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [a, b, c]: [Idlegate; 3] = fleet(&app, &redis, "1h");
    let token = crate::harness::log_in(a.address, "ada", "lovelace").await;
    let mut there = Tunnel::open(&b, &token).await;
    let body = json!({"session_id": token});
    let answer = crate::harness::Request::post(a.address, "/api/logout").json(&body).send().await;
    let ended = Instant::now();
    assert_eq!(answer.status, 200);
    let took = there.cut(seconds(5.0)).await - ended;
    assert!(took < seconds(1.0), "closed only after {took:?}");
    for proxy in [&a, &b, &c] {
        assert!(is_refused(proxy, &token).await);
    }
    assert_eq!(redis.session(&token).await["reason"], "logout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarting_replica_loses_nothing_and_delays_no_cut() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [mut a]: [Idlegate; 1] = fleet(&app, &redis, "5s");
    drop(Tunnel::open(&a, "idle").await);
    let mut dead = Tunnel::open(&a, "dead").await;
    dead.echo().await;
    let last = Instant::now();
    tokio::time::sleep(seconds(1.0)).await;
    assert!(a.stop().await.success());
    let [a]: [Idlegate; 1] = fleet(&app, &redis, "5s");
    // A look-up of the one makes its idle time this replica's business; the other is nobody's.
    let mut tunnel = Tunnel::open(&a, "other").await;
    tunnel.echo().await;
    tokio::time::sleep_until((last + seconds(7.5)).into()).await;
    for token in ["idle", "dead"] {
        assert!(is_refused(&a, token).await, "{token} began again with the replica: {:?}", redis.session(token).await);
    }
    assert!(a.logged("struck off").is_empty(), "who leaves properly is not missed: {}", a.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_replica_holds_verdicts_back_until_it_is_struck_off_and_the_end_names_it() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [a, b]: [Idlegate; 2] = fleet(&app, &redis, "2s");
    let (mut here, mut there) = (Tunnel::open(&a, "shared").await, Tunnel::open(&b, "shared").await);
    let last = Instant::now();
    there.echo().await;
    b.freeze();
    here.stays_open_for(seconds(5.0)).await;
    let calls = redis.calls().await["evalsha"];
    let idle = here.cut(seconds(9.0)).await - last;
    assert!(idle > seconds(5.0) && idle < seconds(9.5), "struck off after 6 s, cut after {idle:?}");
    a.has_logged("is struck off", 1).await;
    assert!(a.shows("idlegate_replicas_struck_off_total 1").await);
    let asked = redis.calls().await["evalsha"] - calls;
    assert!(asked < 60, "{asked} scripts while one verdict was held back");
    b.thaw();
    there.cut(seconds(3.0)).await;
    assert!(is_refused(&b, "shared").await);
    // Each record of that end says whose clients it may be wrong about, and no record of a later one does.
    let name = json!([b.name()]);
    for proxy in [&a, &b] {
        eventually("the record", async || proxy.records("cut").len() == 1).await;
        let record = &proxy.records("cut")[0];
        assert_eq!(record["struck_off"], name, "{record}");
        assert!(record["says"].as_str().unwrap().contains("(struck off)"), "{record}");
        let view = ask(proxy, Method::GET, &format!("/sessions/{}", id("shared"))).await.1;
        assert_eq!(view["end"]["struck_off"], name, "{view}");
        assert!(view["says"].as_str().unwrap().contains("(struck off)"), "{view}");
    }
    tokio::time::sleep(seconds(3.0)).await;
    let mut later = Tunnel::open(&a, "later").await;
    later.cut(seconds(6.0)).await;
    eventually("the record", async || a.records("cut").len() == 2).await;
    assert!(a.records("cut")[1].get("struck_off").is_none(), "{:?}", a.records("cut"));
    assert!(!redis.hash("idlegate:replicas").await.contains_key("gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_replica_that_returns_in_time_reports_before_any_verdict() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [a, b]: [Idlegate; 2] = fleet(&app, &redis, "3s");
    let (mut here, mut there) = (Tunnel::open(&a, "shared").await, Tunnel::open(&b, "shared").await);
    there.busy_for(seconds(2.0)).await;
    // It still sees this frame, but is frozen before it can tell of it, or soon after.
    there.echo().await;
    b.freeze();
    here.stays_open_for(seconds(4.5)).await;
    b.thaw();
    there.busy_for(seconds(3.0)).await;
    assert!(a.logged("session ended").is_empty(), "{}", a.whole_log());
    let last = Instant::now();
    there.echo().await;
    all_are_cut(&mut [here, there], last, 3.0).await;
    assert!(a.logged("struck off").is_empty() && b.logged("struck off").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_learnt_though_its_notification_is_missed() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [a, b]: [Idlegate; 2] = fleet(&app, &redis, "1h");
    let token = crate::harness::log_in(a.address, "ada", "lovelace").await;
    let mut there = Tunnel::open(&b, &token).await;
    eventually("all to listen", async || {
        let subscribed: (String, u64) = redis.ask("PUBSUB NUMSUB idlegate:ended").await;
        subscribed.1 == 2
    })
    .await;
    there.echo().await;
    redis.ask::<u64>("CLIENT KILL TYPE pubsub").await;
    let body = json!({"session_id": token});
    assert_eq!(crate::harness::Request::post(a.address, "/api/logout").json(&body).send().await.status, 200);
    there.cut(seconds(2.0)).await;
    assert!(is_refused(&a, &token).await && is_refused(&b, &token).await);
}
