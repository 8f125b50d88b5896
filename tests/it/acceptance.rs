//! Which answers accept a token, where `accept_when` and `reject_when` look into them.

use crate::harness::{Fake, Idlegate, Recorder, Wire, eventually, id};
use crate::http::get;

const RULES: &str = r#"
[[token]]
from = "header"
name = "x-token"
paths = ["/api", "/logout", "/stream"]
accept_when = { "/success" = true }
reject_when = { "/locked" = true }
[[token]]
from = "header"
name = "x-token"
paths = ["/logout"]
ends = true
accept_when = { "/success" = true }
"#;

fn proxy(upstream: &str) -> Idlegate {
    Idlegate::start(&format!("upstream = {upstream:?}\n{RULES}"))
}

fn token(path: &str, token: &str) -> String {
    get(path, &format!("X-Token: {token}\r\nAccept-Encoding: gzip\r\n"))
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_short_answer_decides_and_of_any_other_the_status() {
    let long = format!("{{\"success\": false, \"x\": \"{}\"}}", "y".repeat(70_000));
    let cases = [
        (answer("200 OK", "Content-Type: text/html\r\n", r#"{"success": true}"#), true),
        (answer("200 OK", "", r#"{"success": false}"#), false),
        (answer("200 OK", "", r#"{"success": true, "locked": true}"#), false),
        (answer("200 OK", "Content-Type: text/html\r\n", "<!doctype html>"), false),
        (answer("200 OK", "", ""), false),
        (answer("401 Unauthorized", "", r#"{"success": true}"#), false),
        // Not read: it may be a stream, is too long, or cannot be read.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned(), true),
        (answer("200 OK", "", &long), true),
        (answer("200 OK", "Content-Encoding: gzip\r\n", "{}"), true),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
    ];
    let answers: Vec<_> = cases.iter().map(|(answer, _)| answer.clone()).collect();
    let app = Recorder::with(move |number| answers[number].clone()).await;
    let mut proxy = proxy(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    for (number, (answer, _)) in cases.iter().enumerate() {
        let got = client.ask(token("/api", &format!("token-{number}"))).await;
        assert_eq!(got.status().to_string(), answer[9..12], "{answer}");
        assert!(answer.ends_with(&got.text()) || got.text() == "{}", "{answer}");
    }
    drop(client);
    assert!(proxy.stop().await.success());
    for (number, (answer, accepts)) in cases.iter().enumerate() {
        let begun =
            proxy.logged("a session is tracked").iter().any(|line| line.contains(&id(&format!("token-{number}"))));
        assert_eq!(begun, *accepts, "{}", answer.get(..200).unwrap_or(answer));
    }
    assert!(app.got().iter().all(|got| got.field("accept-encoding") == ["identity"]), "{:?}", app.got());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_the_app_refuses_ends_nothing() {
    let yes = answer("200 OK", "Content-Type: text/html\r\n", r#"{"success": true}"#);
    let no = answer("200 OK", "Content-Type: text/html\r\n", r#"{"success": false}"#);
    let app = Recorder::with(move |number| if number == 1 { no.clone() } else { yes.clone() }).await;
    let proxy = proxy(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    for path in ["/api", "/logout", "/api", "/logout"] {
        assert_eq!(client.ask(token(path, "tok")).await.status(), 200, "{path}");
    }
    assert_eq!(client.ask(token("/api", "tok")).await.status(), 401);
    eventually("the end", async || proxy.records("end").len() == 1).await;
    // Of a known session only the logout's answer is read: the others may be compressed.
    let codings: Vec<_> = app.got().iter().map(|got| got.field("accept-encoding")[0].to_owned()).collect();
    assert_eq!(codings, ["identity", "identity", "gzip", "identity"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_held_back_nor_the_answer_to_a_known_session() {
    let app = Fake::start(|_, mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let begun = if head.starts_with("GET /stream ") {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegins"
            };
            wire.send(begun).await;
            // Nothing more comes.
            wire.rest().await;
        }
    })
    .await;
    let proxy = proxy(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(token("/stream", "tok")).await;
    client.until("data: 1\n\n").await;
    proxy.has_logged("a session is tracked", 1).await;
    let mut known = Wire::connect(proxy.address).await;
    known.send(token("/api", "tok")).await;
    known.until("begins").await;
}
