//! `[[ignore]]`: what a page or a library sends by itself passes the gate, and keeps no session.

use crate::harness::{App, Idlegate, Redis, Request, Socket, Wire, ask, eventually, handshake, id, log_in};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

const QUIET: &[&str] = &["--ping", "600"];

const CONFIG: &str = r#"
listen = "127.0.0.1:0"
upstream = "UPSTREAM"
[idle]
timeout = "2s"
[activity]
profile = "person"
ignore = ["socket.io"]
[health]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[[token]]
from = "header"
name = "session-id"
paths = ["/test/*", "/ws-legacy"]
[[ignore]]
name = "polls"
paths = ["/test/*"]
query = { silent = "1" }
[[ignore]]
name = "timer"
methods = ["POST"]
json = { "/changed/0" = "timer.n" }
"#;

fn proxy(app: &App, environment: &[(&str, &str)]) -> Idlegate {
    Idlegate::start_with(&CONFIG.replace("UPSTREAM", &app.upstream), environment)
}

/// The status of each request, sent every 200 ms until one is refused.
async fn refused_after(mut status: impl AsyncFnMut() -> u16) -> Duration {
    let begun = Instant::now();
    loop {
        match status().await {
            200 => assert!(begun.elapsed() < Duration::from_secs(8), "never refused"),
            401 => return begun.elapsed(),
            other => panic!("answered {other}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn post(proxy: &Idlegate, token: &str, path: &str, body: &Value) -> u16 {
    let request = Request::post(proxy.address, path).header("session-id", token).json(body);
    request.send().await.status.as_u16()
}

async fn ignored(proxy: &Idlegate, rule: &str) -> u64 {
    let metrics = proxy.metrics().await;
    let line = metrics.lines().find(|line| line.starts_with(&format!("idlegate_ignored_total{{rule=\"{rule}\"}}")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {rule} in {metrics}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_a_rule_ignores_keep_no_session_and_others_do() {
    let app = App::start(QUIET);
    let (proxy, redis) = (proxy(&app, &[]), Redis::start());
    let second =
        Idlegate::start_with(&CONFIG.replace("UPSTREAM", &app.upstream), &[("IDLEGATE_STORE_URL", &redis.url())]);
    let alone = async |proxy: &Idlegate, path: &str, body: Value, kept: bool| {
        let token = log_in(proxy.address, "ada", "lovelace").await;
        assert_eq!(post(proxy, &token, "/test/count-bytes", &json!(0)).await, 200);
        if kept {
            for _ in 0..22 {
                assert_eq!(post(proxy, &token, path, &body).await, 200, "{path} {body}");
                sleep(Duration::from_millis(200)).await;
            }
            return;
        }
        let after = refused_after(async || post(proxy, &token, path, &body).await).await;
        assert!(after > Duration::from_secs(2) && after < Duration::from_secs(5), "{path} {body}: after {after:?}");
    };
    tokio::join!(
        alone(&proxy, "/test/count-bytes?silent=1", json!({}), false),
        alone(&second, "/test/count-bytes?silent=1", json!({}), false),
        alone(&proxy, "/test/count-bytes", json!({"changed": ["timer.n"]}), false),
        alone(&proxy, "/test/count-bytes", json!({"changed": ["button.n"]}), true),
        alone(&proxy, "/test/count-bytes?silent=0", json!({}), true),
        // Too long to be looked at.
        alone(&proxy, "/test/count-bytes", json!({"changed": ["timer.n"], "x": "x".repeat(70_000)}), true),
    );
    assert!(ignored(&proxy, "polls").await > 5 && ignored(&proxy, "timer").await > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_request_that_waits_for_its_answer_or_is_being_answered_keeps_no_session() {
    let app = App::start(QUIET);
    let proxy = proxy(&app, &[("IDLEGATE_ACTIVITY_PROFILE", "tab")]);
    for path in ["/test/slow?seconds=6&silent=1", "/test/stream?count=60&interval=0.1&silent=1"] {
        let token = log_in(proxy.address, "ada", "lovelace").await;
        assert_eq!(post(&proxy, &token, "/test/count-bytes", &json!(0)).await, 200);
        let begun = Instant::now();
        let mut poll = Wire::connect(proxy.address).await;
        poll.send(format!("GET {path} HTTP/1.1\r\nHost: app\r\nsession-id: {token}\r\n\r\n")).await;
        let view = format!("/sessions/{}", id(&token));
        eventually("the cut", async || ask(&proxy, Method::GET, &view).await.1["state"] == "ended").await;
        let after = begun.elapsed();
        assert!(after < Duration::from_secs(5), "{path}: after {after:?}");
    }
}

async fn tunnel(proxy: &Idlegate) -> (String, Socket) {
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let socket = Socket::open_with(proxy.address, "/ws-legacy", &[("session-id", &token)]).await.unwrap();
    (token, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_of_a_library_keep_no_session_and_reach_the_app() {
    let app = App::start(QUIET);
    let proxy = proxy(&app, &[]);
    let (token, mut socket) = tunnel(&proxy).await;
    let (begun, mut last) = (Instant::now(), Instant::now());
    // A person writes for longer than the limit, between heartbeats.
    while begun.elapsed() < Duration::from_secs(4) {
        last = Instant::now();
        for text in ["3", "42[\"edit\"]"] {
            socket.send(Message::text(text)).await;
            assert_eq!(socket.next().await, Some(Message::text(text)));
        }
        sleep(Duration::from_millis(400)).await;
    }
    let view = ask(&proxy, Method::GET, &format!("/sessions/{}", id(&token))).await.1;
    let says = view["says"].as_str().unwrap();
    assert!(says.contains("by client-frame (10 bytes)"), "{says}");
    assert!(says.contains("by rule socket.io: a message of the client, 1 byte, "), "{says}");
    let code = loop {
        socket.send(Message::text("3")).await;
        match socket.next().await {
            Some(Message::Text(_)) => sleep(Duration::from_millis(200)).await,
            Some(Message::Close(Some(close))) => break u16::from(close.code),
            other => panic!("{other:?}"),
        }
        assert!(last.elapsed() < Duration::from_secs(8), "heartbeats kept the session");
    };
    assert_eq!(code, 1008);
    assert!(last.elapsed() > Duration::from_secs(2), "cut early");
    let cut = proxy.records("cut").pop().unwrap();
    assert_eq!(cut["ignored"]["rule"], "socket.io", "{cut}");
    assert!(cut["ignored"]["count"].as_u64().unwrap() > 10, "{cut}");
    assert!(cut["says"].as_str().unwrap().contains("; rule socket.io ignored its traffic "), "{cut}");
    assert!(ignored(&proxy, "socket.io").await > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_offers_no_compression_where_messages_are_looked_at() {
    let app = App::start(QUIET);
    let plain = CONFIG.replace("ignore = [\"socket.io\"]\n", "").replace("UPSTREAM", &app.upstream);
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    for (proxy, offered) in [(proxy(&app, &[]), false), (Idlegate::start(&plain), true)] {
        let before = app.seen_of("ws-open").len();
        let mut wire = Wire::connect(proxy.address).await;
        let token = log_in(proxy.address, "ada", "lovelace").await;
        wire.send(handshake("/ws-legacy", &format!("session-id: {token}\r\n{offer}"))).await;
        let answer = wire.head().await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        eventually("the app to see it", async || app.seen_of("ws-open").len() > before).await;
        let seen = app.seen_of("ws-open").pop().unwrap();
        assert_eq!(seen.to_string().to_ascii_lowercase().contains("permessage-deflate"), offered, "{seen}");
    }
}

/// A page left alone: it polls every second, and its socket sends a heartbeat every 1.2 s.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_watches_and_proposes_the_rules_for_what_a_page_does_by_itself() {
    let app = App::start(QUIET);
    let long = [("IDLEGATE_IDLE_TIMEOUT", "1h")];
    let proxy = Idlegate::start_with(&CONFIG.replace("UPSTREAM", &app.upstream), &long);
    let (token, mut socket) = tunnel(&proxy).await;
    let admin = proxy.admin().to_string();
    let watching = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_idlegate"));
        command.args(["doctor", "--watch", "9s", "--admin", &format!("http://{admin}")]).output().unwrap()
    });
    let polls = async {
        for _ in 0..9 {
            post(&proxy, &token, "/test/count-bytes", &json!({})).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    let heartbeats = async {
        for _ in 0..7 {
            socket.send(Message::text("heartbeat")).await;
            sleep(Duration::from_millis(1200)).await;
        }
    };
    let (output, (), ()) = tokio::join!(watching, polls, heartbeats);
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let rules = String::from_utf8(output.stdout).unwrap();
    assert!(
        rules.contains("# POST /test/count-bytes: ") && rules.contains("every 1.0 s in 1 of 1 session."),
        "{rules}"
    );
    assert!(rules.contains("# a message of the client, 9 bytes: ") && rules.contains("every 1.2 s"), "{rules}");
    // What it proposes works.
    let config = CONFIG.replace("UPSTREAM", &app.upstream) + &rules;
    let mended = Idlegate::start_with(&config, &[]);
    let token = log_in(mended.address, "ada", "lovelace").await;
    assert_eq!(post(&mended, &token, "/test/count-bytes?x=1", &json!(0)).await, 200);
    let after = refused_after(async || post(&mended, &token, "/test/count-bytes", &json!({})).await).await;
    assert!(after < Duration::from_secs(5), "after {after:?}");
}
