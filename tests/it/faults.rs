//! What the client gets when the app, or the client itself, fails.

use crate::harness::{App, Deaf, Fake, Idlegate, Recorder, Request, Wire, eventually, soon};
use crate::http::{get, plain, plain_with};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";

/// An app that closes each connection when its second request arrives: what a client of a pool meets when a server
/// closes an idle connection just then. Returns how many requests it has seen as well.
async fn closing_app() -> (Fake, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let fake = Fake::start(move |_, mut wire| {
        let counter = Arc::clone(&counter);
        async move {
            for answers in [true, false] {
                let Some(head) = wire.next_head().await else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                if answers {
                    wire.with_body(head).await;
                    wire.send(OK).await;
                }
            }
        }
    });
    (fake.await, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_meets_a_closing_connection_is_repeated_only_where_that_is_safe() {
    let (app, seen) = closing_app().await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    assert_eq!(client.ask(get("/", "")).await.status(), 200);
    assert_eq!(client.ask(get("/", "")).await.status(), 200);
    assert_eq!(seen.load(Ordering::SeqCst), 3, "the second one was asked twice");
    // A request is repeated on a connection of its own, which is not used again.
    assert_eq!(client.ask(get("/", "")).await.status(), 200);
    let answer = client.ask(UPLOAD).await;
    assert_eq!(answer.status(), 502, "{}", answer.head);
    assert_eq!(seen.load(Ordering::SeqCst), 5, "an upload was sent twice");
    assert_eq!(client.ask(UPLOAD).await.status(), 200);
    assert_eq!(client.ask("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n").await.status(), 200);
    assert_eq!(client.ask(get("/", "")).await.status(), 200);
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_app_closed_while_idle_are_not_used_again() {
    let app = Fake::start(|_, mut wire| async move {
        if let Some(head) = wire.next_head().await {
            wire.with_body(head).await;
            wire.send(OK).await;
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(client.ask(get("/", "")).await.status(), 200);
        // As soon as the close has arrived, an upload must not go there either.
        eventually("the close to be noticed", async || proxy.open_sockets_to(app.address) == 0).await;
        assert_eq!(client.ask(UPLOAD).await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_breaks_off_or_talks_nonsense_is_a_bad_gateway() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let app = Fake::start(move |_, mut wire| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                wire.next_head().await;
                wire.send(answer).await;
            }
        })
        .await;
        let proxy = plain(&app.upstream());
        let refused = Wire::connect(proxy.address).await.ask(get("/path?token=secret", "")).await;
        assert_eq!(refused.status(), 502, "{answer:?}: {}", refused.head);
        assert!(refused.body.len() < 200 && refused.text().contains("no proper answer"), "{}", refused.text());
        eventually("the log line of it", async || !proxy.logged("WARN").is_empty()).await;
        let line = proxy.logged("WARN");
        assert!(line.len() == 1 && line[0].contains("cause=") && line[0].contains("/path"), "{line:?}");
        assert!(!proxy.whole_log().contains("secret"), "{}", proxy.whole_log());
        assert_eq!(connections.load(Ordering::SeqCst), 1, "{answer:?} was asked for twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_passed_on_broken_off() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let app = Fake::start(move |_, mut wire| async move {
            wire.next_head().await;
            wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n3\r\nabc\r\n")).await;
        })
        .await;
        let proxy = plain(&app.upstream());
        let mut client = Wire::connect(proxy.address).await;
        client.send(get("/", "")).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.contains("abc") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_is_down_is_a_bad_gateway_until_it_is_up() {
    // A port that no other process gets, and on which none listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    for upstream in [format!("http://{address}"), "unix:/nonexistent/app.sock".to_owned()] {
        let proxy = plain(&upstream);
        let mut client = Wire::connect(proxy.address).await;
        for request in [get("/x", ""), UPLOAD.to_owned()] {
            let answer = client.ask(request).await;
            assert_eq!(answer.status(), 502);
            assert!(answer.body.len() < 200 && answer.text().contains("cannot be reached"), "{}", answer.text());
        }
        // The log has it once; the second request only at debug level.
        eventually("the log line of both", async || proxy.logged("cause=").len() == 2).await;
        let lines = proxy.logged("cause=");
        assert!(lines[0].contains("WARN") && lines[1].contains("DEBUG"), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn error_responses_suit_their_reader() {
    let proxy = plain("unix:/nonexistent/app.sock");
    let mut client = Wire::connect(proxy.address).await;
    let asked = [
        ("Accept: text/html,application/xhtml+xml;q=0.9\r\nSec-Fetch-Mode: navigate\r\n", "text/html; charset=utf-8"),
        ("Accept: text/html\r\nSec-Fetch-Mode: cors\r\n", "text/plain; charset=utf-8"),
        ("Accept: application/json, text/plain\r\n", "application/json"),
        ("Accept: */*\r\n", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
    ];
    for (fields, kind) in asked {
        let answer = client.ask(get("/%3Cb%3E?token=secret", fields)).await;
        assert_eq!((answer.status(), answer.field("content-type")), (502, vec![kind]), "{fields}");
        assert_eq!(answer.field("cache-control"), ["no-store"]);
        let text = answer.text();
        assert!(!text.contains("secret") && !text.contains("3Cb") && !text.contains("nonexistent"), "{text}");
        match kind {
            "text/html; charset=utf-8" => {
                assert!(text.contains("<h1>This site does not work right now</h1>"), "{text}");
            }
            "application/json" => {
                let said: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(said["error"], "app-unreachable");
                assert_eq!(said["message"], "the app behind this proxy cannot be reached");
            }
            _ => assert_eq!(text, "the app behind this proxy cannot be reached\n"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_one_line_when_the_app_fails_and_one_when_it_is_back() {
    // A port that is taken, on which no process listens yet.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let proxy = plain(&format!("http://{}", socket.local_addr().unwrap()));
    let mut client = Wire::connect(proxy.address).await;
    let told = |of: &str| proxy.logged(of).len();
    for _ in 0..5 {
        assert_eq!(client.ask(get("/x", "")).await.status(), 502);
    }
    let app = Fake::start_on(socket.listen(16).unwrap(), |_, mut wire| async move {
        while wire.next_head().await.is_some() {
            wire.send(OK).await;
        }
    });
    for _ in 0..3 {
        assert_eq!(client.ask(get("/x", "")).await.status(), 200);
    }
    eventually("the log line that it is back", async || told("the app answers again") == 1).await;
    assert_eq!((told("WARN"), told("cause="), told("failed=5")), (1, 5, 1), "{}", proxy.whole_log());
    drop(app);
    // The connections that it leaves behind may still answer for a moment.
    while client.ask(get("/x", "")).await.status() == 200 {}
    assert_eq!(client.ask(get("/x", "")).await.status(), 502);
    eventually("the log line of both", async || told("cause=") == 7).await;
    assert_eq!((told("WARN"), told("the app answers again")), (2, 1), "{}", proxy.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let app = App::start(&[]);
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_RESPONSE_TIMEOUT", "1s")]);
    let begun = Instant::now();
    let answer = Request::get(proxy.address, "/test/slow?seconds=30").send().await;
    assert_eq!(answer.status, 504);
    assert!(answer.body.len() < 200, "{answer:?}");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
    eventually("the log line of it", async || proxy.logged("504: ").len() == 1).await;
    eventually("the app to be reported", async || app.seen_of("gone").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_accept_in_time_is_a_gateway_timeout() {
    let app = Deaf::start().await;
    let proxy = plain_with(&app.upstream(), &[("IDLEGATE_CONNECT_TIMEOUT", "500ms")]);
    let answer = Wire::connect(proxy.address).await.ask(get("/", "")).await;
    assert_eq!(answer.status(), 504, "{}", answer.text());
    eventually("the log line of it", async || proxy.logged("504: ").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_in_its_upload_gets_408() {
    let app = Recorder::answering(OK).await;
    let proxy = plain_with(&app.upstream(), &[("IDLEGATE_RESPONSE_TIMEOUT", "1s")]);
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.message().await;
    assert_eq!(answer.status(), 408, "{}", answer.head);
    assert!(client.rest().await.is_empty(), "the connection is closed");
    assert!(proxy.logged("WARN").is_empty(), "{:?}", proxy.logged("WARN"));
    assert!(app.got().is_empty());
    // A slow one that keeps sending may take longer than any timeout.
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        client.send("x").await;
    }
    assert_eq!(client.message().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_breaks_off_an_upload_is_at_fault_and_not_the_client() {
    let app = Fake::start(|_, mut wire| async move {
        wire.next_head().await;
        wire.bytes(3).await;
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = client.message().await;
    assert_eq!(answer.status(), 502, "{}", answer.text());
    eventually("the log line of it", async || proxy.logged("502: ").len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_its_upload_is_no_fault_of_the_app() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(client);
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n").await;
    assert!(String::from_utf8(client.rest().await).unwrap().starts_with("HTTP/1.1 400 "));
    eventually("both to be gone", async || proxy.open_sockets_to(app.address()) == 0).await;
    assert!(proxy.logged("WARN").is_empty(), "{:?}", proxy.logged("WARN"));
    assert!(app.got().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_request_at_the_app() {
    let app = App::start(&[]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    for (number, path) in ["/test/slow?seconds=60", "/test/silent"].into_iter().enumerate() {
        let mut client = Wire::connect(proxy.address).await;
        client.send(get(path, "")).await;
        eventually("the request to arrive", async || app.seen_of("request").len() == number + 1).await;
        if path == "/test/silent" {
            client.until("silence").await;
        }
        drop(client);
        eventually("the app to be reported", async || app.seen_of("gone").len() == number + 1).await;
    }
    soon("the proxy to live", Request::get(proxy.address, "/health").send()).await;
}
