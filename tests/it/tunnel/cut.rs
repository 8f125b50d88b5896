//! The cut, frame by frame.

use crate::harness::{BUSY, CUT_FRAMES, Ends, TEXT, Wire, eventually, masked, unmasked};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

const CLOSE_ONLY: &[u8] = CUT_FRAMES.split_at(5).1;

/// The masked Close that the app gets, unmasked.
async fn close_to_app(app: &mut Wire) {
    assert_eq!(app.frame().await, (0x88, b"\x0f\xa2idle".to_vec()));
    assert_eq!(app.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tunnels_of_a_session_get_text_and_close_and_the_apps_a_masked_close() {
    let mut ends = Ends::start().await;
    let mut tunnels = Vec::new();
    for path in ["/ws", "/plain", "/ws"] {
        tunnels.push(ends.open_as("ada", path).await);
    }
    let (mut other, mut other_app) = ends.open_as("bob", "/ws").await;
    ends.log_out("ada").await;
    for (client, app) in &mut tunnels {
        assert_eq!(client.bytes(CUT_FRAMES.len()).await, CUT_FRAMES);
        let head = app.bytes(2).await;
        assert_eq!(head, [0x88, 0x80 | 6], "a masked Close");
        app.bytes(10).await;
        assert_eq!((client.rest().await, app.rest().await), (vec![], vec![]));
    }
    other.send(masked(TEXT, b"still here")).await;
    assert_eq!(other_app.frame().await, (TEXT, b"still here".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_app_has_begun_is_completed_first() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        let (mut client, mut app) = ends.open_as(path, path).await;
        let (begun, middle) = (unmasked(0x01, b"be"), &unmasked(0x80, b"gun")[..3]);
        app.send([&begun, middle].concat()).await;
        assert_eq!(client.bytes(begun.len()).await, begun);
        ends.log_out(path).await;
        close_to_app_later(&mut app, b"un").await;
        assert_eq!(client.rest().await, [&unmasked(0x80, b"gun"), CUT_FRAMES].concat(), "{path}");
    }
}

/// The app gets its Close at once, and completes its message after that.
async fn close_to_app_later(app: &mut Wire, rest: &[u8]) {
    assert_eq!(app.frame().await.0, 0x88);
    app.send(rest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_end_of_its_message_there_is_a_close_and_no_text() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        let (mut client, mut app) = ends.open_as(path, path).await;
        let begun = unmasked(0x01, b"begun");
        app.send(&begun).await;
        assert_eq!(client.bytes(begun.len()).await, begun);
        ends.log_out(path).await;
        assert_eq!(client.rest().await, CLOSE_ONLY, "{path}");
        close_to_app(&mut app).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_inserted_into_a_frame_that_does_not_end() {
    let mut ends = Ends::start().await;
    let before = ends.proxy.open_files();
    let (mut client, mut app) = ends.open_as("ada", "/plain").await;
    let (half_down, half_up) = (&unmasked(0x81, b"never complete")[..6], &masked(0x81, b"never complete")[..9]);
    app.send(half_down).await;
    client.send(half_up).await;
    assert_eq!((client.bytes(6).await, app.bytes(9).await), (half_down.to_vec(), half_up.to_vec()));
    let begun = Instant::now();
    ends.log_out("ada").await;
    assert_eq!((client.rest().await, app.rest().await), (vec![], vec![]));
    eventually("both sockets to be closed", async || ends.proxy.open_files() <= before).await;
    assert!(begun.elapsed() < Duration::from_secs(2) + 2 * BUSY, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_are_stuck_are_cut_within_two_seconds() {
    let mut ends = Ends::start().await;
    let before = ends.proxy.open_files();
    for path in ["/ws", "/plain"] {
        let (mut client, mut app) = ends.open_as(path, path).await;
        // Neither side reads, and both keep writing until nothing is accepted any more.
        let (up, down) = (masked(0x82, &vec![7; 60_000]), unmasked(0x82, &vec![7; 60_000]));
        let stuffing = async |wire: &mut Wire, frame: &[u8]| {
            while tokio::time::timeout(Duration::from_millis(300), wire.stream.write_all(frame)).await.is_ok() {}
        };
        tokio::join!(stuffing(&mut client, &up), stuffing(&mut app, &down));
        let begun = Instant::now();
        ends.log_out(path).await;
        eventually("both sockets to be closed", async || ends.proxy.open_files() <= before).await;
        assert!(begun.elapsed() < Duration::from_secs(2) + 2 * BUSY, "{path}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_app_does_not_keep_the_client_waiting() {
    let mut ends = Ends::start().await;
    let (mut client, app) = ends.open_as("ada", "/plain").await;
    let frame = masked(0x82, &vec![7; 60_000]);
    while tokio::time::timeout(Duration::from_millis(300), client.stream.write_all(&frame)).await.is_ok() {}
    let begun = Instant::now();
    ends.log_out("ada").await;
    assert_eq!(client.bytes(CUT_FRAMES.len()).await, CUT_FRAMES);
    assert!(begun.elapsed() < BUSY, "{:?}", begun.elapsed());
    drop(app);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_mebibytes_in_flight_each_way_are_cut_at_frames() {
    let mut ends = Ends::start().await;
    for path in ["/ws", "/plain"] {
        let (client, app) = ends.open_as(path, path).await;
        let messages = |message: Vec<u8>| (0..1000).flat_map(move |_| message.clone()).collect::<Vec<u8>>();
        let (up, down) = (messages(masked(0x82, &[1; 10_500])), messages(unmasked(0x82, &[2; 10_500])));
        let (client_reads, mut client_writes) = client.stream.into_split();
        let (app_reads, mut app_writes) = app.stream.into_split();
        let read = async |mut half: tokio::net::tcp::OwnedReadHalf, cut: Option<&Ends>| {
            use tokio::io::AsyncReadExt;
            let (mut got, mut chunk) = (Vec::new(), vec![0; 16_384]);
            let mut cut = cut;
            while let Ok(count @ 1..) = half.read(&mut chunk).await {
                got.extend_from_slice(&chunk[..count]);
                if got.len() > 1_000_000
                    && let Some(ends) = cut.take()
                {
                    ends.log_out(path).await;
                }
            }
            got
        };
        let all = async {
            // Writing fails once it is cut.
            tokio::join!(
                read(client_reads, Some(&ends)),
                read(app_reads, None),
                client_writes.write_all(&up),
                app_writes.write_all(&down)
            )
        };
        let (at_client, at_app, _, _) = crate::harness::soon("the cut", all).await;
        let relayed = at_client.len() - CUT_FRAMES.len();
        assert!(at_client.ends_with(CUT_FRAMES) && relayed.is_multiple_of(down.len() / 1000), "{path}: {relayed}");
        assert!(at_client[..relayed] == down[..relayed], "{path}");
        let relayed = at_app.len() - 12;
        assert!(
            at_app[relayed..].starts_with(&[0x88, 0x86]) && relayed.is_multiple_of(up.len() / 1000),
            "{path}: {relayed}"
        );
        assert!(at_app[..relayed] == up[..relayed], "{path}");
    }
}
