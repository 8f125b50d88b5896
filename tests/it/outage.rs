//! The store dies, hangs, refuses or forgets: no session is cut for that, nothing is delayed, and nothing is lost.

use crate::harness::{App, BUSY, Idlegate, Redis, Request, Tunnel, Way, eventually, log_in, replica};
use serde_json::json;
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];
const LIMIT: &str = "4s";

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What happens to the server, and what it still knows when that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    KilledAndBack,
    KilledAndBackEmpty,
    Hangs,
    AnotherPassword,
    OutOfMemory,
    ReadOnly,
}

impl Fault {
    fn server(self) -> Redis {
        match self {
            Self::KilledAndBack => Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"]),
            _ => Redis::start(),
        }
    }

    async fn begin(self, redis: &mut Redis) {
        match self {
            Self::KilledAndBack | Self::KilledAndBackEmpty => redis.kill(),
            Self::Hangs => redis.freeze(),
            Self::AnotherPassword => redis.change_password("other").await,
            Self::OutOfMemory => redis.ask("CONFIG SET maxmemory 1").await,
            Self::ReadOnly => redis.ask("REPLICAOF 127.0.0.1 1").await,
        }
    }

    async fn end(self, redis: &mut Redis) {
        match self {
            Self::KilledAndBack | Self::KilledAndBackEmpty => redis.start_again(),
            Self::Hangs => redis.thaw(),
            Self::AnotherPassword => redis.change_password("").await,
            Self::OutOfMemory => redis.ask("CONFIG SET maxmemory 0").await,
            Self::ReadOnly => redis.ask("REPLICAOF NO ONE").await,
        }
    }
}

async fn log_out(proxy: &Idlegate, token: &str) {
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
}

async fn is_refused(proxy: &Idlegate, token: &str) -> bool {
    Tunnel::try_open(proxy.address, token).await.is_err()
}

/// A token whose session was logged out.
async fn dead_token(proxy: &Idlegate) -> String {
    let token = log_in(proxy.address, "ada", "lovelace").await;
    log_out(proxy, &token).await;
    token
}

/// The echo of a frame is not waited for longer than without a fault.
fn is_not_delayed(took: Duration, what: &str) {
    println!("{what}: echoes took {took:?}");
    assert!(took < Duration::from_millis(100), "{what}: echoes took {took:?}");
}

