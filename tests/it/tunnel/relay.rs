//! What goes in comes out.

use crate::harness::{Ends, Numbers, Wire, masked, unmasked};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A valid stream of about `size` bytes: text and binary, fragmented or not, with control frames between and amidst,
/// compressed (RSV1) or not.
fn stream(numbers: &mut Numbers, size: usize, compressed: bool, frame: fn(u8, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut open = false;
    while bytes.len() < size || open {
        let length = match numbers.below(20) {
            0 => 65_000 + numbers.below(2000),
            1..4 => 100 + numbers.below(3000),
            _ => numbers.below(130),
        };
        let fin = numbers.below(3) > 0;
        let opcode = if open { 0 } else { 1 + u8::from(numbers.below(2) == 0) };
        let rsv1 = if compressed && !open && numbers.below(2) == 0 { 0x40 } else { 0 };
        bytes.extend(frame(u8::from(fin) << 7 | rsv1 | opcode, &numbers.bytes(length)));
        open = !fin;
        if numbers.below(4) == 0 {
            let length = numbers.below(126);
            bytes.extend(frame(0x89 + u8::from(numbers.below(2) == 0), &numbers.bytes(length)));
        }
    }
    bytes
}

/// Sends both streams at the same time, in pieces of random sizes. Returns what arrived: at the app, at the client.
async fn exchange(client: Wire, app: Wire, up: &[u8], down: &[u8], seed: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut client_reads, mut client_writes) = client.stream.into_split();
    let (mut app_reads, mut app_writes) = app.stream.into_split();
    let (mut at_app, mut at_client) = (vec![0; up.len()], vec![0; down.len()]);
    let write = async |to: &mut tokio::net::tcp::OwnedWriteHalf, mut bytes: &[u8], seed| {
        let mut numbers = Numbers(seed);
        while !bytes.is_empty() {
            let largest = if numbers.below(4) == 0 { 70_000 } else { 600 };
            let (piece, rest) = bytes.split_at(bytes.len().min(1 + numbers.below(largest)));
            to.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
            bytes = rest;
        }
    };
    let all = async {
        let (.., arrived_up, arrived_down) = tokio::join!(
            write(&mut client_writes, up, seed),
            write(&mut app_writes, down, seed + 1),
            app_reads.read_exact(&mut at_app),
            client_reads.read_exact(&mut at_client),
        );
        arrived_up.and(arrived_down).map(|_| ())
    };
    crate::harness::soon("all bytes", all).await.unwrap();
    (at_app, at_client)
}

#[tokio::test(flavor = "multi_thread")]
async fn relayed_bytes_are_those_that_were_sent() {
    let mut ends = Ends::start().await;
    for seed in 0..4 {
        for (path, more) in
            [("/ws", ""), ("/plain", ""), ("/plain", "Sec-WebSocket-Extensions: permessage-deflate\r\n")]
        {
            let mut numbers = Numbers(seed);
            let compressed = !more.is_empty();
            let up = stream(&mut numbers, 400_000, compressed, masked);
            let down = stream(&mut numbers, 400_000, compressed, unmasked);
            let (client, app) = ends.open(path, more).await;
            let (at_app, at_client) = exchange(client, app, &up, &down, seed).await;
            assert!(at_app == up, "the app got other bytes than were sent, at {path} {more:?}, seed {seed}");
            assert!(at_client == down, "the client got other bytes than were sent, at {path} {more:?}, seed {seed}");
        }
    }
    let invalid = ends.proxy.logged("invalid frame");
    assert!(invalid.is_empty(), "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_ten_mebibytes_pass_both_ways_at_once() {
    let mut ends = Ends::start().await;
    let code = "def authenticate():\n    return \\\"authenticate\\\" + '\\\\u0061'\n".repeat(200_000);
    let message = format!("{{\"cmd\":\"save\",\"code\":\"{code}\"}}");
    assert!(message.len() > 10 << 20);
    let (up, down) = (masked(0x81, message.as_bytes()), unmasked(0x81, message.as_bytes()));
    for path in ["/ws", "/plain"] {
        let (client, app) = ends.open(path, "").await;
        let (at_app, at_client) = exchange(client, app, &up, &down, 7).await;
        assert!(at_app == up && at_client == down, "{path}");
    }
    let peak = ends.proxy.peak_memory();
    assert!(peak < 40_000, "relaying took {peak} KiB");
}
