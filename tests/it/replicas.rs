//! What becomes of the sessions when a replica is killed, cut off or stopped, and when its host's clock is wrong.

use crate::harness::{App, HostClock, Idlegate, Redis, Tunnel, Way, eventually, replica};
use http::StatusCode;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const QUIET: &[&str] = &["--ping", "600"];
const GRACE: (&str, &str) = ("IDLEGATE_STORE_REPLICA_GRACE", "7s");

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

async fn is_refused(proxy: &Idlegate, token: &str) -> bool {
    Tunnel::try_open(proxy.address, token).await.err() == Some(StatusCode::UNAUTHORIZED)
}

async fn second_of(redis: &Redis, token: &str, field: &str) -> u64 {
    redis.session(token).await.get(field).unwrap_or_else(|| panic!("{token} has no {field}")).parse().unwrap()
}

/// How long it had been idle when it was ended, by the server's own record: more than the limit, in whole seconds, and
/// no later than two seconds after it.
async fn was_cut_in_time(redis: &Redis, token: &str, limit: u64) {
    let idle = second_of(redis, token, "ended").await - second_of(redis, token, "last_activity").await;
    assert!((limit + 1..=limit + 2).contains(&idle), "{token}: {:?}", redis.session(token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_moves_no_deadline_by_more_than_a_flush_and_revives_no_token() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let start = || replica(&app, &redis.url(), "8s", &[GRACE]);
    let proxy = start();
    let mut dead = Tunnel::open(&proxy, "dead").await;
    let id = idlegate::session::SessionId::of_token(b"dead");
    redis.ask::<u64>(&format!("HSET idlegate:session:{id} ended {} reason logout", redis.now().await)).await;
    dead.echo().await;
    dead.cut(seconds(5.0)).await;
    let (mut left, mut used) = (Tunnel::open(&proxy, "left").await, Tunnel::open(&proxy, "used").await);
    left.echo().await;
    let last = redis.now().await;
    eventually("it to be reported", async || second_of(&redis, "left", "last_activity").await >= last).await;
    let deadline = second_of(&redis, "left", "last_activity").await;
    used.busy_for(seconds(2.0)).await;
    let killed = redis.now().await;
    drop(proxy);
    let told = second_of(&redis, "used", "last_activity").await;
    assert!(told + 2 >= killed, "activity up to {killed}, of which the server knows what was before {told}");

    let proxy = start();
    assert!(is_refused(&proxy, "dead").await, "revived: {:?}", redis.session("dead").await);
    let mut used = Tunnel::open(&proxy, "used").await;
    let mut last = Instant::now();
    // Only the server knows of the session that was left; and it is not asked for before its time is over.
    while redis.now().await <= deadline + 8 + 2 {
        last = Instant::now();
        used.echo().await;
        sleep(seconds(0.1)).await;
    }
    assert_eq!(second_of(&redis, "left", "last_activity").await, deadline);
    assert!(is_refused(&proxy, "left").await, "it began again with the replica: {:?}", redis.session("left").await);
    let idle = used.cut(seconds(14.0)).await - last;
    assert!(idle > seconds(8.0), "cut early, after {idle:?}");
    was_cut_in_time(&redis, "used", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_is_waited_for_and_then_struck_off_and_both_are_logged() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let way = Way::to(&redis, Duration::ZERO).await;
    let (there, here) = (replica(&app, &way.url(), "2s", &[GRACE]), replica(&app, &redis.url(), "2s", &[GRACE]));
    let (mut busy, mut quiet) = (Tunnel::open(&there, "shared").await, Tunnel::open(&here, "shared").await);
    busy.busy_for(seconds(1.5)).await;
    let reported = redis.now().await;
    way.cut_off();
    // Its session is used on the other replica all the time, which this one cannot know.
    let using = async {
        let begun = Instant::now();
        while there.logged("the store is back").is_empty() && begun.elapsed() < seconds(20.0) {
            busy.echo().await;
            if !here.logged("session ended").is_empty() {
                way.mend();
            }
            sleep(seconds(0.05)).await;
        }
    };
    tokio::join!(quiet.cut(seconds(15.0)), using);
    let ended = second_of(&redis, "shared", "ended").await;
    // Its last report may be a second old when it is cut off.
    assert!(ended - reported >= 6, "struck off {} s after its last report", ended - reported);
    // It learns of the end when it is back, and the session is dead there too.
    busy.cut(seconds(5.0)).await;
    assert!(is_refused(&there, "shared").await);
    for (replica, line, times) in [
        (&here, "a replica is silent; no session will expire until", 1),
        (&here, "is struck off", 1),
        (&here, "until it is back", 0),
        (&there, "until it is back", 1),
        (&there, "the store is back", 1),
        (&there, "is struck off", 0),
    ] {
        replica.has_logged(line, times).await;
    }
    let told = |line| here.whole_log().find(line).unwrap();
    assert!(told("a replica is silent;") < told("is struck off") && told("is struck off") < told("session ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_replica_reads_its_sockets_before_it_cuts() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let grace = [("IDLEGATE_STORE_REPLICA_GRACE", "20s")];
    let [here, there] = std::array::from_fn(|_| replica(&app, &redis.url(), "3s", &grace));
    let mut pairs = Vec::new();
    for number in 0..5 {
        let token = format!("token-{number}");
        pairs.push((Tunnel::open(&here, &token).await, Tunnel::open(&there, &token).await));
    }
    for (_, used) in &mut pairs {
        used.echo().await;
    }
    there.freeze();
    // For longer than the limit nothing comes but what is sent to the replica that stands still.
    for _ in 0..5 {
        sleep(seconds(1.0)).await;
        for (_, used) in &mut pairs {
            used.send().await;
        }
    }
    assert!(here.logged("session ended").is_empty(), "{}", here.whole_log());
    there.thaw();
    for (_, used) in &mut pairs {
        for _ in 0..5 {
            used.echoed().await;
        }
    }
    // They go on as if nothing had been, and are cut in their time.
    for (_, used) in &mut pairs {
        used.echo().await;
    }
    let last = redis.now().await;
    for replica in [&here, &there] {
        assert!(replica.logged("session ended").is_empty(), "{}", replica.whole_log());
        assert!(replica.logged("struck off").is_empty(), "{}", replica.whole_log());
    }
    for (number, (quiet, used)) in pairs.iter_mut().enumerate() {
        tokio::join!(quiet.cut(seconds(9.0)), used.cut(seconds(9.0)));
        let token = format!("token-{number}");
        assert!(second_of(&redis, &token, "last_activity").await + 1 >= last, "{:?}", redis.session(&token).await);
        was_cut_in_time(&redis, &token, 3).await;
    }
}

/// A replica on a host whose wall clock is so many seconds ahead.
fn on_a_host(app: &App, url: &str, ahead: i64) -> (HostClock, Idlegate) {
    let clock = HostClock::ahead(ahead);
    let environment = clock.environment();
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    let proxy = replica(app, url, "3s", &environment);
    (clock, proxy)
}

/// The hour in which the last line was logged, of a clock that may be wrong.
fn hour_of_the_log(proxy: &Idlegate) -> String {
    let log = proxy.whole_log();
    let (time, _) = log.lines().last().unwrap().trim().split_once(':').unwrap();
    time.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_of_hosts_that_differ_by_hours_and_jump_move_no_cut() {
    const HOUR: i64 = 3600;
    let (app, redis) = (App::start(QUIET), Redis::start());
    let (one_clock, one) = on_a_host(&app, &redis.url(), 5 * HOUR);
    let (other_clock, other) = on_a_host(&app, &redis.url(), -7 * HOUR);
    let (memory_clock, alone) = on_a_host(&app, "memory", 3 * HOUR);
    assert_ne!(hour_of_the_log(&one), hour_of_the_log(&other), "the clocks are the same");
    let mut tunnels = vec![
        Tunnel::open(&one, "shared").await,
        Tunnel::open(&other, "shared").await,
        Tunnel::open(&alone, "shared").await,
    ];
    let mut left = Tunnel::open(&other, "left").await;
    let hour = hour_of_the_log(&other);
    // Back and forth, while two of the three are in use, and one is idle.
    for step in [9, -4, 30, -2, 0, 1] {
        for clock in [&one_clock, &other_clock, &memory_clock] {
            clock.step(step * HOUR);
        }
        tunnels[0].echo().await;
        tunnels[2].busy_for(seconds(0.7)).await;
    }
    tunnels[1].stays_open_for(seconds(0.05)).await;
    left.cut(seconds(5.0)).await;
    assert_ne!(hour_of_the_log(&other), hour, "the clock was not stepped");
    was_cut_in_time(&redis, "left", 3).await;
    let last = Instant::now();
    for tunnel in [0, 2] {
        tunnels[tunnel].echo().await;
    }
    one_clock.step(-12 * HOUR);
    memory_clock.step(24 * HOUR);
    for mut tunnel in tunnels {
        let idle = tunnel.cut(seconds(9.0)).await - last;
        assert!(idle > seconds(3.0), "cut early, after {idle:?}");
    }
    was_cut_in_time(&redis, "shared", 3).await;
    alone.has_logged("session ended", 1).await;
    let ended = alone.logged("session ended");
    assert!(["idle=4 ", "idle=5 "].iter().any(|idle| ended[0].contains(idle)), "{ended:?}");
    for proxy in [&one, &other] {
        assert!(proxy.logged("clock was stepped").is_empty(), "{}", proxy.whole_log());
    }
}