async fn is_outlived(fault: Fault) {
    let (app, mut redis) = (App::start(QUIET), fault.server());
    let proxy = replica(&app, &redis.url(), LIMIT, &[]);
    let dead = dead_token(&proxy).await;
    let left = log_in(proxy.address, "bob", "builder").await;
    let (mut busy, mut idle) = (Tunnel::open(&proxy, "busy").await, Tunnel::open(&proxy, "idle").await);
    busy.echo().await;
    eventually("sessions to be reported", async || redis.session("busy").await.contains_key("last_activity")).await;

    fault.begin(&mut redis).await;
    let mut took = busy.busy_for(seconds(2.5)).await;
    let mut fresh = Tunnel::open(&proxy, "fresh").await;
    log_out(&proxy, &left).await;
    took = took.max(busy.busy_for(seconds(4.0)).await);
    fresh.echo().await;
    is_not_delayed(took, &format!("{fault:?}"));
    idle.stays_open_for(seconds(0.05)).await;
    for token in [&dead, &left] {
        assert!(is_refused(&proxy, token).await, "{fault:?}: revived meanwhile");
    }
    assert_eq!(proxy.logged("until it is back").len(), 1, "{fault:?}: {}", proxy.whole_log());

    fault.end(&mut redis).await;
    let back = Instant::now();
    eventually("the store to answer again", async || !proxy.logged("the store is back").is_empty()).await;
    // What was seen meanwhile counts; what was not is made up for, or counts again where the server forgot since when.
    let idle_until = idle.cut(seconds(9.0));
    let (idle_cut, took) = tokio::join!(idle_until, busy.busy_for(seconds(2.0)));
    is_not_delayed(took, &format!("{fault:?}, when it is over"));
    let waited = idle_cut - back;
    if fault == Fault::KilledAndBackEmpty {
        assert!(waited > seconds(4.0), "{fault:?}: cut for time that nobody counted, after {waited:?}");
    } else {
        assert!(waited < seconds(3.0) + BUSY, "{fault:?}: cut {waited:?} after the end of the outage");
        busy.echo().await;
    }
    for token in [&dead, &left] {
        eventually("its end to be reported", async || redis.session(token).await.contains_key("ended")).await;
    }
    assert!(redis.session("fresh").await.contains_key("last_activity"), "{fault:?}: begun meanwhile, and lost");
    let later = replica(&app, &redis.url(), LIMIT, &[]);
    for token in [&dead, &left, "idle"] {
        assert!(is_refused(&later, token).await, "{fault:?}: revived: {:?}", redis.session(token).await);
    }
    for (line, times) in [("until it is back", 1), ("the store is back", 1), ("clock was stepped", 0)] {
        proxy.has_logged(line, times).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_with_its_data_or_empty() {
    tokio::join!(is_outlived(Fault::KilledAndBack), is_outlived(Fault::KilledAndBackEmpty));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_or_wants_another_password() {
    tokio::join!(is_outlived(Fault::Hangs), is_outlived(Fault::AnotherPassword));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_to_write() {
    tokio::join!(is_outlived(Fault::OutOfMemory), is_outlived(Fault::ReadOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_later_than_the_proxy() {
    let (app, mut redis) = (App::start(QUIET), Redis::absent());
    let proxy = replica(&app, &redis.url(), LIMIT, &[]);
    let mut busy = Tunnel::open(&proxy, "busy").await;
    let mut quiet = Tunnel::open(&proxy, "quiet").await;
    is_not_delayed(busy.busy_for(seconds(5.5)).await, "before its start");
    redis.start_again();
    for token in ["busy", "quiet"] {
        eventually("it to be reported", async || redis.session(token).await.contains_key("last_activity")).await;
    }
    busy.busy_for(seconds(2.0)).await;
    // Counting began with the server.
    let (cut, _) = tokio::join!(quiet.cut(seconds(9.0)), busy.busy_for(seconds(4.0)));
    let last = Instant::now();
    busy.echo().await;
    let idle = busy.cut(seconds(9.0)).await - last;
    assert!(cut < last + seconds(1.0));
    assert!(idle > seconds(4.0) && idle < seconds(6.0) + BUSY, "{idle:?}");
    assert_eq!((proxy.logged("until it is back").len(), proxy.logged("the store is back").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_store_gets_a_resync() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), LIMIT, &[]));
    let dead = dead_token(&one).await;
    let (mut busy, mut idle) = (Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await);
    busy.busy_for(seconds(3.0)).await;
    redis.ask::<()>("FLUSHALL").await;
    let forgotten = Instant::now();
    eventually("the dead to be reported", async || redis.session(&dead).await.contains_key("ended")).await;
    eventually("the living to be reported", async || redis.session("shared").await.contains_key("created")).await;
    assert!(forgotten.elapsed() < seconds(3.0));
    is_not_delayed(busy.busy_for(seconds(5.0)).await, "FLUSHALL");
    let last = Instant::now();
    busy.echo().await;
    let (one_cut, two_cut) = tokio::join!(busy.cut(seconds(9.0)), idle.cut(seconds(9.0)));
    let idle = one_cut.min(two_cut) - last;
    assert!(idle > seconds(4.0) && idle < seconds(6.0) + BUSY, "{idle:?}");
    let later = replica(&app, &redis.url(), LIMIT, &[]);
    assert!(is_refused(&later, &dead).await && is_refused(&later, "shared").await);
    assert!(one.logged("until it is back").is_empty(), "{}", one.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_delays_no_frame_and_hardly_a_cut() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let slow = Way::to(&redis, Duration::from_millis(150)).await;
    let [one, two] = std::array::from_fn(|_| replica(&app, &slow.url(), LIMIT, &[]));
    let (mut busy, mut idle) = (Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await);
    is_not_delayed(busy.busy_for(seconds(6.0)).await, "300 ms to the store");
    let last = Instant::now();
    busy.echo().await;
    let (one_cut, two_cut) = tokio::join!(busy.cut(seconds(9.0)), idle.cut(seconds(9.0)));
    let (first, other) = (one_cut.min(two_cut) - last, one_cut.max(two_cut) - last);
    println!("300 ms to the store: cut after {first:?} and {other:?}");
    assert!(first > seconds(4.0) && first < seconds(7.0) && other < first + seconds(1.5), "{first:?}, {other:?}");
    assert!(one.logged("until it is back").is_empty(), "{}", one.whole_log());
}

async fn a_step_of(hours: i32) {
    let (app, redis) = (App::start(QUIET), Redis::with_clock());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), LIMIT, &[]));
    let dead = dead_token(&one).await;
    // The busy one is idle on the replica that may decide.
    let (mut busy, mut watching) = (Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await);
    busy.busy_for(seconds(3.0)).await;
    let mut idle = Tunnel::open(&two, "idle").await;
    let begun = Instant::now();
    busy.busy_for(seconds(1.0)).await;
    redis.step_clock(i64::from(hours) * 3600);
    let (idle_cut, took) = tokio::join!(idle.cut(seconds(12.0)), busy.busy_for(seconds(8.0)));
    is_not_delayed(took, &format!("{hours:+} h"));
    let idle = idle_cut - begun;
    assert!(idle > seconds(4.0) && idle < seconds(8.0) + BUSY, "{hours:+} h: cut after {idle:?}");
    assert!(is_refused(&one, &dead).await && is_refused(&two, &dead).await);
    watching.stays_open_for(seconds(0.05)).await;
    let last = Instant::now();
    busy.echo().await;
    let idle = busy.cut(seconds(12.0)).await - last;
    assert!(idle > seconds(4.0) && idle < seconds(6.0) + BUSY, "{hours:+} h: cut after {idle:?}");
    for proxy in [&one, &two] {
        for (line, times) in [("clock was stepped", 1), ("struck off", 0), ("until it is back", 0)] {
            proxy.has_logged(line, times).await;
        }
        assert!(proxy.shows("idlegate_store_clock_steps_total 1").await, "{hours:+} h");
        let difference = proxy.scrape().await.value("idlegate_store_clock_difference_seconds");
        assert!((difference / 3600.0 - f64::from(hours)).abs() < 0.01, "{hours:+} h: {difference} s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_stepped_by_two_hours() {
    tokio::join!(a_step_of(2), a_step_of(-2));
}

const ALONE: &[(&str, &str)] = &[("IDLEGATE_STORE_ON_OUTAGE", "local"), ("IDLEGATE_STORE_REPLICAS", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn a_single_replica_may_end_sessions_alone_and_report_them_later() {
    let (app, mut redis) = (App::start(QUIET), Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"]));
    let proxy = replica(&app, &redis.url(), LIMIT, ALONE);
    let (mut busy, mut idle) = (Tunnel::open(&proxy, "busy").await, Tunnel::open(&proxy, "idle").await);
    idle.echo().await;
    eventually("both to be reported", async || {
        redis.session("busy").await.contains_key("created") && redis.session("idle").await.contains_key("created")
    })
    .await;
    redis.kill();
    let took = busy.busy_for(seconds(7.0));
    let (_, took) = tokio::join!(idle.cut(seconds(7.0)), took);
    is_not_delayed(took, "alone");
    proxy.has_logged("session ended", 1).await;
    let record = proxy.logged("session ended");
    assert!(record[0].contains("reason=idle"), "{record:?}");
    let idle_for: u64 = record[0].split(" idle=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((5..=6).contains(&idle_for), "a limit of 4 s, and cut after {idle_for} s");
    assert!(is_refused(&proxy, "idle").await);
    redis.start_again();
    eventually("the end to be reported", async || redis.session("idle").await.contains_key("ended")).await;
    let told = redis.session("idle").await;
    assert!(record[0].contains(&format!("now={} ", told["ended"])), "{told:?}, and {record:?}");
    assert!(!redis.session("busy").await.contains_key("ended"));
    busy.echo().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_replica_makes_both_hold_in_an_outage() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), LIMIT, ALONE));
    let mut idle = Tunnel::open(&one, "idle").await;
    for proxy in [&one, &two] {
        eventually("the other to be seen", async || proxy.logged("another replica reports").len() == 1).await;
    }
    redis.kill();
    idle.stays_open_for(seconds(7.0)).await;
    assert!(one.logged("session ended").is_empty(), "{}", one.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_outage_a_replica_that_returns_later_keeps_its_active_sessions() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] =
        std::array::from_fn(|_| replica(&app, &redis.url(), "6s", &[("IDLEGATE_STORE_REPLICA_GRACE", "5s")]));
    // Both replicas know both sessions; each is active on one of them.
    let [mut ada, mut bob] = [Tunnel::open(&one, "ada").await, Tunnel::open(&two, "bob").await];
    let silent = [Tunnel::open(&two, "ada").await, Tunnel::open(&one, "bob").await];
    let half_a_second = Duration::from_millis(500);
    let mut both_active_for = async |seconds: u64, bob_is_frozen: bool| {
        for _ in 0..2 * seconds {
            ada.busy_for(half_a_second).await;
            if !bob_is_frozen {
                bob.echo().await;
            }
        }
    };
    both_active_for(2, false).await;
    redis.freeze();
    both_active_for(9, false).await;
    // The first replica reaches Redis again two seconds before the second one.
    two.freeze();
    redis.thaw();
    both_active_for(2, true).await;
    two.thaw();
    both_active_for(4, false).await;
    for proxy in [&one, &two] {
        for line in ["session ended", "struck off"] {
            assert!(proxy.logged(line).is_empty(), "{}\n{}", one.whole_log(), two.whole_log());
        }
    }
    drop(silent);
}
