//! The record of every decision, and that no token is in anything idlegate says or keeps.

use crate::harness::{
    App, Idlegate, MANUAL, Redis, Request, Socket, Tunnel, eventually, id, log_in, replica, secret, secrets_in, soon,
};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const QUIET: &[&str] = &["--ping", "600"];

/// The newest of so many records of an event, when they are there.
async fn newest(proxy: &Idlegate, event: &str, count: usize) -> Value {
    eventually(&format!("record {count} of {event}"), async || proxy.records(event).len() >= count).await;
    proxy.records(event).swap_remove(count - 1)
}

fn number(record: &Value, field: &str) -> u64 {
    record[field].as_u64().unwrap_or_else(|| panic!("no {field} in {record}"))
}

/// That fields have these values.
fn has(record: &Value, fields: &Value) {
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&record[name], value, "{name} of {record}");
    }
}

/// That a cut, or what would be one, is explained by its own numbers.
fn adds_up(record: &Value, limit: u64) {
    let [last, created, now, idle, watermark] =
        ["last_activity", "created", "now", "idle", "watermark"].map(|field| number(record, field));
    assert!(created <= last && idle == now - last && idle > limit, "{record}");
    assert!((last + limit..=now).contains(&watermark), "{record}");
    let says = record["says"].as_str().unwrap();
    let source = record["source"].as_str().unwrap();
    assert!(says.ends_with(&format!("idle {idle} s > {limit} s, last activity {last} by {source}")), "{record}");
    let time = humantime::parse_rfc3339(record["time"].as_str().unwrap()).unwrap();
    let time = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(time.abs_diff(now) <= 5, "written when it was decided: {record}");
}

fn is_like_the_one_in_the_readme(cut: &Value) {
    let (_, rest) = MANUAL.split_once("<!-- record -->\n```json\n").unwrap();
    let shown: Value = serde_json::from_str(rest.split("```").next().unwrap()).unwrap();
    let names = |record: &Value| record.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown), names(cut));
    for name in names(cut) {
        assert!(MANUAL.contains(&format!("`{name}`")), "{name} is explained");
    }
    let found = MANUAL.matches(shown["says"].as_str().unwrap()).count();
    assert_eq!(found, 4, "it is what the commands below it show");
}

