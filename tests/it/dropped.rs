//! Connections to the store are dropped, as by a proxy that is reloaded: the store is not out for that.

use crate::harness::{App, Idlegate, Redis, Tunnel, Way, eventually, replica};
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The marks of all replicas, in milliseconds before the server's now.
async fn ages_of_marks(redis: &Redis) -> Vec<i64> {
    let marks = redis.hash("idlegate:replicas").await;
    let (seconds, microseconds): (i64, i64) = redis.ask("TIME").await;
    let marks = marks.iter().filter(|(name, _)| name.contains('-'));
    let age =
        |mark: &String| seconds * 1000 + microseconds / 1000 - mark.split(' ').next().unwrap().parse::<i64>().unwrap();
    marks.map(|(_, mark)| age(mark)).collect()
}

/// Every connection is dropped in each round, at another moment of the second. `pause` is longer than an exchange takes.
async fn is_no_outage(replicas: &[Idlegate], redis: &Redis, rounds: u64, pause: u64, mut drop_all: impl AsyncFnMut()) {
    let mut busy = Vec::new();
    for (number, proxy) in replicas.iter().enumerate() {
        busy.push(Tunnel::open(proxy, &format!("busy-{number}")).await);
    }
    let mut idle = Tunnel::open(&replicas[0], "idle").await;
    idle.echo().await;
    let idle_since = Instant::now();
    eventually("all to report", async || ages_of_marks(redis).await.len() == replicas.len()).await;
    let storm = async {
        for round in 0..rounds {
            drop_all().await;
            for tunnel in &mut busy {
                tunnel.echo().await;
            }
            tokio::time::sleep(Duration::from_millis(pause + round * 13)).await;
            let ages = ages_of_marks(redis).await;
            assert!(ages.len() == replicas.len() && ages.iter().all(|age| *age < 1_800), "round {round}: {ages:?}");
        }
    };
    let (cut, ()) = tokio::join!(idle.cut(seconds(9.0)), storm);
    let idle = cut - idle_since;
    assert!(idle > seconds(4.0) && idle < seconds(6.5), "cut after {idle:?}");
    let now = redis.now().await;
    for number in 0..replicas.len() {
        let record = redis.session(&format!("busy-{number}")).await;
        let last: u64 = record["last_activity"].parse().unwrap();
        assert!(now - last <= 2 && !record.contains_key("ended"), "{record:?} at {now}");
    }
    for proxy in replicas {
        for line in ["until it is back", "has lost data", "clock was stepped", "struck off"] {
            assert!(proxy.logged(line).is_empty(), "{}", proxy.whole_log());
        }
    }
    replicas[0].has_cut_in_time(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_are_made_again_without_an_outage() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let replicas: [Idlegate; 4] = std::array::from_fn(|_| replica(&app, &redis.url(), "4s", &[]));
    is_no_outage(&replicas, &redis, 16, 400, async || {
        for kind in ["pubsub", "normal"] {
            redis.ask::<u64>(&format!("CLIENT KILL TYPE {kind}")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_dropped_on_the_way_are_made_again_without_an_outage() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    // Most of the time some call is on its way, or its answer.
    let way = Way::to(&redis, Duration::from_millis(60)).await;
    let replicas: [Idlegate; 3] = std::array::from_fn(|_| replica(&app, &way.url(), "4s", &[]));
    is_no_outage(&replicas, &redis, 8, 1_060, async || way.drop_connections()).await;
}
