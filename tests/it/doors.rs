//! What does not get in: denied paths, and requests that two readers could understand in two ways.

use crate::harness::{App, Idlegate, Recorder, Wire, soon};
use crate::http::{get, plain};
use std::time::Duration;

/// How long nothing may come before nothing more is expected.
const QUIET: Duration = Duration::from_millis(300);

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_path_is_not_found_however_it_is_spelt() {
    let app = App::start(&[]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut client = Wire::connect(proxy.address).await;
    for path in [
        "/api/setup",
        "//api//setup",
        "/api/setup/",
        "/api/%73etup",
        "/%61pi/setup",
        "/api%2fsetup",
        "/api%2Fsetup",
        "/%2e/api/setup",
        "/x/%2E%2e/api/setup",
        "/x/../api/setup",
        "/x/..;/api/setup",
        "/api;a=b/setup;c",
        "/api/setup;x",
        "/api/setup?a=b",
        "/api/./setup",
        "/%252e/api/%2573etup",
        "/api\\setup",
        "/api/setup#x",
        "http://other/api/setup",
        "http://other//api/setup?x",
        "/api/reset-database",
        "/api/admin/migrate",
        "/api/admin/password",
        "/ws-legacy",
    ] {
        let answer = client.ask(get(path, "")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (404, "not found\n"), "{path}");
        let answer = client.ask(get(path, websocket)).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
    let answer = client.ask("POST /api/setup HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(app.seen(), Vec::<serde_json::Value>::new());
    assert_eq!(client.ask(get("/api/setup-guide", "")).await.status(), 200);
}

/// Sends it all, and returns the statuses of all answers that come until nothing comes any more.
async fn statuses(proxy: &Idlegate, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    let mut client = Wire::connect(proxy.address).await;
    client.send(bytes).await;
    // The first may take its time.
    let mut answers = soon("an answer, or the end", client.try_bytes(1)).await.unwrap_or_default();
    while let Ok(Some(byte)) = tokio::time::timeout(QUIET, client.try_bytes(1)).await {
        answers.extend(byte);
    }
    let answers = String::from_utf8_lossy(&answers);
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

/// The targets that the app saw.
fn targets(app: &Recorder) -> Vec<String> {
    app.got().iter().map(|got| got.head.split(' ').nth(1).unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_end_is_in_doubt_never_becomes_two() {
    // Each would be followed, for a reader who sees its end where the writer did not, by a request of its own.
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inner.len();
    for (request, refused) in [
        // RFC 9112 §6.3: chunked overrides the length. Nothing after it is read.
        (format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"), false),
        (format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n0\r\n\r\n{inner}"), false),
        (format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}"), true),
        (format!("Content-Length: 0, {length}\r\n\r\n{inner}"), true),
        (format!("Content-Length: +{length}\r\n\r\n{inner}"), true),
        (format!("Content-Length: -1\r\n\r\n{inner}"), true),
        (format!("Content-Length : {length}\r\n\r\n{inner}"), true),
        (format!("X: y\r\n Content-Length: {length}\r\n\r\n{inner}"), true),
        (format!("X: y\rContent-Length: {length}\r\n\r\n{inner}"), true),
        (format!("X: y\0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\n{inner}\r\n0\r\n\r\n"), true),
        (format!("Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n{inner}"), true),
        (format!("Transfer-Encoding: chunked\r\n\r\n100000000000000000\r\n\r\n{inner}"), true),
        ("Host: b\r\n\r\n".to_owned(), true),
    ] {
        let app = Recorder::answering(OK).await;
        let proxy = plain(&app.upstream());
        let got = statuses(&proxy, format!("POST /outer HTTP/1.1\r\nHost: a\r\n{request}")).await;
        let seen = targets(&app);
        if refused {
            assert!(seen.is_empty(), "{request:?}: the app saw {seen:?}");
            assert!(!got.contains(&200) && got.len() <= 2, "{request:?}: {got:?}");
        } else {
            assert_eq!((seen, got), (vec!["/outer".to_owned()], vec![200]), "{request:?}");
            assert_eq!(app.only().field("content-length"), Vec::<&str>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lax_requests_are_forwarded_strictly() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let lax = "\r\nPOST /a HTTP/1.1\nHost: a\nX-One: 1 \nContent-Length: 3\n\nabc";
    assert_eq!(statuses(&proxy, lax).await, [200]);
    let got = app.only();
    assert!(!got.head.replace("\r\n", "").contains(['\r', '\n']), "{:?}", got.head);
    assert_eq!((got.text().as_str(), got.field("x-one")), ("abc", vec!["1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_are_refused() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    // The preface of HTTP/2 gets nothing, as its sender could not read an answer.
    assert_eq!(statuses(&proxy, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, Vec::<u16>::new());
    for (request, status) in [
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nb\u{e4}d: x\r\n\r\n", 400),
        ("CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n", 405),
    ] {
        let got = statuses(&proxy, request).await;
        assert_eq!(got, [status], "{request:?}");
    }
    assert!(app.got().is_empty(), "{:#?}", app.got());
    let mut client = Wire::connect(proxy.address).await;
    let answer = client.ask("CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n").await;
    assert!(answer.field("allow")[0].contains("GET"), "{}", answer.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_large_but_not_without_end() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let field = |length: usize| format!("Cookie: {}\r\n", "x".repeat(length));
    let many = |count: usize| (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<Vec<_>>().concat();
    let path = |length: usize| format!("/{}", "p".repeat(length));
    for (request, status) in [
        (get("/", &field(32 * 1024)), 200),
        (get("/", &field(70 * 1024)), 431),
        (get("/", &field(2 * 1024 * 1024)), 431),
        (get("/", &many(95)), 200),
        (get("/", &many(101)), 431),
        (get(&path(30 * 1024), ""), 200),
    ] {
        let mut client = Wire::connect(proxy.address).await;
        client.send(&request).await;
        assert_eq!(client.message().await.status(), status, "{} bytes", request.len());
    }
    let mut client = Wire::connect(proxy.address).await;
    client.send(get(&path(70 * 1024), "")).await;
    let status = client.message().await.status();
    assert!([414, 431].contains(&status), "{status}");
    assert_eq!(app.got().len(), 3);
}
