//! `[keepalive]`: an app that closes sockets without messages of its own protocol keeps them open.

use crate::harness::{App, Ends, Idlegate, PONG, Socket, TEXT, eventually, log_in, masked, soon, unmasked};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// The app's pings and its 900 s, shortened.
const SHORT: &[&str] = &["--ping", "0.3", "--pong-deadline", "2"];

const EVERY: (&str, &str) = ("IDLEGATE_KEEPALIVE_EVERY", "500ms");

fn app_pongs(app: &App) -> usize {
    app.seen_of("ws-message").iter().filter(|seen| seen["cmd"] == "pong").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_outlives_the_limit_of_the_app_while_its_browser_answers_pings() {
    let app = App::start(SHORT);
    let proxy = Idlegate::shipped(&app.upstream, &[EVERY]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    let waiting = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
    assert!(waiting.is_err(), "{waiting:?} came from the app");
    // At most one in half a second, though the browser answered three times as often.
    let pongs = app_pongs(&app);
    assert!((3..=11).contains(&pongs), "{pongs} pongs in five seconds");
    socket.say(&json!({"cmd": "echo", "data": 1})).await;
    assert_eq!(socket.json().await["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_socket_without_a_session_and_none_in_mode_off_is_kept() {
    let app = App::start(SHORT);
    let proxy = Idlegate::shipped(&app.upstream, &[EVERY]);
    let mut stranger = Socket::open(proxy.address, "/ws").await;
    assert_eq!(stranger.json().await["type"], "auth_required");
    let off = Idlegate::shipped(&app.upstream, &[EVERY, ("IDLEGATE_IDLE_MODE", "off")]);
    let token = log_in(off.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(off.address, &token).await;
    for socket in [&mut stranger, &mut socket] {
        // Closed by the app.
        soon("the app's Close", socket.next()).await;
    }
    assert_eq!(app_pongs(&app), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_no_activity() {
    let app = App::start(SHORT);
    let limits = [EVERY, ("IDLEGATE_IDLE_TIMEOUT", "3s"), ("IDLEGATE_ACTIVITY_PROFILE", "person")];
    let proxy = Idlegate::shipped(&app.upstream, &limits);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(soon("the cut", socket.cut_words()).await.1, 4002);
    proxy.has_cut_in_time(1).await;
    assert!(app_pongs(&app) >= 2);
}

/// Frames of a client: between the two fragments of a message, and after a Close, nothing is put in.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_between_two_messages_and_never_after_a_close() {
    let mut ends =
        Ends::start_with(&[("IDLEGATE_KEEPALIVE_UPSTREAM_MESSAGE", "alive"), ("IDLEGATE_KEEPALIVE_EVERY", "1ms")])
            .await;
    let (mut client, mut app) = ends.open_as("tok", "/plain").await;
    let later = || sleep(Duration::from_millis(20));
    for frame in [masked(0x01, b"one, "), masked(PONG, b""), masked(0x80, b"two")] {
        client.send(frame).await;
        later().await;
    }
    for expected in [(0x01, &b"one, "[..]), (PONG, b""), (0x80, b"two")] {
        assert_eq!(app.frame().await, (expected.0, expected.1.to_vec()));
    }
    // In the middle of a frame the pong has come, but not what follows it.
    let next = masked(TEXT, b"three");
    client.send([&masked(PONG, b"")[..], &next[..4]].concat()).await;
    later().await;
    client.send(&next[4..]).await;
    client.send(masked(PONG, b"")).await;
    for expected in [(PONG, &b""[..]), (TEXT, b"three"), (PONG, b""), (TEXT, b"alive")] {
        assert_eq!(app.frame().await, (expected.0, expected.1.to_vec()));
    }
    // The app closes; what the client still says comes, and nothing else.
    app.send(unmasked(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(client.frame().await.0, 0x88);
    later().await;
    client.send(masked(PONG, b"")).await;
    client.send(masked(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(app.frame().await, (PONG, Vec::new()));
    assert_eq!(app.frame().await.0, 0x88);
    eventually("the count", async || ends.proxy.metrics().await.contains("idlegate_keepalives_sent_total 1")).await;
}