async fn operator(proxy: &Idlegate, method: Method, path: &str, body: &Value) {
    let answer = Request::new(proxy.admin(), method, path).json(body).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_decision_has_one_record_that_agrees_with_the_store() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "2s", &[]);
    eventually("the first report", async || redis.hash("idlegate:replicas").await.contains_key("counting")).await;

    let mut tunnel = Tunnel::open(&proxy, "audited-token").await;
    let start = newest(&proxy, "start", 1).await;
    let created = redis.session("audited-token").await["created"].clone();
    has(&start, &json!({"session": id("audited-token"), "client": "127.0.0.1", "route": "/ws-legacy", "limit": 2}));
    assert_eq!((number(&start, "created").to_string(), &start["mode"]), (created, &json!("enforce")), "{start}");
    let name = start["replica"].as_str().unwrap();
    assert!(redis.hash("idlegate:replicas").await.contains_key(name), "{name} is not the name of its mark");
    assert!(proxy.logged("listening on")[0].contains(&format!("replica={name}")), "{}", proxy.whole_log());

    tunnel.cut(Duration::from_secs(9)).await;
    let cut = newest(&proxy, "cut", 1).await;
    adds_up(&cut, 2);
    has(&cut, &json!({"session": id("audited-token"), "reason": "idle", "connections": 1, "route": "/ws-legacy"}));
    has(&cut, &json!({"mode": "enforce", "replica": name, "client": "127.0.0.1"}));
    is_like_the_one_in_the_readme(&cut);
    let kept = redis.session("audited-token").await;
    for (field, of_store) in [("last_activity", "last_activity"), ("created", "created"), ("now", "ended")] {
        assert_eq!(number(&cut, field).to_string(), kept[of_store], "{field} of {cut}, {kept:?}");
    }
    assert_eq!((&cut["source"], &cut["reason"]), (&json!(kept["source"]), &json!(kept["reason"])));

    assert!(Tunnel::try_open(proxy.address, "audited-token").await.is_err());
    let refused = newest(&proxy, "refuse", 1).await;
    has(&refused, &json!({"session": id("audited-token"), "carrier": "request", "route": "/ws-legacy"}));
    let ended = number(&refused, "ended");
    assert_eq!((ended.to_string(), &refused["idle"]), (kept["ended"].clone(), &cut["idle"]), "{refused}");
    let says = format!("refused, dead since {ended}: {}", cut["says"].as_str().unwrap());
    assert!(number(&refused, "now") >= ended && refused["says"] == says, "{refused}");

    let mut other = Tunnel::open(&proxy, "another-token").await;
    operator(&proxy, Method::DELETE, &format!("/sessions/{}", id("another-token")), &json!({})).await;
    other.cut(Duration::from_secs(2)).await;
    let by_operator = newest(&proxy, "end", 1).await;
    has(&by_operator, &json!({"session": id("another-token"), "reason": "operator", "connections": 1}));

    let token = log_in(proxy.address, "ada", "lovelace").await;
    has(&newest(&proxy, "start", 3).await, &json!({"session": id(&token), "route": "/api/login"}));
    let body = json!({"session_id": token});
    assert_eq!(Request::post(proxy.address, "/api/logout").json(&body).send().await.status, 200);
    let logout = newest(&proxy, "end", 2).await;
    has(&logout, &json!({"session": id(&token), "reason": "logout", "route": "/api/logout"}));
    Socket::authenticated(proxy.address, &token).await;
    has(&newest(&proxy, "refuse", 2).await, &json!({"session": id(&token), "carrier": "tunnel", "route": "/ws"}));

    operator(&proxy, Method::PUT, "/mode", &json!({"mode": "observe"})).await;
    let mode = newest(&proxy, "mode", 1).await;
    has(&mode, &json!({"before": "enforce", "after": "observe", "by": "replica", "mode": "observe"}));
    assert!(number(&mode, "now") >= ended && mode.get("session").is_none(), "{mode}");

    let mut watched = Tunnel::open(&proxy, "watched-token").await;
    let would_cut = newest(&proxy, "would-cut", 1).await;
    adds_up(&would_cut, 2);
    has(&would_cut, &json!({"session": id("watched-token"), "mode": "observe", "reason": "idle", "connections": 1}));
    assert!(would_cut["says"].as_str().unwrap().starts_with("would be cut: idle "), "{would_cut}");
    watched.echo().await;
    let mut tolerated = Tunnel::open(&proxy, "audited-token").await;
    tolerated.echo().await;
    let would_refuse = newest(&proxy, "would-refuse", 1).await;
    has(&would_refuse, &json!({"session": id("audited-token"), "carrier": "request", "ended": ended}));

    let counts = ["start", "cut", "refuse", "end", "mode", "would-cut", "would-refuse"].map(|event| {
        let all = proxy.records(event);
        assert!(all.iter().all(|record| record["replica"] == name), "{all:?}");
        all.len()
    });
    assert_eq!(counts, [4, 1, 2, 2, 1, 1, 1], "{}", proxy.all_said());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_two_replicas_begins_once_and_each_records_its_end() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two, far] = std::array::from_fn(|_| replica(&app, &redis.url(), "2s", &[]));
    let mut here = Tunnel::open(&one, "shared-token").await;
    let mut there = Tunnel::open(&two, "shared-token").await;
    tokio::join!(here.cut(Duration::from_secs(9)), there.cut(Duration::from_secs(9)));
    let cuts = [newest(&one, "cut", 1).await, newest(&two, "cut", 1).await];
    for cut in &cuts {
        adds_up(cut, 2);
        has(cut, &json!({"session": id("shared-token"), "connections": 1, "route": "/ws-legacy"}));
    }
    for field in ["last_activity", "source", "created", "now", "idle"] {
        assert_eq!(cuts[0][field], cuts[1][field], "{field} of {cuts:?}");
    }
    assert_ne!(cuts[0]["replica"], cuts[1]["replica"]);
    assert_eq!((one.records("start").len(), two.records("start").len()), (1, 0));

    // Ended from a replica that did not know it.
    let mut other = Tunnel::open(&one, "another-token").await;
    operator(&far, Method::DELETE, &format!("/sessions/{}", id("another-token")), &json!({})).await;
    other.cut(Duration::from_secs(2)).await;
    has(&newest(&far, "end", 1).await, &json!({"reason": "operator", "connections": 0}));
    has(&newest(&one, "end", 1).await, &json!({"reason": "operator", "connections": 1}));
}

