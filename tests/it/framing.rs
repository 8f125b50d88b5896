//! How long each message is, to whom a broken one is put down, and how often a request is sent.

use crate::harness::{Fake, Idlegate, Message, Recorder, Wire, eventually};
use crate::http::{get, plain};
use std::sync::{Arc, Mutex};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

fn request(method: &str, fields: &str, body: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_reaches_the_app_with_every_method() {
    let app = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "QUERY"];
    for method in methods {
        client.send(request(method, CHUNKED, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 204 "), "{method}");
    }
    client.send(request("GET", "Content-Length: 5\r\n", "fghij")).await;
    client.head().await;
    let mut got = app.got();
    let sized = got.pop().unwrap();
    assert_eq!((sized.text().as_str(), sized.field("content-length")), ("fghij", vec!["5"]));
    for (message, method) in got.iter().zip(methods) {
        assert!(message.head.starts_with(method), "{}", message.head);
        assert_eq!(
            (message.text().as_str(), message.field("transfer-encoding")),
            ("abcde", vec!["chunked"]),
            "{method}"
        );
    }
    assert_eq!((got.len(), app.connections()), (methods.len(), vec![0; methods.len() + 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_body_is_the_fault_of_its_client_on_a_used_connection_as_well() {
    // Of each request that came: whether all of it did.
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&arrived);
    let app = Fake::start(move |_, mut wire| {
        let written = Arc::clone(&written);
        async move {
            while let Some(head) = wire.next_head().await {
                let at = {
                    let mut written = written.lock().unwrap();
                    written.push(false);
                    written.len() - 1
                };
                if wire.with_body(head).await.is_none() {
                    return;
                }
                written.lock().unwrap()[at] = true;
                wire.send(OK).await;
            }
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    for (number, method) in ["GET", "PUT", "POST"].into_iter().enumerate() {
        // The connection to the app has answered before.
        assert_eq!(Wire::connect(proxy.address).await.ask(get("/", "")).await.status(), 200);
        let mut client = Wire::connect(proxy.address).await;
        client.send(request(method, CHUNKED, "3\r\nabc\r\nnonsense\r\n")).await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{method}: {answer}");
        // So it is where a client leaves in the middle.
        assert_eq!(Wire::connect(proxy.address).await.ask(get("/", "")).await.status(), 200);
        let mut client = Wire::connect(proxy.address).await;
        client.send(request(method, "Content-Length: 10\r\n", "abc")).await;
        eventually("it to be under way", async || arrived.lock().unwrap().len() == 4 * number + 4).await;
        drop(client);
        eventually("it to be given up", async || proxy.open_sockets_to(app.address) == 0).await;
    }
    assert_eq!(*arrived.lock().unwrap(), [true, false, true, false].repeat(3));
    assert!(proxy.logged("WARN").is_empty(), "{:?}", proxy.logged("WARN"));
    let metrics = proxy.scrape().await;
    assert!(metrics.sum("idlegate_upstream_errors_total").abs() < 0.5);
}

/// What a client gets where the app answers a GET like this.
async fn answer_to_get(answer: &'static str) -> (Message, Idlegate) {
    let app = Recorder::answering(answer).await;
    let proxy = plain(&app.upstream());
    (Wire::connect(proxy.address).await.ask(get("/", "")).await, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_take_precedence_over_a_length() {
    for fields in ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let answer: &str = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n0\r\n\r\n").leak();
        let (got, _proxy) = answer_to_get(answer).await;
        assert_eq!((got.text().as_str(), got.field("transfer-encoding")), ("abcdef", vec!["chunked"]), "{fields}");
        assert!(got.field("content-length").is_empty(), "{}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_one_length_or_is_refused() {
    for fields in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2"] {
        let (got, _proxy) = answer_to_get(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nok").leak()).await;
        assert_eq!((got.text().as_str(), got.field("content-length")), ("ok", vec!["2"]), "{fields}");
    }
    // Of an answer without a body as well: the client would go by it.
    let two = "Content-Length: 2\r\nContent-Length: 3\r\n\r\n";
    for (method, status) in [("HEAD", "200 OK"), ("GET", "304 Not Modified"), ("GET", "200 OK")] {
        let app = Recorder::answering(format!("HTTP/1.1 {status}\r\n{two}").leak()).await;
        let proxy = plain(&app.upstream());
        let mut client = Wire::connect(proxy.address).await;
        client.send(request(method, "", "")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 502 "), "{method} {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_asks_for_an_upgrade_names_the_protocol() {
    let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0, websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n\
                  Content-Length: 2\r\n\r\nno";
    let (got, _proxy) = answer_to_get(answer).await;
    assert_eq!((got.status(), got.field("upgrade")), (426, vec!["HTTP/3.0, websocket"]), "{}", got.head);
    assert_eq!(got.field("connection"), ["Upgrade"]);
    // Any other answer that offers an upgrade speaks of the hop to the app.
    let (got, _proxy) =
        answer_to_get("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok").await;
    assert!(got.field("upgrade").is_empty() && got.field("connection").is_empty(), "{}", got.head);
}

/// What an app does with a request on a connection that has answered before.
#[derive(Clone, Copy)]
struct Phase {
    /// It sends this.
    sends: &'static str,
    /// It reads the request first.
    reads: bool,
    /// It resets the connection instead of closing it.
    resets: bool,
}

/// An app that answers the first request of its first connection, and ends all others in one phase. Returns the first
/// lines of what arrived as well.
async fn ending_in(phase: Phase, answers: usize) -> (Fake, Arc<Mutex<Vec<String>>>) {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&arrived);
    let fake = Fake::start(move |connection, mut wire| {
        let written = Arc::clone(&written);
        async move {
            if connection < answers && wire.next_head().await.is_some() {
                wire.send(OK).await;
            }
            if phase.reads {
                let Some(head) = wire.next_head().await else { return };
                written.lock().unwrap().push(head.lines().next().unwrap().to_owned());
            } else {
                wire.stream.readable().await.unwrap();
                written.lock().unwrap().push(String::new());
            }
            wire.send(phase.sends).await;
            if phase.resets {
                wire.stream.set_zero_linger().unwrap();
            }
        }
    });
    (fake.await, arrived)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_sent_twice_at_most_and_once_where_its_answer_has_begun() {
    let part = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab";
    for (method, sends, reads, resets, arrivals) in [
        ("GET", "", true, false, 2),
        ("GET", "", true, true, 2),
        ("GET", "", false, true, 2),
        ("DELETE", "", true, false, 2),
        ("POST", "", true, false, 1),
        ("POST", "", true, true, 1),
        ("GET", "H", true, false, 1),
        ("GET", "HTTP/1.1 200 OK\r\nConte", true, false, 1),
        ("GET", "HTTP/1.1 200 OK\r\nConte", true, true, 1),
        ("GET", "HTTP/1.1 100 Continue\r\n\r\n", true, false, 1),
        ("GET", part, true, false, 1),
    ] {
        let told = format!("{method} after {sends:?}, read: {reads}, reset: {resets}");
        let (app, arrived) = ending_in(Phase { sends, reads, resets }, 1).await;
        let proxy = plain(&app.upstream());
        let mut client = Wire::connect(proxy.address).await;
        assert_eq!(client.ask(get("/", "")).await.status(), 200, "{told}");
        let line = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        client.send(request(method, line, "")).await;
        let head = client.head().await;
        let begun = sends == part;
        assert!(head.starts_with(if begun { "HTTP/1.1 200 " } else { "HTTP/1.1 502 " }), "{told}: {head}");
        if begun {
            assert_eq!(client.rest().await, b"ab", "{told}");
        }
        assert_eq!(arrived.lock().unwrap().len(), arrivals, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn informational_responses_are_dropped_without_harm() {
    let hints = "HTTP/1.1 102 Processing\r\nContent-Length: 7\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let (got, _proxy) = answer_to_get(format!("{hints}{OK}").leak()).await;
    assert_eq!((got.status(), got.text().as_str()), (200, "ok"), "{}", got.head);
    let (got, _proxy) = answer_to_get("HTTP/1.1 404 Nicht gefundèn\r\nContent-Length: 2\r\n\r\nno").await;
    assert!(got.head.starts_with("HTTP/1.1 404 \r\n") && got.text() == "no", "{}", got.head);
}
