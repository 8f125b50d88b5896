//! The operators' page: its files, and what `/events` sends it.

use crate::harness::{App, Idlegate, Redis, Request, Tunnel, Wire, eventually, replica};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const QUIET: &[&str] = &["--ping", "600"];

/// As many as may look at once.
const SEATS: usize = 8;

/// One who looks.
struct Watcher(Wire);

impl Watcher {
    async fn at(admin: SocketAddr) -> Self {
        let mut wire = Wire::connect(admin).await;
        wire.send(format!("GET /events HTTP/1.1\r\nHost: {admin}\r\n\r\n")).await;
        let head = wire.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream\r\n"), "{head}");
        assert!(head.contains("cache-control: no-store\r\n"), "{head}");
        Self(wire)
    }

    /// The next snapshot.
    async fn next(&mut self) -> Value {
        self.0.until("data: ").await;
        serde_json::from_str(self.0.until("\n\n").await.trim_end()).unwrap()
    }

    /// The first snapshot for which this holds.
    async fn sees(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..15 {
            last = self.next().await;
            if holds(&last) {
                return last;
            }
        }
        panic!("{what} is not seen: {last}")
    }
}

fn events(snapshot: &Value) -> Vec<&str> {
    snapshot["recent"].as_array().unwrap().iter().map(|record| record["event"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_all_that_the_page_shows_and_the_records_of_the_log() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "2s", &[("IDLEGATE_IDLE_MODE", "observe")]);
    let mut tunnel = Tunnel::open(&proxy, "seen").await;
    let mut watcher = Watcher::at(proxy.admin()).await;
    let live = watcher.sees("it", |snapshot| snapshot["store"]["takes"] == true).await;
    let id = idlegate::session::SessionId::of_token(b"seen").to_string();
    let session = &live["sessions"][0];
    assert_eq!((&session["session"], &session["client"]), (&json!(id), &json!("127.0.0.1")), "{live}");
    assert_eq!((&session["route"], &session["left_until"]), (&json!("/ws-legacy"), &json!("idle")), "{live}");
    assert!(session["seconds_left"].as_u64().unwrap() <= 3, "{live}");
    let replica = live["replica"].as_str().unwrap();
    assert_eq!(session["connections"], json!({ replica: 1 }));
    assert_eq!((&live["mode"], &live["switches"]["file"]["mode"]), (&json!("observe"), &json!("observe")), "{live}");
    assert_eq!((&live["live"], &live["limit"], &live["are_more"]), (&json!(1), &json!(2), &json!(false)), "{live}");
    assert_eq!((&live["store"]["kind"], &live["store"]["unsynced"]), (&json!("memory"), &json!(0)), "{live}");
    assert_eq!(live["version"], idlegate::version::BOTH);

    let over = watcher.sees("a would-cut", |snapshot| events(snapshot).contains(&"would-cut")).await;
    assert_eq!((&over["past_the_limit"], &over["sessions"][0]["state"]), (&json!(1), &json!("overdue")), "{over}");
    eventually("its record", async || proxy.records("would-cut").len() == 1).await;
    assert_eq!(over["recent"][0], proxy.records("would-cut")[0], "one source of truth");
    tunnel.echo().await;
    Request::new(proxy.admin(), Method::DELETE, &format!("/sessions/{id}")).send().await;
    tunnel.cut(std::time::Duration::from_secs(2)).await;
    for _ in 0..2 {
        assert!(Tunnel::try_open(proxy.address, "seen").await.is_err());
    }
    let ended = watcher.sees("its end", |snapshot| events(snapshot).first() == Some(&"refuse")).await;
    let ended = if ended["recent"][0]["times"] == 2 {
        ended
    } else {
        watcher.sees("both", |s| s["recent"][0]["times"] == 2).await
    };
    assert_eq!((&ended["live"], &ended["sessions"]), (&json!(0), &json!([])), "{ended}");
    assert_eq!(events(&ended), ["refuse", "end", "would-cut"], "no start, and refusals once: {ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_the_sessions_of_all_replicas_and_goes_on_while_the_store_is_out() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    let _tunnels =
        [Tunnel::open(&one, "shared").await, Tunnel::open(&two, "shared").await, Tunnel::open(&two, "other").await];
    let mut watcher = Watcher::at(one.admin()).await;
    let places = |snapshot: &Value| -> BTreeSet<usize> {
        let sessions = snapshot["sessions"].as_array().unwrap();
        sessions.iter().map(|session| session["connections"].as_object().unwrap().len()).collect()
    };
    let seen = watcher.sees("both", |seen| places(seen) == BTreeSet::from([1, 2])).await;
    assert_eq!((&seen["live"], &seen["store"]["kind"]), (&json!(1), &json!("redis")), "{seen}");
    redis.freeze();
    let out = watcher.sees("the outage", |snapshot| snapshot["store"]["takes"] == false).await;
    assert!(out["store"]["since"].as_u64() >= seen["store"]["since"].as_u64(), "{out}");
    assert_eq!(out["sessions"].as_array().unwrap().len(), 1, "what this replica knows: {out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn open_pages_keep_no_operator_out() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "1h", &[]);
    let mut watchers = Vec::new();
    for _ in 0..=SEATS {
        let mut watcher = Watcher::at(proxy.admin()).await;
        watcher.next().await;
        watchers.push(watcher);
    }
    watchers[0].0.until("event: replaced\ndata: {}\n\n").await;
    assert_eq!(watchers[0].0.rest().await, b"\r\n0\r\n\r\n");
    // Far more than there may be connections, and all of those who look still do.
    for _ in 0..40 {
        assert_eq!(Request::get(proxy.admin(), "/mode").send().await.status, 200);
    }
    for watcher in &mut watchers[1..] {
        watcher.next().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_opens_without_the_token_and_shows_nothing_then() {
    let (app, folder) = (App::start(QUIET), tempfile::tempdir().unwrap());
    let file = folder.path().join("token").display().to_string();
    std::fs::write(&file, "a token of operators\n").unwrap();
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_ADMIN_TOKEN_FILE", &file)]);
    let page = Request::get(proxy.admin(), "/").send().await;
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    // All that it loads, and all that those load.
    let mut files = BTreeSet::from(["/".to_owned()]);
    let mut unread = vec![html];
    while let Some(text) = unread.pop() {
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("style="), "{text}");
        assert!(!text.contains("innerHTML") && !text.contains("<script>") && !text.contains("<style"), "{text}");
        let is_path = |path: &&str| {
            path.starts_with('/')
                && path.contains('.')
                && path.bytes().all(|byte| byte.is_ascii_lowercase() || b"/.".contains(&byte))
        };
        let quoted = text.split(['"', '\'']).map(|word| word.strip_prefix('.').unwrap_or(word));
        for path in quoted.filter(is_path) {
            if files.insert(path.to_owned()) {
                let answer = Request::get(proxy.admin(), path).send().await;
                assert_eq!(answer.status, 200, "{path}");
                unread.push(String::from_utf8(answer.body.to_vec()).unwrap());
            }
        }
    }
    assert_eq!(files.len(), 8, "{files:?}");
    for path in &files {
        for method in [Method::GET, Method::HEAD] {
            let answer = Request::new(proxy.admin(), method, path).send().await;
            let field = |name: &str| answer.headers[name].to_str().unwrap();
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(
                field("content-security-policy"),
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            );
            assert_eq!((field("x-content-type-options"), field("referrer-policy")), ("nosniff", "no-referrer"));
            assert_eq!(field("cache-control"), "no-store");
        }
        assert_eq!(Request::post(proxy.admin(), path).send().await.status, 405, "{path}");
        let foreign = |name: &str, value: &str| Request::get(proxy.admin(), path).header(name, value).send();
        assert_eq!(foreign("origin", "http://evil.example").await.status, 403, "{path}");
        assert_eq!(foreign("sec-fetch-site", "cross-site").await.status, 403, "{path}");
    }
    let ask = |fields: &[(&str, &str)]| {
        let request = Request::get(proxy.admin(), "/events");
        fields.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    let token = ("authorization", "Bearer a token of operators");
    assert_eq!(ask(&[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&[("authorization", "Bearer another token")]).await.status, 401);
    assert_eq!(ask(&[token, ("origin", "http://evil.example")]).await.status, 403);
    assert_eq!(ask(&[token, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "navigate")]).await.status, 403);
    assert_eq!(Request::post(proxy.admin(), "/events").header(token.0, token.1).send().await.status, 405);
    let open = replica(&app, "memory", "1h", &[]);
    assert_eq!(Request::get(open.admin(), "/events").header("host", "evil.example").send().await.status, 421);
}
