//! Bodies on their way: as they come, as fast as they are taken, and in constant memory.

use crate::harness::{App, Fake, Idlegate, Recorder, Wire, eventually};
use crate::http::{get, plain};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

const BLOCK: usize = 64 * 1024;
const BLOCKS: usize = 200 * 1024 * 1024 / BLOCK;
const MAX_MEMORY: u64 = 60 * 1024;

async fn pour(wire: &mut Wire) {
    let block = vec![b'x'; BLOCK];
    for _ in 0..BLOCKS {
        wire.stream.write_all(&block).await.unwrap();
    }
}

/// Reads as much as is poured.
async fn drain(wire: &mut Wire) {
    for _ in 0..BLOCKS {
        wire.bytes(BLOCK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_pass_each_way_in_constant_memory() {
    let app = Fake::start(|_, mut wire| async move {
        while let Some(head) = wire.next_head().await {
            if head.starts_with("POST") {
                drain(&mut wire).await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            } else {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BLOCK * BLOCKS)).await;
                pour(&mut wire).await;
            }
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", BLOCK * BLOCKS)).await;
    pour(&mut client).await;
    assert_eq!(client.message().await.text(), "ok");
    client.send(get("/", "")).await;
    client.head().await;
    drain(&mut client).await;
    let peak = proxy.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_not_read_faster_than_its_client_reads() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let app = Fake::start(move |_, mut wire| {
        let counter = Arc::clone(&counter);
        async move {
            wire.next_head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n").await;
            let block = vec![b'x'; BLOCK];
            while wire.stream.write_all(&block).await.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(get("/", "")).await;
    client.head().await;
    let mut before = u64::MAX;
    eventually("the app to be held back", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::mem::replace(&mut before, sent.load(Ordering::SeqCst)) == sent.load(Ordering::SeqCst)
    })
    .await;
    let peak = proxy.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
    let held = sent.load(Ordering::SeqCst);
    client.bytes(8 * 1024 * 1024).await;
    eventually("the app to go on", async || sent.load(Ordering::SeqCst) > held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_as_they_are_sent() {
    // The next one is sent only when the last one has arrived.
    let arrived = Arc::new(tokio::sync::Semaphore::new(0));
    let awaited = Arc::clone(&arrived);
    let app = Fake::start(move |_, mut wire| {
        let awaited = Arc::clone(&awaited);
        async move {
            wire.next_head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for number in 1..=3 {
                wire.send(format!("9\r\ndata: {number}\n\n\r\n")).await;
                awaited.acquire().await.unwrap().forget();
            }
            wire.send("0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(get("/", "")).await;
    for number in 1..=3 {
        client.until(&format!("data: {number}\n\n")).await;
        arrived.add_permits(1);
    }
    assert!(client.until("0\r\n\r\n").await.len() < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_arrives_piece_by_piece_as_it_is_sent() {
    let app = Fake::start(|_, mut wire| async move {
        wire.next_head().await;
        wire.until("first").await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nheard\r\n").await;
        wire.until("0\r\n\r\n").await;
        wire.send("0\r\n\r\n").await;
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    client.until("heard").await;
    client.send("6\r\nsecond\r\n0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

const EXPECTING: &str = "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_gets_it_when_the_app_says_so() {
    let asked = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&asked);
    let app = Fake::start(move |_, mut wire| {
        let says = Arc::clone(&says);
        async move {
            let head = wire.next_head().await.unwrap();
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            tokio::time::sleep(Duration::from_millis(300)).await;
            says.store(true, Ordering::SeqCst);
            wire.send(CONTINUE).await;
            assert_eq!(wire.bytes(5).await, b"hello");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(EXPECTING).await;
    assert_eq!(client.head().await, CONTINUE);
    assert!(asked.load(Ordering::SeqCst), "it was not the app who said so");
    client.send("hello").await;
    assert_eq!(client.message().await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_is_not_kept_waiting_by_an_app_that_never_says_it() {
    let app = Recorder::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let begun = Instant::now();
    client.send(EXPECTING).await;
    assert_eq!(client.head().await, CONTINUE);
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < Duration::from_secs(3), "{waited:?}");
    client.send("hello").await;
    assert_eq!(client.message().await.text(), "ok");
    assert_eq!(app.only().text(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_expect_arrives_before_the_body() {
    let app = Fake::start(|_, mut wire| async move {
        wire.next_head().await;
        wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\n\r\nno!").await;
        assert!(wire.rest().await.is_empty(), "it was sent a body that it had refused");
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send(EXPECTING).await;
    let answer = client.message().await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "no!"));
    // What follows could be the body or a new request: these cannot be told apart, so neither is sent.
    client.send(get("/smuggled", "")).await;
    let rest = client.rest().await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expecting_client_and_tornado_understand_each_other() {
    let app = App::start(&[]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let mut client = Wire::connect(proxy.address).await;
    let head =
        "POST /test/count-bytes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.head().await, CONTINUE);
    let answer = client.ask("5\r\nhello\r\n0\r\n\r\n").await;
    assert!(answer.text().contains("\"bytes\": 5"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let app = Fake::start(|_, mut wire| async move {
        wire.next_head().await;
        wire.send("HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!").await;
    })
    .await;
    let proxy = plain(&app.upstream());
    for _ in 0..10 {
        let mut client = Wire::connect(proxy.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 160 * BLOCK)).await;
        let block = vec![b'x'; BLOCK];
        // As most clients do: all is sent before the answer is looked for.
        for _ in 0..160 {
            client.send(&block).await;
        }
        let answer = client.message().await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "no!"));
    }
}
