//! Clients that take nothing of what the app sends them, without a word: what is sent to them keeps no session.

use crate::harness::{Fake, Idlegate, Wire, handshake, unmasked};
use crate::http::get;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

/// The app sends a little every 20 ms, on sockets and in streams: at this pace, what the system has room for lasts a minute.
async fn pushing() -> Fake {
    Fake::start(|_, mut wire| async move {
        let Some(head) = wire.next_head().await else { return };
        let piece = if head.contains("Upgrade: websocket") {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
            unmasked(0x81, b"the state of the cell changed")
        } else {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").await;
            b"data: the state of the cell changed\n\n".to_vec()
        };
        while wire.try_send(&piece).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// A client whose system has room for four kilobytes.
async fn small(address: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    Wire::new(socket.connect(address).await.unwrap())
}

async fn is_ended_while_another_lives(request: impl Fn(&str) -> String) {
    let app = pushing().await;
    let config = "[idle]\ntimeout = \"3s\"\n[[token]]\nfrom = \"header\"\nname = \"x-token\"\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{config}", app.upstream()));
    let (mut reads, mut stuck) = (small(proxy.address).await, small(proxy.address).await);
    reads.send(request("x-token: reads\r\n")).await;
    stuck.send(request("x-token: stuck\r\n")).await;
    stuck.head().await;
    let begun = Instant::now();
    let ended = loop {
        // Reads what has come, like a page that is open.
        reads.bytes(40).await;
        if let Some(line) = proxy.logged("session ended").first() {
            break line.clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "what nobody takes keeps a session");
    };
    assert!(begun.elapsed() > Duration::from_secs(3), "{ended}");
    assert_eq!(proxy.logged("session ended").len(), 1, "the one that reads lives");
    // What has come to the stuck one meanwhile is still there, and the end after it.
    stuck.rest().await;
    assert!(begun.elapsed() < Duration::from_secs(28));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_a_client_does_not_take_keep_no_session() {
    is_ended_while_another_lives(|token| handshake("/ws", token)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_client_does_not_take_keeps_no_session() {
    is_ended_while_another_lives(|token| get("/events", token)).await;
}
