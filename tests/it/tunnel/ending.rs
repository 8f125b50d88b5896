//! When one side ends, the other gets its end.

use crate::harness::{BUSY, Ends, TEXT, Wire, eventually, masked, unmasked};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Longer than a message takes, shorter than any timer.
const AT_ONCE: Duration = BUSY;

/// How long a closing connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes a socket end with a reset when it is dropped.
fn reset_when_dropped(wire: &Wire) {
    rustix::net::sockopt::set_socket_linger(&wire.stream, Some(Duration::ZERO)).unwrap();
}

/// Sends frames until none is taken any more.
async fn stuff(wire: &mut Wire, frame: &[u8]) {
    while let Ok(sent) = tokio::time::timeout(Duration::from_millis(300), wire.stream.write_all(frame)).await {
        sent.unwrap();
    }
}

async fn closed_within(ends: &Ends, before: usize, limit: Duration) {
    let begun = Instant::now();
    eventually("the sockets to be closed", async || ends.proxy.open_files() <= before).await;
    assert!(begun.elapsed() < limit, "it took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_side_closes_the_other_gets_the_rest_and_is_closed_at_once() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        for with_reset in [false, true] {
            for client_goes in [true, false] {
                let (client, app) = ends.open(path, "").await;
                let last = if client_goes { masked(TEXT, b"last words") } else { unmasked(TEXT, b"last words") };
                let (mut goes, mut stays) = if client_goes { (client, app) } else { (app, client) };
                goes.send(&last).await;
                if with_reset {
                    // What is reset may lose data in flight; wait for its arrival.
                    assert_eq!(stays.bytes(last.len()).await, last);
                    reset_when_dropped(&goes);
                }
                let begun = Instant::now();
                drop(goes);
                let rest = stays.rest().await;
                let took = begun.elapsed();
                assert_eq!(rest, if with_reset { vec![] } else { last });
                assert!(took < AT_ONCE, "{path}, reset {with_reset}, client goes {client_goes}: {took:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_before_a_reset_are_delivered() {
    let mut ends = Ends::start().await;
    for _ in 0..30 {
        let (mut client, mut app) = ends.open("/ws", "").await;
        // Left unread at the app, which so resets the connection when it closes, right after its last words.
        client.send(masked(TEXT, b"unread")).await;
        app.stream.readable().await.unwrap();
        let last = [unmasked(TEXT, b"kicked"), unmasked(0x88, &[0x0f, 0xa1])].concat();
        app.send(&last).await;
        drop(app);
        client.send(masked(TEXT, b"more")).await;
        assert_eq!(client.rest().await, last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_peer_still_receives() {
    let mut ends = Ends::start().await;
    let (mut client, mut app) = ends.open("/plain", "").await;
    client.send(masked(TEXT, b"question")).await;
    client.finish().await;
    assert_eq!(app.rest().await, masked(TEXT, b"question"));
    app.send(unmasked(TEXT, b"answer")).await;
    drop(app);
    assert_eq!(client.rest().await, unmasked(TEXT, b"answer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_peer_does_not_keep_a_tunnel_whose_other_side_has_gone() {
    let mut ends = Ends::start().await;
    let before = ends.proxy.open_files();
    for path in ["/ws", "/plain"] {
        let (mut client, app) = ends.open(path, "").await;
        stuff(&mut client, &masked(0x82, &vec![7; 60_000])).await;
        // Only a reset gets past all that its system has not been able to send.
        reset_when_dropped(&client);
        drop(client);
        closed_within(&ends, before, CLOSE_TIMEOUT + AT_ONCE).await;
        drop(app);
        let (client, mut app) = ends.open(path, "").await;
        stuff(&mut app, &unmasked(0x82, &vec![7; 60_000])).await;
        reset_when_dropped(&app);
        drop(app);
        closed_within(&ends, before, CLOSE_TIMEOUT + AT_ONCE).await;
        drop(client);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_every_byte() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        let (mut client, mut app) = ends.open(path, "").await;
        let sent: Vec<u8> =
            (0..300_u32).flat_map(|number| unmasked(0x82, &number.to_be_bytes().repeat(15_000))).collect();
        let sending = tokio::spawn({
            let sent = sent.clone();
            async move {
                app.stream.write_all(&sent).await.unwrap();
                app
            }
        });
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let count = (sent.len() - got.len()).min(1_000_000);
            got.extend(client.bytes(count).await);
            // The reader is the slow one.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(got == sent, "{path}");
        drop(sending.await.unwrap());
        assert_eq!(client.rest().await, b"");
    }
}
