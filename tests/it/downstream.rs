//! Clients that take nothing, that have said all they will say, or that have left.

use crate::harness::{BUSY, Fake, Recorder, Wire, eventually};
use crate::http::{get, plain, plain_with};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

/// How long an answer may take once its client has ended its sending direction.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// An app whose answers have no end: a piece every so often, or as fast as it can. Returns how many of its clients have
/// left as well.
async fn endless(piece: usize, pause: Duration) -> (Fake, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&left);
    let fake = Fake::start(move |_, mut wire| {
        let left = Arc::clone(&counter);
        async move {
            wire.next_head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
            let piece = vec![b'x'; piece];
            while wire.stream.write_all(&piece).await.is_ok() {
                sleep(pause).await;
            }
            left.fetch_add(1, Ordering::SeqCst);
        }
    });
    (fake.await, left)
}

/// A client that has room for little.
async fn narrow(address: std::net::SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_ended_and_a_slow_one_is_not() {
    let (app, left) = endless(64 * 1024, Duration::ZERO).await;
    let proxy = plain_with(&app.upstream(), &[("IDLEGATE_WRITE_TIMEOUT", "1s")]);
    let mut slow = narrow(proxy.address).await;
    slow.write_all(get("/", "").as_bytes()).await.unwrap();
    let mut stuck = narrow(proxy.address).await;
    stuck.write_all(get("/", "").as_bytes()).await.unwrap();
    let begun = Instant::now();
    let mut piece = vec![0; 8 * 1024];
    while begun.elapsed() < Duration::from_secs(5) {
        slow.read_exact(&mut piece).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    eventually("the other one to be ended", async || left.load(Ordering::SeqCst) == 1).await;
    assert_eq!(proxy.logged("took nothing for as long as write_timeout").len(), 1, "{}", proxy.whole_log());
    assert_eq!(proxy.open_sockets_to(app.address), 1);
    // What had not been sent is gone with it.
    let ended = stuck.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    slow.read_exact(&mut piece).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_followed_by_the_end_of_sending_is_answered() {
    let app = Fake::start(|_, mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let Some(message) = wire.with_body(head).await else { return };
            sleep(Duration::from_millis(500)).await;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", message.body.len())).await;
            wire.send(message.body).await;
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    for (request, body) in [
        (get("/", ""), ""),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), ""),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), "abc"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(), "abc"),
        // Two at once are both answered.
        ([get("/", ""), "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nde".to_owned()].concat(), "de"),
    ] {
        let mut client = Wire::connect(proxy.address).await;
        client.send(&request).await;
        client.finish().await;
        let answer = String::from_utf8(client.rest().await).unwrap();
        assert_eq!(answer.matches(" 200 OK\r\n").count(), request.matches(" HTTP/1.").count(), "{request}: {answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{request}: {answer}");
    }
    // Half a request is none.
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab").await;
    client.finish().await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_client_gets_its_stream_while_it_reads() {
    let (app, left) = endless(1, Duration::from_millis(250)).await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(get("/", "")).await;
    client.finish().await;
    client.head().await;
    let begun = Instant::now();
    while begun.elapsed() < HALF_CLOSED + Duration::from_secs(1) {
        // A chunk of one byte.
        assert_eq!(client.bytes(6).await, b"1\r\nx\r\n");
    }
    assert_eq!(left.load(Ordering::SeqCst), 0);
    let closed = Instant::now();
    drop(client);
    eventually("the app to be reported", async || left.load(Ordering::SeqCst) == 1).await;
    assert!(closed.elapsed() < HALF_CLOSED, "{:?}", closed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_left_is_not_waited_for() {
    // An app that never answers, and one that says nothing more.
    for begins in [false, true] {
        let left = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&left);
        let app = Fake::start(move |_, mut wire| {
            let left = Arc::clone(&counter);
            async move {
                wire.next_head().await;
                if begins {
                    wire.send("HTTP/1.1 200 OK\r\n\r\nx").await;
                }
                assert!(wire.next_head().await.is_none());
                left.fetch_add(1, Ordering::SeqCst);
            }
        })
        .await;
        let proxy = plain(&app.upstream());
        for (number, resets) in [false, true].into_iter().enumerate() {
            let mut client = Wire::connect(proxy.address).await;
            client.send(get("/", "")).await;
            eventually("the request to arrive", async || proxy.open_sockets_to(app.address) == 1).await;
            if begins {
                client.until("x").await;
            }
            let closed = Instant::now();
            if resets {
                client.stream.set_zero_linger().unwrap();
            }
            drop(client);
            eventually("the app to be reported", async || left.load(Ordering::SeqCst) == number + 1).await;
            let took = closed.elapsed();
            let most = if resets { BUSY } else { HALF_CLOSED + BUSY };
            assert!(took < most, "begun: {begins}, reset: {resets}: {took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_without_being_asked_for_does_not_wait() {
    // It answers when it has the whole body, and never says 100.
    let app = Recorder::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let proxy = plain(&app.upstream());
    let framings = [("Content-Length: 3", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")];
    for (number, apart) in [false, true].into_iter().enumerate() {
        for (framing, body) in framings {
            let mut client = Wire::connect(proxy.address).await;
            let begun = Instant::now();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")).await;
            if apart {
                let known = app.got().len();
                assert_eq!(known, 2 * number + usize::from(body != "abc"));
                sleep(Duration::from_millis(50)).await;
            }
            client.send(body).await;
            let mut head = client.head().await;
            if head.starts_with("HTTP/1.1 100 ") {
                head = client.head().await;
            }
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            let took = begun.elapsed();
            assert!(took < Duration::from_millis(900), "apart: {apart}, {framing}: {took:?}");
        }
    }
    assert!(app.got().iter().all(|got| got.text() == "abc"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_can_tell_a_truncated_answer_from_a_whole_one() {
    for (answer, whole) in [
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n", false),
        ("\r\nabc", true),
        ("Content-Length: 3\r\n\r\nabc", true),
    ] {
        let app = Fake::start(move |_, mut wire| async move {
            wire.next_head().await;
            wire.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await;
        })
        .await;
        let proxy = plain(&app.upstream());
        let mut client = Wire::connect(proxy.address).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        let ended = client.stream.read_to_end(&mut Vec::new()).await;
        match ended {
            Ok(_) => assert!(whole, "{answer} seems whole"),
            Err(error) => assert!(!whole && error.kind() == ErrorKind::ConnectionReset, "{answer}: {error}"),
        }
    }
}
