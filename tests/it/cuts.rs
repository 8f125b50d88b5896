//! The end of a session as HTTP meets it: streams that are cut, requests that are refused, answers that still come.

use crate::harness::{App, BUSY, Fake, Idlegate, Request, Socket, Wire, eventually, log_in, soon};
use crate::http::get;
use http::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The shipped configuration with the header rule on the stand-in's probes as well.
fn probing(app: &App, environment: &[(&str, &str)]) -> Idlegate {
    let mut all = vec![("IDLEGATE_TOKEN_0_PATHS", r#"["/api/upload-file", "/test/*"]"#)];
    all.extend_from_slice(environment);
    Idlegate::shipped(&app.upstream, &all)
}

fn limit(limit: &str) -> (&str, &str) {
    ("IDLEGATE_IDLE_TIMEOUT", limit)
}

const PERSON: (&str, &str) = ("IDLEGATE_ACTIVITY_PROFILE", "person");

async fn log_out(proxy: &Idlegate, token: &str) {
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn open(proxy: &Idlegate, path: &str, token: &str) -> Wire {
    let mut client = Wire::connect(proxy.address).await;
    client.send(get(path, &format!("session-id: {token}\r\n"))).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_cut_in_time_and_without_its_end() {
    let app = App::start(&[]);
    let proxy = probing(&app, &[limit("1s")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let begun = Instant::now();
    let mut client = open(&proxy, "/test/silent", &token).await;
    client.until("silence\n\n\r\n").await;
    let rest = client.rest().await;
    let took = begun.elapsed();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert!(took > Duration::from_secs(1), "{took:?}");
    proxy.has_cut_in_time(1).await;
    eventually("the app to be reported", async || app.seen_of("gone").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moving_stream_keeps_its_session_as_a_tab_and_not_as_a_person() {
    let app = App::start(&[]);
    let stream = "/test/stream?count=14&interval=0.3";
    let tab = async {
        let proxy = probing(&app, &[limit("1s")]);
        let token = log_in(proxy.address, "ada", "lovelace").await;
        open(&proxy, stream, &token).await.until("data: 14\n\n\r\n0\r\n\r\n").await;
        assert!(proxy.logged("session ended").is_empty());
    };
    let person = async {
        let proxy = probing(&app, &[limit("1s"), PERSON]);
        let token = log_in(proxy.address, "bob", "builder").await;
        let answer = String::from_utf8(open(&proxy, stream, &token).await.rest().await).unwrap();
        assert!(answer.contains("data: 3\n") && !answer.contains("data: 14\n"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    };
    tokio::join!(tab, person);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_a_person_at_work() {
    let app = App::start(&[]);
    let proxy = probing(&app, &[limit("1s"), PERSON]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    let mut client = Wire::connect(proxy.address).await;
    let fields = format!("session-id: {token}\r\nTransfer-Encoding: chunked\r\n");
    client.send(format!("POST /test/count-bytes HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    for _ in 0..16 {
        sleep(Duration::from_millis(250)).await;
        client.send("1\r\nx\r\n").await;
    }
    let done = Instant::now();
    client.send("0\r\n\r\n").await;
    assert!(client.message().await.text().contains("\"bytes\": 16"));
    assert_eq!(soon("the cut", socket.cut_words()).await.1, 4002);
    assert!(done.elapsed() > Duration::from_secs(1), "cut after {:?}", done.elapsed());
}

/// An app whose answers never end.
async fn endless() -> Fake {
    Fake::start(|_, mut wire| async move {
        while let Some(head) = wire.next_head().await {
            if !head.contains("/endless") {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                continue;
            }
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n").await;
            let block = vec![b'x'; 65536];
            while tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &block).await.is_ok() {}
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_more_is_closed_two_seconds_after_the_cut() {
    let app = endless().await;
    let proxy = Idlegate::start_with(
        &format!("upstream = {:?}\n[[token]]\nfrom = \"header\"\nname = \"session-id\"\n", app.upstream()),
        &[limit("1s")],
    );
    let before = proxy.open_files();
    // A session begins with an answer; the endless one is a connection of it from its own answer on.
    let mut client = open(&proxy, "/endless", "tok").await;
    client.head().await;
    assert!(proxy.open_files() > before);
    eventually("the cut", async || proxy.logged("session ended").len() == 1).await;
    let cut = Instant::now();
    eventually("all to be closed", async || proxy.open_files() <= before).await;
    assert!(cut.elapsed() < Duration::from_secs(2) + BUSY, "{:?}", cut.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_awaited_when_its_session_ended_is_still_delivered() {
    let app = App::start(&[]);
    let proxy = probing(&app, &[limit("1h")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let mut awaiting = open(&proxy, "/test/slow?seconds=1", &token).await;
    let mut streaming = open(&proxy, "/test/stream?count=1000&interval=0.1", &token).await;
    streaming.until("data: 1\n").await;
    eventually("the request to arrive", async || app.seen_of("request").len() == 3).await;
    log_out(&proxy, &token).await;
    let answer = String::from_utf8(streaming.rest().await).unwrap();
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(awaiting.message().await.text(), "{\"slow\": true}");
    assert_eq!(open(&proxy, "/test/slow", &token).await.message().await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_uses_the_configured_words() {
    let app = App::start(&[]);
    let proxy = probing(
        &app,
        &[limit("1h"), ("IDLEGATE_CUT_HTTP_STATUS", "440"), ("IDLEGATE_CUT_HTTP_BODY", "<p>Log in again.</p>")],
    );
    let token = log_in(proxy.address, "ada", "lovelace").await;
    log_out(&proxy, &token).await;
    let mut client = Wire::connect(proxy.address).await;
    let field = format!("session-id: {token}\r\n");
    let answer = client.ask(get("/test/slow", &field)).await;
    assert!(answer.head.starts_with("HTTP/1.1 440 "), "{}", answer.head);
    assert_eq!(answer.text(), "<p>Log in again.</p>");
    assert_eq!(answer.field("content-type"), ["text/html; charset=utf-8"]);
    assert_eq!(answer.field("cache-control"), ["no-store"]);
    assert_eq!(answer.field("access-control-allow-origin"), ["*"]);
    // HEAD: the same head, no body, and the connection is as good as before.
    client.send(format!("HEAD /test/slow HTTP/1.1\r\nHost: a\r\n{field}\r\n")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 440 ") && head.to_lowercase().contains("content-length: 20\r\n"), "{head}");
    assert_eq!(client.ask(get("/x", "")).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_redirected_to_the_login_and_a_call_is_not() {
    let app = App::start(&[]);
    let proxy = probing(&app, &[limit("1h"), ("IDLEGATE_CUT_LOGIN_URL", "/login?why=idle")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    log_out(&proxy, &token).await;
    let page = ("accept", "text/html,application/xhtml+xml;q=0.9");
    for (method, fields, status) in [
        (Method::GET, vec![page], 302),
        (Method::HEAD, vec![page], 302),
        (Method::GET, vec![page, ("sec-fetch-mode", "navigate")], 302),
        (Method::GET, vec![page, ("sec-fetch-mode", "cors")], 401),
        (Method::POST, vec![page], 303),
        (Method::GET, vec![("accept", "application/json")], 401),
        (Method::GET, vec![("accept", "*/*")], 401),
        (Method::GET, vec![], 401),
    ] {
        let mut request = Request::new(proxy.address, method.clone(), "/test/slow").header("session-id", &token);
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{method} {fields:?}");
        let location = answer.headers.get("location").map(|value| value.to_str().unwrap());
        assert_eq!(location, (status < 400).then_some("/login?why=idle"));
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_upload_is_refused_can_read_why() {
    let app = App::start(&[]);
    let proxy = probing(&app, &[limit("1h")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    log_out(&proxy, &token).await;
    let size = 40 * 1024 * 1024;
    for _ in 0..3 {
        let mut client = Wire::connect(proxy.address).await;
        client
            .send(format!("POST /test/x HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\nsession-id: {token}\r\n\r\n"))
            .await;
        for _ in 0..40 {
            client.send(vec![b'x'; size / 40]).await;
        }
        assert_eq!(client.message().await.status(), 401);
        assert_eq!(client.ask(get("/x", "")).await.status(), 200, "the connection is as good as before");
    }
    // A client that waits for `100 Continue` gets the refusal at once.
    let begun = Instant::now();
    let expecting = format!("Content-Length: 100\r\nExpect: 100-continue\r\nsession-id: {token}\r\n");
    let mut client = Wire::connect(proxy.address).await;
    let answer = client.ask(format!("POST /test/x HTTP/1.1\r\nHost: a\r\n{expecting}\r\n")).await;
    assert_eq!(answer.status(), 401);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert!(client.rest().await.is_empty());
    let seen = app.seen();
    assert!(seen.iter().all(|seen| seen["path"] != "/test/x"), "{seen:?}");
}
