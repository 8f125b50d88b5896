//! Operators: why a session lives or ended, ending and extending it, and the switch of the mode; on all replicas.

use crate::harness::{App, Idlegate, Redis, Request, Traffic, Tunnel, ask, eventually, id, replica, switch};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const QUIET: &[&str] = &["--ping", "600"];

async fn get(proxy: &Idlegate, path: &str) -> Value {
    let (status, value) = ask(proxy, Method::GET, path).await;
    assert_eq!(status, 200, "{path}: {value}");
    value
}

async fn account(proxy: &Idlegate, token: &str) -> Value {
    get(proxy, &format!("/sessions/{}", id(token))).await
}

fn connections(account: &Value) -> Vec<u64> {
    let mut all: Vec<_> = account["connections"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_explained_by_any_replica_as_all_of_them_know_it() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two, three] = std::array::from_fn(|_| replica(&app, &redis.url(), "2s", &[]));
    let (mut busy, _quiet) = (Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await);
    let _other = Tunnel::open(&two, "other").await;
    busy.echo().await;
    let marks = async || redis.hash("idlegate:replicas").await.keys().filter(|name| name.contains('-')).count();
    eventually("all replicas to report", async || marks().await == 3).await;
    eventually("both connections to be known", async || connections(&account(&three, "shared").await) == [1, 1]).await;
    let shared = account(&three, "shared").await;
    assert_eq!((&shared["state"], &shared["limit"]), (&json!("live"), &json!(2)), "{shared}");
    assert!(shared["says"].as_str().unwrap().starts_with("alive: idle "), "{shared}");
    let last = shared["last_activity"].as_u64().unwrap();
    assert_eq!(shared["activity"][shared["source"].as_str().unwrap()].as_u64(), Some(last), "{shared}");
    let listed = get(&three, "/sessions").await;
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(get(&three, "/sessions?idle_over=1h").await["sessions"], json!([]));
    busy.cut(Duration::from_secs(8)).await;
    let ended = account(&three, "shared").await;
    let record = redis.session("shared").await;
    assert_eq!((&ended["state"], &ended["end"]["reason"]), (&json!("ended"), &json!("idle")), "{ended}");
    for (field, value) in [("last_activity", &ended["last_activity"]), ("ended", &ended["end"]["at"])] {
        assert_eq!(value.to_string(), record[field], "{field} of {ended}, {record:?}");
    }
    let says = ended["says"].as_str().unwrap();
    assert!(says.contains(" s > 2 s, last activity "), "{says}");
    let recorded = || one.records("cut").into_iter().find(|cut| cut["session"] == id("shared"));
    eventually("its record", async || recorded().is_some()).await;
    // By the arithmetic of its record, which has epoch seconds.
    let sentence = recorded().unwrap()["says"].as_str().unwrap().to_owned();
    let (arithmetic, _) = sentence.split_once(", last activity ").unwrap();
    assert!(says.contains(&format!(": {arithmetic}, last activity ")), "{says} is not {sentence}");
    let (status, unknown) = ask(&one, Method::GET, &format!("/sessions/{}", id("nobody's"))).await;
    // The shipped rules refuse unknown tokens.
    let never_seen =
        "there is no such session: its token was never seen issued here, and rules with unknown = \"refuse\" refuse it";
    assert_eq!((status.as_u16(), unknown["error"].as_str()), (404, Some(never_seen)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_session_everywhere_and_extends_another() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "3s", &[]));
    let mut ended = [Tunnel::open(&one, "ended").await, Tunnel::open(&two, "ended").await];
    let mut kept = Tunnel::open(&one, "kept").await;
    let begun = std::time::Instant::now();
    eventually("it to be reported", async || redis.session("ended").await.contains_key("created")).await;
    // Asked of a replica that does not know it.
    let far = replica(&app, &redis.url(), "3s", &[]);
    let (status, account) = ask(&far, Method::DELETE, &format!("/sessions/{}", id("ended"))).await;
    assert_eq!((status.as_u16(), &account["end"]["reason"]), (200, &json!("operator")), "{account}");
    for tunnel in &mut ended {
        tunnel.cut(Duration::from_secs(2)).await;
    }
    for proxy in [&one, &two, &far] {
        assert!(Tunnel::try_open(proxy.address, "ended").await.is_err());
    }
    let (status, again) = ask(&one, Method::DELETE, &format!("/sessions/{}", id("ended"))).await;
    assert_eq!((status.as_u16(), again["error"].as_str()), (409, Some("this session has ended already")));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (status, account) = ask(&far, Method::POST, &format!("/sessions/{}/extend", id("kept"))).await;
        // What came before it may round up to the same second.
        let last = &account["last_activity"];
        assert_eq!((status.as_u16(), &account["activity"]["operator"]), (200, last), "{account}");
    }
    kept.stays_open_for(Duration::from_millis(500)).await;
    assert!(begun.elapsed() > Duration::from_secs(4));
    kept.cut(Duration::from_secs(6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_switch_rolls_the_whole_fleet_back_and_a_replica_that_comes_later_too() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "2s", &[]));
    let mut tunnels = [Tunnel::open(&one, "a").await, Tunnel::open(&two, "b").await];
    let (status, mode) = switch(&one, json!({"mode": "observe", "fleet": true})).await;
    assert_eq!((status.as_u16(), &mode["mode"]), (200, &json!("observe")), "{mode}");
    let asked = std::time::Instant::now();
    eventually("the other to learn of it", async || get(&two, "/mode").await["mode"] == "observe").await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    for (proxy, number) in [(&one, 1), (&two, 1)] {
        let lines = async || proxy.logged("session would be cut").len() == number;
        eventually("it to be recorded", lines).await;
    }
    for tunnel in &mut tunnels {
        tunnel.stays_open_for(Duration::from_secs(1)).await;
    }
    assert!(!redis.session("a").await.contains_key("ended"), "observing ended it in the store");
    let late = replica(&app, &redis.url(), "2s", &[]);
    eventually("a later one to learn of it", async || get(&late, "/mode").await["mode"] == "observe").await;
    redis.ask::<()>("FLUSHALL").await;
    eventually("the switch to be written back", async || redis.ask::<bool>("EXISTS idlegate:mode").await).await;
    // After the loss, idle time starts again.
    eventually("the loss to be noticed", async || get(&two, "/mode").await["past_the_limit"] == 0).await;
    eventually("a session to be overdue again", async || {
        get(&two, "/mode").await["past_the_limit"].as_u64().is_some_and(|count| count >= 1)
    })
    .await;

    let (status, refused) = switch(&two, json!({"mode": "enforce", "fleet": true})).await;
    assert_eq!(status.as_u16(), 409, "{refused}");
    assert!(refused["would_cut"].as_u64().is_some_and(|count| count >= 1), "{refused}");
    tunnels[0].echo().await;
    let (status, _) = switch(&two, json!({"mode": "enforce", "fleet": true, "yes": true})).await;
    assert_eq!(status.as_u16(), 200);
    let [a, b] = &mut tunnels;
    tokio::join!(a.cut(Duration::from_secs(9)), b.cut(Duration::from_secs(9)));
}