fn with_file_store(app: &App, folder: &Path) -> Idlegate {
    let url = format!("file:{}", folder.join("sessions").display());
    Idlegate::shipped(&app.upstream, &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_IDLE_TIMEOUT", "2s")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_found_idle_after_a_restart_has_an_audit_event() {
    let app = App::start(QUIET);
    let folder = tempfile::tempdir().unwrap();
    let mut proxy = with_file_store(&app, folder.path());
    let token = log_in(proxy.address, "ada", "lovelace").await;
    assert!(proxy.stop().await.success());
    assert_eq!(proxy.records("start").len(), 1, "written before the end");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let proxy = with_file_store(&app, folder.path());
    let body = json!({"session_id": token});
    assert_eq!(Request::post(proxy.address, "/api/validate-session").json(&body).send().await.status, 401);
    let cut = newest(&proxy, "cut", 1).await;
    adds_up(&cut, 2);
    has(&cut, &json!({"session": id(&token), "connections": 0}));
    assert!(cut.get("client").is_none(), "nobody came with it here before: {cut}");
    has(&newest(&proxy, "refuse", 1).await, &json!({"route": "/api/validate-session", "ended": cut["now"]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_is_recorded_with_its_own_arithmetic() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_LIFETIME", "2s")]);
    log_in(proxy.address, "ada", "lovelace").await;
    let cut = newest(&proxy, "cut", 1).await;
    let [created, now, last, idle] = ["created", "now", "last_activity", "idle"].map(|field| number(&cut, field));
    let (age, source) = (now - created, cut["source"].as_str().unwrap());
    assert!(age > 2 && idle == now - last, "{cut}");
    has(&cut, &json!({"reason": "lifetime", "lifetime": 2, "limit": 3600}));
    assert_eq!(cut["says"], format!("{age} s old > 2 s, idle {idle} s, last activity {last} by {source}"));
}

/// The records in a file.
fn in_file(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn with_audit(app: &App, audit: &str) -> Idlegate {
    Idlegate::shipped(&app.upstream, &[("IDLEGATE_AUDIT", audit), ("IDLEGATE_IDLE_TIMEOUT", "1s")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_once_and_stops_no_cut() {
    let app = App::start(QUIET);
    let proxy = with_audit(&app, "/dev/full");
    let tokens = [log_in(proxy.address, "ada", "lovelace").await, log_in(proxy.address, "bob", "builder").await];
    proxy.has_cut_in_time(2).await;
    for token in tokens {
        let body = json!({"session_id": token});
        assert_eq!(Request::post(proxy.address, "/api/validate-session").json(&body).send().await.status, 401);
    }
    let said = proxy.logged("audit events cannot be written to /dev/full and are lost");
    assert!(said.len() == 1 && said[0].contains("ERROR") && said[0].contains("No space left"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_the_disk_cut_off_spoils_no_other() {
    let app = App::start(QUIET);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let proxy = with_audit(&app, path.to_str().unwrap());
    let log_in = async || log_in(proxy.address, "ada", "lovelace").await;
    log_in().await;
    eventually("the first record", async || in_file(&path).len() == 1).await;
    let length = std::fs::metadata(&path).unwrap().len();
    proxy.let_files_grow(Some(length + 20));
    log_in().await;
    eventually("the failure", async || proxy.logged("audit events cannot be written").len() == 1).await;
    proxy.let_files_grow(None);
    eventually("two cuts", async || in_file(&path).len() == 4).await;
    let lines = in_file(&path);
    let events =
        [&lines[0], &lines[2], &lines[3]].map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].clone());
    assert_eq!(events, ["start", "cut", "cut"], "{lines:?}");
    assert_eq!(lines[1].len(), 20, "{lines:?}");
    proxy.has_logged("audit events are written again", 1).await;
    assert!(proxy.logged("audit events are written again")[0].contains("lost=1"), "{}", proxy.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_where_they_are_asked_to_go() {
    let app = App::start(QUIET);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    for audit in ["stdout", "stderr", "none", path.to_str().unwrap()] {
        let mut proxy = with_audit(&app, audit);
        log_in(proxy.address, "ada", "lovelace").await;
        assert!(proxy.stop().await.success());
        let in_log = proxy.logged("{\"time\":").len();
        let in_file = std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
        let expected = match audit {
            "stdout" => [1, 0, 0],
            "stderr" => [0, 1, 0],
            "none" => [0, 0, 0],
            _ => [0, 0, 1],
        };
        assert_eq!([proxy.records("start").len(), in_log, in_file], expected, "{audit}");
    }
    let nowhere = [("IDLEGATE_UPSTREAM", app.upstream.as_str()), ("IDLEGATE_AUDIT", "/nowhere/audit.jsonl")];
    let said = Idlegate::fails_with(crate::harness::SHIPPED, &nowhere);
    assert!(said.starts_with("idlegate: audit: /nowhere/audit.jsonl cannot be opened: No such file"), "{said}");
}

/// All that is ever sent to a Redis.
struct Wiretap(Arc<Mutex<Vec<u8>>>);

impl Wiretap {
    async fn on(redis: &Redis) -> Self {
        let mut line = tokio::net::UnixStream::connect(redis.socket()).await.unwrap();
        line.write_all(b"MONITOR\r\n").await.unwrap();
        let mut ok = [0; 5];
        line.read_exact(&mut ok).await.unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut chunk = vec![0; 65536];
            while let Ok(count @ 1..) = line.read(&mut chunk).await {
                written.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self(heard)
    }
}

/// Uses a token in every place where a request may carry it. Returns what was answered.
async fn requests_with(proxy: &Idlegate, token: &str) -> BTreeMap<&'static str, u16> {
    let get = |path: &str| Request::get(proxy.address, path);
    let requests = [
        ("header", get("/api/get-all-students").header("session-id", token)),
        ("bearer", get("/api/admin/users").header("authorization", &format!("Bearer {token}"))),
        ("cookie", get("/cookie").header("cookie", &format!("sid={token}"))),
        ("query", get(&format!("/query?t={}", secret(token)))),
        ("json", Request::post(proxy.address, "/api/validate-session").json(&json!({"session_id": token}))),
    ];
    let mut answers = BTreeMap::new();
    for (carrier, request) in requests {
        answers.insert(carrier, request.send().await.status.as_u16());
    }
    answers
}

/// Unknown, live and dead tokens, by every carrier.
async fn use_every_carrier(proxy: &Idlegate) {
    let strangers = requests_with(proxy, "a-made-up-token").await;
    assert_eq!(
        strangers,
        BTreeMap::from([("bearer", 401), ("cookie", 200), ("header", 401), ("json", 401), ("query", 200)])
    );
    let (_, rejected) = Socket::authenticated(proxy.address, "another-made-up-token").await;
    assert_eq!(rejected["type"], "error");

    let token = log_in(proxy.address, "ada", "lovelace").await;
    let login = json!({"username": "admin", "password": "secret"});
    let admin = Request::post(proxy.address, "/api/admin/auth/login").json(&login).send().await.json();
    let admin = secret(admin["token"].as_str().unwrap()).to_owned();
    let (mut offered, accepted) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(accepted["type"], "auth_success");
    let mut issued = Socket::open(proxy.address, "/ws").await;
    issued.json().await;
    issued.say(&json!({"cmd": "authenticate", "username": "bob", "password": secret("builder")})).await;
    let on_socket = secret(issued.json().await["session_id"].as_str().unwrap()).to_owned();
    assert_eq!(requests_with(proxy, &token).await["header"], 200);
    assert_eq!(requests_with(proxy, &admin).await["bearer"], 200);
    soon("the cut", offered.cut_words()).await;
    soon("the cut", issued.cut_words()).await;
    eventually("all to be cut", async || proxy.records("cut").len() == proxy.records("start").len()).await;
    let dead = BTreeMap::from([("bearer", 401), ("cookie", 401), ("header", 401), ("json", 401), ("query", 401)]);
    for token in [&token, &admin, &on_socket, "a-made-up-token"] {
        assert_eq!(requests_with(proxy, token).await, dead);
        let (_, refused) = Socket::authenticated(proxy.address, token).await;
        assert_eq!(refused["type"], "session_terminated");
    }
    eventually("the refusals to be recorded", async || proxy.records("refuse").len() == 4 * 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_in_any_output_or_store() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions");
    let wiretap = Wiretap::on(&redis).await;
    for store in [redis.url(), format!("file:{}", file.display())] {
        let mut proxy = Idlegate::shipped(
            &app.upstream,
            &[
                ("IDLEGATE_STORE_URL", &store),
                ("IDLEGATE_LOG", "trace"),
                ("IDLEGATE_IDLE_TIMEOUT", "2s"),
                ("IDLEGATE_TOKEN_9_FROM", "cookie"),
                ("IDLEGATE_TOKEN_9_NAME", "sid"),
                ("IDLEGATE_TOKEN_10_FROM", "query"),
                ("IDLEGATE_TOKEN_10_NAME", "t"),
            ],
        );
        use_every_carrier(&proxy).await;
        let metrics = proxy.metrics().await;
        let sessions = Request::get(proxy.admin(), "/sessions").send().await;
        assert!(proxy.stop().await.success());
        let said = proxy.all_said();
        for (place, text) in [("log", said.as_bytes()), ("metrics", metrics.as_bytes()), ("sessions", &sessions.body)] {
            assert!(!text.is_empty() && secrets_in(text).is_empty(), "{place}: {}", String::from_utf8_lossy(text));
        }
    }
    let sent = wiretap.0.lock().unwrap().clone();
    let kept = std::fs::read(&file).unwrap();
    let dead = id("a-made-up-token");
    assert!(memchr::memmem::find(&sent, dead.as_bytes()).is_some(), "{}", String::from_utf8_lossy(&sent));
    for (place, bytes) in [("Redis", sent), ("file", kept)] {
        assert_eq!(secrets_in(&bytes), Vec::<String>::new(), "in {place}");
    }
    assert_eq!(secrets_in(b"sid=a-made-up-token;"), ["a-made-up-token"], "nothing was looked for");
}
