//! Changes of the mode while something else happens: a replica starts or hangs, the store dies, dead tokens come back
//! while they are tolerated.

use crate::harness::{
    App, CUT_FRAMES, Ends, Idlegate, Redis, Socket, Tunnel, ask, eventually, id, log_in, replica, soon, switch,
};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const QUIET: &[&str] = &["--ping", "600"];

async fn is_switched(proxy: &Idlegate, change: Value) {
    let (status, answer) = switch(proxy, change).await;
    assert_eq!(status, 200, "{answer}");
}

async fn mode_of(proxy: &Idlegate) -> Value {
    ask(proxy, Method::GET, "/mode").await.1
}

/// Ends a session by its operator's hand.
async fn end(proxy: &Idlegate, token: &str) -> (StatusCode, Value) {
    ask(proxy, Method::DELETE, &format!("/sessions/{}", id(token))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_started_after_a_timed_switch_uses_the_mode_it_returned_to() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let first = replica(&app, &redis.url(), "1h", &[]);
    let mut tunnel = Tunnel::open(&first, "dead").await;
    assert_eq!(end(&first, "dead").await.0, 200);
    tunnel.cut(Duration::from_secs(2)).await;
    is_switched(&first, json!({"mode": "off", "fleet": true, "for": "1s"})).await;
    // One that starts meanwhile is as little strict, from its first request on.
    let during = replica(&app, &redis.url(), "1h", &[]);
    drop(Tunnel::open(&during, "dead").await);
    eventually("it to return", async || mode_of(&first).await["mode"] == "enforce").await;
    for flush_interval in ["1s", "10s"] {
        let later = replica(&app, &redis.url(), "1h", &[("IDLEGATE_STORE_FLUSH_INTERVAL", flush_interval)]);
        assert!(Tunnel::try_open(later.address, "dead").await.is_err(), "its first request passed");
        assert_eq!(mode_of(&later).await["mode"], "enforce");
        assert!(later.records("mode").is_empty(), "{:?}", later.records("mode"));
    }
    // What is lost is not written back as if it still lasted.
    redis.ask::<()>("DEL idlegate:mode").await;
    eventually("it to be written back", async || redis.ask::<bool>("EXISTS idlegate:mode").await).await;
    assert_eq!(redis.ask::<String>("GET idlegate:mode").await, "enforce");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tolerated_connection_is_closed_when_the_mode_enforces_again() {
    let mut ends = Ends::start_with(&[("IDLEGATE_IDLE_TIMEOUT", "1s")]).await;
    let (mut cut, _app) = ends.open_as("ada", "/ws").await;
    assert_eq!(cut.rest().await, CUT_FRAMES);
    is_switched(&ends.proxy, json!({"mode": "observe"})).await;
    let mut back = Vec::new();
    for path in ["/ws", "/plain"] {
        back.push(ends.open_as("ada", path).await);
    }
    assert_eq!(ends.proxy.records("would-refuse").len(), 2);
    is_switched(&ends.proxy, json!({"mode": "off"})).await;
    is_switched(&ends.proxy, json!({"mode": "observe"})).await;
    assert!(ends.proxy.records("refuse").is_empty());
    is_switched(&ends.proxy, json!({"mode": "enforce", "yes": true})).await;
    for (client, _app) in &mut back {
        assert_eq!(soon("the end", client.rest()).await, CUT_FRAMES);
    }
    eventually("both ends to be recorded", async || ends.proxy.records("refuse").len() == 2).await;
    let refused = &ends.proxy.records("refuse")[0];
    assert_eq!((&refused["session"], &refused["carrier"]), (&json!(id("ada")), &json!("tunnel")), "{refused}");
}

/// The same where the token is in a message of the tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn a_tolerated_token_in_a_message_is_closed_too() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", "1s")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    eventually("the cut", async || proxy.records("cut").len() == 1).await;
    is_switched(&proxy, json!({"mode": "observe"})).await;
    let (mut socket, accepted) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(accepted["type"], "auth_success");
    is_switched(&proxy, json!({"mode": "enforce", "yes": true})).await;
    soon("the words of the cut", socket.cut_words()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_reached_a_hung_server_too_late_is_not_carried_out() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    is_switched(&one, json!({"mode": "observe", "fleet": true})).await;
    eventually("the other to learn of it", async || mode_of(&two).await["mode"] == "observe").await;
    redis.freeze();
    let (status, refused) = switch(&one, json!({"mode": "enforce", "fleet": true, "yes": true})).await;
    assert_eq!(status, 503, "{refused}");
    redis.thaw();
    eventually("the store to be back", async || {
        let up = async |proxy: &Idlegate| proxy.metrics().await.contains("idlegate_store_up 1");
        up(&one).await && up(&two).await
    })
    .await;
    assert_eq!(redis.ask::<String>("GET idlegate:mode").await, "observe");
    assert_eq!([mode_of(&one).await["mode"].clone(), mode_of(&two).await["mode"].clone()], ["observe", "observe"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_answer_is_named_before_anybody_is_cut_and_in_each_list() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] =
        std::array::from_fn(|_| replica(&app, &redis.url(), "1s", &[("IDLEGATE_STORE_REPLICA_GRACE", "60s")]));
    is_switched(&one, json!({"mode": "observe", "fleet": true})).await;
    let _tunnel = Tunnel::open(&two, "theirs").await;
    eventually("it to be past the limit", async || mode_of(&two).await["past_the_limit"] == 1).await;
    let (status, refused) = switch(&one, json!({"mode": "enforce", "fleet": true})).await;
    assert_eq!((status.as_u16(), &refused["would_cut"], &refused["silent"]), (409, &json!(1), &json!(0)), "{refused}");
    two.freeze();
    let (status, refused) = switch(&one, json!({"mode": "enforce", "fleet": true})).await;
    let told = (status.as_u16(), &refused["would_cut"], &refused["silent"]);
    assert_eq!(told, (409, &json!(0), &json!(1)), "{refused}");
    assert!(refused["error"].as_str().unwrap().starts_with("1 replica did not answer, and may have"), "{refused}");
    let (_, sessions) = ask(&one, Method::GET, "/sessions").await;
    assert_eq!((&sessions["silent"], &sessions["sessions"]), (&json!(1), &json!([])), "{sessions}");
    let (_, session) = ask(&one, Method::GET, &format!("/sessions/{}", id("theirs"))).await;
    assert_eq!((&session["silent"], &session["state"]), (&json!(1), &json!("live")), "{session}");
    two.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_are_counted_that_enforcing_would_cut() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "2s", &[]));
    is_switched(&one, json!({"mode": "observe", "fleet": true})).await;
    let _idle_here = Tunnel::open(&one, "shared").await;
    let mut active_there = Tunnel::open(&two, "shared").await;
    let lapses = async || !one.records("would-cut").is_empty();
    eventually("it to be over", lapses).await;
    active_there.busy_for(Duration::from_millis(1500)).await;
    assert_eq!(mode_of(&one).await["past_the_limit"], 0);
    // Idle here, and for as long as here is the only one to ask it would seem so.
    is_switched(&one, json!({"mode": "enforce", "fleet": true})).await;
    active_there.echo().await;
    is_switched(&one, json!({"mode": "observe", "fleet": true})).await;
    // For both: the one that has not looked yet would know no session.
    for replica in [&one, &two] {
        eventually("it to be over again", async || mode_of(replica).await["past_the_limit"] == 1).await;
    }
    // After `off` time counts again, for every session.
    is_switched(&one, json!({"mode": "off"})).await;
    is_switched(&one, json!({"mode": "enforce"})).await;
    assert_eq!(mode_of(&one).await["past_the_limit"], 0, "it was off, though but for a moment");
    eventually("the other to know it", async || mode_of(&two).await["past_the_limit"] == 0).await;
    is_switched(&one, json!({"mode": "enforce", "fleet": true})).await;
    active_there.stays_open_for(Duration::from_secs(1)).await;
    active_there.cut(Duration::from_secs(6)).await;
    eventually("it to be recorded here too", async || one.records("cut").len() == 1).await;
    let cut = &one.records("cut")[0];
    assert!(cut["counting"].as_u64() > cut["last_activity"].as_u64(), "{cut}");
    let idle = cut["now"].as_u64().unwrap() - cut["counting"].as_u64().unwrap();
    assert!(cut["idle"] == idle && idle > 2, "{cut}");
    // Lateness is measured from when the mode counted and enforced.
    assert!(one.metrics().await.contains("idlegate_cut_lateness_seconds_bucket{le=\"2.0\"} 1"), "{cut}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_during_an_outage_is_answered_as_unsynced() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    let (mut here, mut there) = (Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await);
    redis.kill();
    eventually("it to be out", async || one.metrics().await.contains("idlegate_store_up 0")).await;
    let (status, ended) = end(&one, "shared").await;
    assert_eq!((status.as_u16(), &ended["unsynced"], &ended["state"]), (202, &json!(true), &json!("ended")), "{ended}");
    here.cut(Duration::from_secs(2)).await;
    there.echo().await;
    redis.start_again();
    there.cut(Duration::from_secs(9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_forgets_sessions_past_timeout_and_retention_unless_a_connection_is_open() {
    let (app, redis) = (App::start(&["--ping", "600"]), Redis::start());
    for store in ["memory", &redis.url()] {
        let short = [("IDLEGATE_IDLE_RETENTION", "1s"), ("IDLEGATE_IDLE_MODE", "observe")];
        let proxy = replica(&app, store, "1s", &short);
        let [open, closed] = [Tunnel::open(&proxy, "open").await, Tunnel::open(&proxy, "closed").await];
        assert!(proxy.shows("idlegate_sessions 2").await);
        drop(closed);
        eventually("one to be forgotten", async || proxy.metrics().await.contains("\nidlegate_sessions 1\n")).await;
        drop(open);
        eventually("the other one as well", async || proxy.metrics().await.contains("\nidlegate_sessions 0\n")).await;
    }
}

/// The tokens are in messages of the tunnels.
#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_and_connects_in_off_is_known_when_the_mode_enforces() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    for store in ["memory", &redis.url()] {
        let limits = [("IDLEGATE_IDLE_TIMEOUT", "3s"), ("IDLEGATE_STORE_URL", store)];
        let proxy = Idlegate::shipped(&app.upstream, &limits);
        is_switched(&proxy, json!({"mode": "off"})).await;
        let [works, left] = [("ada", "lovelace"), ("bob", "builder")];
        let [works, left] =
            [log_in(proxy.address, works.0, works.1).await, log_in(proxy.address, left.0, left.1).await];
        let (mut at_work, accepted) = Socket::authenticated(proxy.address, &works).await;
        let (mut alone, _) = Socket::authenticated(proxy.address, &left).await;
        assert_eq!(accepted["type"], "auth_success");
        is_switched(&proxy, json!({"mode": "enforce"})).await;
        let begun = std::time::Instant::now();
        let working = async {
            while begun.elapsed() < Duration::from_secs(9) {
                at_work.say(&json!({"cmd": "pong"})).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let ((), (words, ..)) = tokio::join!(working, alone.cut_words());
        assert_eq!(words["reason"], "inactivity", "{words}");
        let cuts = proxy.records("cut");
        assert_eq!(cuts.iter().map(|cut| &cut["session"]).collect::<Vec<_>>(), [&json!(id(&left))], "{cuts:?}");
        at_work.cut_words().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_whose_connection_was_opened_in_off_is_closed_in_enforce() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [knows, knows_not] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    let mut tunnel = Tunnel::open(&knows, "dead").await;
    assert_eq!(end(&knows, "dead").await.0, 200);
    tunnel.cut(Duration::from_secs(2)).await;
    is_switched(&knows, json!({"mode": "off", "fleet": true})).await;
    eventually("the other to learn of it", async || mode_of(&knows_not).await["mode"] == "off").await;
    let tunnels = [Tunnel::open(&knows, "dead").await, Tunnel::open(&knows_not, "dead").await];
    is_switched(&knows, json!({"mode": "enforce", "fleet": true})).await;
    for mut tunnel in tunnels {
        tunnel.cut(Duration::from_secs(3)).await;
    }
}