/// Each way that `idlegate mode` and `PUT /mode` have, while sessions are in use through both replicas. The file's ways
/// are in `reload`.
#[tokio::test(flavor = "multi_thread")]
async fn switching_under_traffic_drops_no_connection_and_cuts_no_session_early() {
    const LIMIT: u64 = 3;
    let (app, redis) = (App::start(QUIET), Redis::start());
    let replicas: [_; 2] = std::array::from_fn(|_| replica(&app, &redis.url(), &format!("{LIMIT}s"), &[]));
    let [one, two] = &replicas;
    let traffic = Traffic::start([one, two], 4).await;
    for (fleet, mode) in
        [(false, "observe"), (false, "off"), (false, "enforce"), (true, "observe"), (true, "off"), (true, "enforce")]
    {
        let change = json!({"mode": mode, "fleet": fleet, "yes": true});
        let (status, answer) = switch(one, change).await;
        assert_eq!((status.as_u16(), &answer["mode"]), (200, &json!(mode)), "{answer}");
        for replica in if fleet { &replicas[..] } else { &replicas[..1] } {
            eventually("it to be in force", async || get(replica, "/mode").await["mode"] == mode).await;
        }
        // Longer than the limit: the silent tunnels of each session live by the frames of the others.
        tokio::time::sleep(Duration::from_secs(LIMIT + 1)).await;
        for replica in &replicas {
            assert!(replica.logged("session ended").is_empty(), "{mode}: {}", replica.whole_log());
        }
    }
    traffic.ends_in_silence("each switch", &redis, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_confirmation_where_another_switch_prevents_cuts() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let observing = replica(&app, &redis.url(), "1s", &[("IDLEGATE_IDLE_MODE", "observe")]);
    let (status, _) = switch(&observing, json!({"mode": "observe", "fleet": true})).await;
    assert_eq!(status.as_u16(), 200);
    let mut tunnel = Tunnel::open(&observing, "one").await;
    eventually("it to be past the limit", async || get(&observing, "/mode").await["past_the_limit"] == 1).await;
    for fleet in [false, true] {
        let (status, mode) = switch(&observing, json!({"mode": "enforce", "fleet": fleet})).await;
        assert_eq!((status.as_u16(), &mode["mode"]), (200, &json!("observe")), "{mode}");
    }
    tunnel.echo().await;
    // The same switch, and a replica whose file does not hold it back.
    let enforcing = replica(&app, &redis.url(), "1s", &[]);
    let (status, _) = switch(&observing, json!({"mode": "observe", "fleet": true})).await;
    assert_eq!(status.as_u16(), 200);
    eventually("it to hear of that", async || get(&enforcing, "/mode").await["mode"] == "observe").await;
    let mut other = Tunnel::open(&enforcing, "two").await;
    eventually("another to be past it", async || get(&enforcing, "/mode").await["past_the_limit"] == 1).await;
    let (status, refused) = switch(&observing, json!({"mode": "enforce", "fleet": true})).await;
    assert_eq!((status.as_u16(), &refused["would_cut"]), (409, &json!(1)), "{refused}");
    other.echo().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seconds_left_are_those_of_the_lifetime_if_fewer() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "1h", &[("IDLEGATE_IDLE_LIFETIME", "20m")]);
    let _tunnel = Tunnel::open(&proxy, "old").await;
    let told = account(&proxy, "old").await;
    let left = told["seconds_left"].as_u64().unwrap();
    assert!((1100..=1201).contains(&left) && told["left_until"] == "lifetime", "{told}");
    assert_eq!((&told["client"], &told["route"]), (&json!("127.0.0.1"), &json!("/ws-legacy")), "{told}");
    let young = replica(&app, "memory", "1m", &[("IDLEGATE_IDLE_LIFETIME", "20m")]);
    let _tunnel = Tunnel::open(&young, "young").await;
    let told = account(&young, "young").await;
    assert!(told["seconds_left"].as_u64().unwrap() <= 61 && told["left_until"] == "idle", "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_in_another_database_of_the_server_has_a_switch_of_its_own() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let ours = replica(&app, &redis.url(), "2s", &[]);
    let others = replica(&app, &format!("{}?db=1", redis.url()), "2s", &[]);
    let (mut lives, mut cut) = (Tunnel::open(&ours, "lives").await, Tunnel::open(&others, "cut").await);
    let (status, _) = switch(&ours, json!({"mode": "off", "fleet": true})).await;
    assert_eq!(status.as_u16(), 200);
    cut.cut(Duration::from_secs(9)).await;
    assert_eq!(get(&others, "/mode").await["switches"]["fleet"]["mode"], "enforce");
    lives.echo().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_passes_everything_through_and_never_counts_as_idle() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "3s", &[]));
    let (mut here, mut there) = (Tunnel::open(&one, "here").await, Tunnel::open(&two, "there").await);
    let mut dead = Tunnel::open(&one, "dead").await;
    ask(&one, Method::DELETE, &format!("/sessions/{}", id("dead"))).await;
    dead.cut(Duration::from_secs(2)).await;
    let (_, mode) = switch(&one, json!({"mode": "off", "for": "5s"})).await;
    assert_eq!((&mode["mode"], &mode["switches"]["replica"]["until"]["then"]), (&json!("off"), &json!("enforce")));
    // Another replica enforces, but no session is cut: what this one does not see may be activity.
    let passing = Tunnel::open(&one, "dead").await;
    assert!(Tunnel::try_open(two.address, "dead").await.is_err(), "only one of them is off");
    tokio::join!(here.stays_open_for(Duration::from_secs(5)), there.stays_open_for(Duration::from_secs(5)));
    eventually("it to return by itself", async || get(&one, "/mode").await["mode"] == "enforce").await;
    // From here on it counts again.
    tokio::join!(here.stays_open_for(Duration::from_secs(2)), there.stays_open_for(Duration::from_secs(2)));
    tokio::join!(here.cut(Duration::from_secs(5)), there.cut(Duration::from_secs(5)));
    assert!(Tunnel::try_open(one.address, "dead").await.is_err(), "dead stays dead");
    drop(passing);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_refuses_missing_tokens_and_other_sites() {
    let app = App::start(QUIET);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a token of operators\n").unwrap();
    let path = file.to_str().unwrap();
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_ADMIN_TOKEN_FILE", path)]);
    let (status, refused) = ask(&proxy, Method::GET, "/mode").await;
    assert_eq!((status.as_u16(), refused["error"].as_str()), (401, Some("the token is missing or wrong")));
    let with = |token: &str| Request::get(proxy.admin(), "/mode").header("authorization", &format!("Bearer {token}"));
    assert_eq!(with("a token of operators").send().await.status, 200);
    assert_eq!(with("another token").send().await.status, 401);

    let open = Idlegate::shipped(&app.upstream, &[]);
    let foreign = |field: &str, value: &str| Request::get(open.admin(), "/mode").header(field, value);
    assert_eq!(foreign("host", "evil.example").send().await.status, 421);
    assert_eq!(foreign("origin", "http://evil.example").send().await.status, 403);
    let answer = Request::new(open.admin(), Method::OPTIONS, "/mode").send().await;
    assert!(answer.status == 405 && answer.headers.get("access-control-allow-origin").is_none());
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/sessions/xyz", 400),
        (Method::POST, "/mode", 405),
        (Method::GET, "/sessions/00000000000000000000000000000000/extend", 405),
    ] {
        assert_eq!(ask(&open, method, path).await.0.as_u16(), status, "{path}");
    }
    for change in [
        json!({"mode": "on"}),
        json!({"mod": "off"}),
        json!(7),
        json!(["off"]),
        json!(["off", null, false, true]),
        json!({"mode": "off", "for": "soon"}),
    ] {
        let (status, answer) = switch(&open, change.clone()).await;
        assert!(status == 400 && answer["fix"].as_str().unwrap().contains("send JSON"), "{change}: {answer}");
    }
    assert_eq!(get(&open, "/mode").await["mode"], "enforce");
    let (status, answer) = ask(&open, Method::GET, "/sessions?idle_over=soon").await;
    assert!(status == 400 && answer["fix"].as_str().unwrap().contains("idle_over=30m"), "{answer}");
    let (status, answer) = switch(&open, json!({"mode": "off", "fleet": true})).await;
    assert_eq!(status.as_u16(), 503, "a fleet of one process has no switch: {answer}");
    let said = Idlegate::fails_with(
        crate::harness::SHIPPED,
        &[
            ("IDLEGATE_UPSTREAM", &app.upstream),
            ("IDLEGATE_ADMIN_LISTEN", "127.0.0.1:0"),
            ("IDLEGATE_ADMIN_TOKEN_FILE", "/nowhere"),
        ],
    );
    assert!(said.contains("`admin.token_file`: /nowhere"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_switch_without_the_store_explains_what_to_do() {
    let (app, redis) = (App::start(QUIET), Redis::absent());
    let proxy = replica(&app, &redis.url(), "2s", &[]);
    let (status, refused) = switch(&proxy, json!({"mode": "off", "fleet": true})).await;
    assert_eq!(status.as_u16(), 503, "{refused}");
    assert!(refused["fix"].as_str().unwrap().contains("leave out --fleet"), "{refused}");
    let (status, mode) = switch(&proxy, json!({"mode": "off"})).await;
    assert_eq!((status.as_u16(), &mode["mode"]), (200, &json!("off")), "{mode}");
}
