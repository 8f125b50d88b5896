//! Invalid frames, and what else breaks the protocol.

use crate::harness::{App, BUSY, Ends, Idlegate, TEXT, Wire, eventually, masked, unmasked};
use std::time::{Duration, Instant};

/// Each way to break RFC 6455 that a frame's header shows, by the rules for masked frames or unmasked ones.
fn violations(client: bool) -> Vec<(&'static str, Vec<u8>)> {
    let right: fn(u8, &[u8]) -> Vec<u8> = if client { masked } else { unmasked };
    let wrong: fn(u8, &[u8]) -> Vec<u8> = if client { unmasked } else { masked };
    let mask = if client { 0x80 } else { 0 };
    let key: &[u8] = if client { b"\0\0\0\0" } else { b"" };
    vec![
        ("masked or not, as the other side does it", wrong(TEXT, b"wrong")),
        ("a reserved data opcode", right(0x83, b"wrong")),
        ("a reserved control opcode", right(0x8b, b"wrong")),
        ("a reserved bit", right(0xc1, b"wrong")),
        ("a fragmented control frame", right(0x09, b"wrong")),
        ("a control frame too long", right(0x89, &[7; 126])),
        ("a Close of one byte", right(0x88, b"x")),
        ("a continuation of nothing", right(0x80, b"wrong")),
        ("a message inside a message", [right(0x01, b"be"), right(0x81, b"gun")].concat()),
        ("a length not in its shortest form", [&[0x81, mask | 0x7e, 0, 5], key, b"wrong"].concat()),
        (
            "a length of eight bytes where two do",
            [&[0x81, mask | 0x7f, 0, 0, 0, 0, 0, 0, 0, 5], key, b"wrong"].concat(),
        ),
        ("a length of 2^63", [&[0x82, mask | 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0], key, b"lost"].concat()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_frame_is_relayed_and_after_two_seconds_the_tunnel_is_closed() {
    let mut ends = Ends::start().await;
    let before = ends.proxy.open_files();
    let mut stories = Vec::new();
    for path in ["/ws", "/plain"] {
        for of_client in [true, false] {
            for (what, bytes) in violations(of_client) {
                let (client, app) = ends.open(path, "").await;
                stories.push(async move {
                    let (mut sends, mut gets) = if of_client { (client, app) } else { (app, client) };
                    let begun = Instant::now();
                    sends.send(&bytes).await;
                    assert_eq!(gets.bytes(bytes.len()).await, bytes, "{what}");
                    let (at_sender, at_receiver) = tokio::join!(sends.rest(), gets.rest());
                    let took = begun.elapsed();
                    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(4), "{what}: {took:?}");
                    let at_client = if of_client { at_sender } else { at_receiver };
                    // Nothing is inserted where frames cannot be told apart.
                    let lost = what == "a length of 2^63" && !of_client;
                    let close = unmasked(0x88, b"\x03\xeaProtocol error");
                    assert_eq!(at_client, if lost { vec![] } else { close }, "{what}, of the client {of_client}");
                });
            }
        }
    }
    futures_util::future::join_all(stories).await;
    eventually("all sockets to be closed", async || ends.proxy.open_files() <= before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_closes_on_an_invalid_frame_has_the_last_word() {
    let mut ends = Ends::start().await;
    for (what, bytes) in violations(true) {
        let (mut client, mut app) = ends.open("/ws", "").await;
        client.send(&bytes).await;
        assert_eq!(app.bytes(bytes.len()).await, bytes, "{what}");
        let words = unmasked(0x88, b"\x03\xf0mine");
        let begun = Instant::now();
        app.send(&words).await;
        drop(app);
        assert_eq!(client.rest().await, words, "{what}");
        assert!(begun.elapsed() < BUSY, "{what}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_app_closes_or_the_proxy_does() {
    let app = App::start(&["--ping", "600"]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let stories = violations(true).into_iter().map(|(what, bytes)| {
        let address = proxy.address;
        async move {
            let mut client = Wire::connect(address).await;
            client.upgrade("/ws", "").await;
            let begun = Instant::now();
            client.send(&bytes).await;
            client.rest().await;
            assert!(begun.elapsed() < Duration::from_secs(4), "{what}: {:?}", begun.elapsed());
        }
    });
    futures_util::future::join_all(stories).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_noise_is_lost_or_changed() {
    let mut ends = Ends::start().await;
    for seed in 0..20 {
        let noise = crate::harness::Numbers(seed).bytes(3000);
        let (mut client, mut app) = ends.open("/plain", "").await;
        client.send(&noise).await;
        app.send(&noise).await;
        assert!(app.bytes(3000).await == noise && client.bytes(3000).await == noise, "seed {seed}");
    }
}
