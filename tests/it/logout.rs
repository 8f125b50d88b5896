//! A logout in front of the first app, with the shipped configuration: its user learns of the logout, and of nothing
//! else.

use crate::harness::{App, Ends, Idlegate, Request, Socket, TEXT, eventually, id, log_in, masked, soon, unmasked};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const QUIET: &[&str] = &["--ping", "600"];

async fn log_out(proxy: &Idlegate, token: &str) {
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
}

fn logged_out() -> (Value, u16, String) {
    let message = json!({"type": "session_terminated", "reason": "inactivity", "message": "You have been logged out."});
    (message, 4002, "Session terminated: logged out".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_logout_open_sockets_get_its_words_and_forward_nothing() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[("IDLEGATE_CUT_LOGOUT_DELAY", "1500ms")]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    socket.say(&json!({"cmd": "run", "lines": 1000, "interval": 0.05})).await;
    assert_eq!(socket.json().await["type"], "output");
    let begun = Instant::now();
    log_out(&proxy, &token).await;
    socket.say(&json!({"cmd": "echo", "data": "after the logout"})).await;
    // What the app says still comes.
    let mut lines = 0;
    let last = loop {
        let message = soon("a message", socket.json()).await;
        match message["type"].as_str() {
            Some("output") => lines += 1,
            _ => break message,
        }
    };
    assert_eq!(last, logged_out().0);
    assert!(begun.elapsed() >= Duration::from_millis(1500), "told after {:?}", begun.elapsed());
    assert!(lines > 3, "only {lines} lines came meanwhile");
    let Some(Message::Close(Some(close))) = soon("the Close", socket.next()).await else { panic!("no Close") };
    assert_eq!((u16::from(close.code), close.reason.to_string()), (4002, logged_out().2));
    eventually("the app to see the end", async || !app.seen_of("ws-close").is_empty()).await;
    let commands: Vec<_> = app.seen_of("ws-message").iter().map(|seen| seen["cmd"].clone()).collect();
    assert_eq!(commands, ["authenticate", "run"]);
    // From now on the token is refused at once, in the same words.
    let mut late = Socket::open(proxy.address, "/ws").await;
    late.say(&json!({"cmd": "authenticate", "session_id": token})).await;
    assert_eq!(soon("the refusal", late.cut_words_after(&["auth_required"])).await, logged_out());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reason_has_its_words_on_http_and_on_the_socket() {
    let app = App::start(QUIET);
    let words = [
        ("IDLEGATE_IDLE_TIMEOUT", "2s"),
        ("IDLEGATE_CUT_LOGOUT_DELAY", "0s"),
        ("IDLEGATE_CUT_IDLE_HTTP_STATUS", "440"),
        ("IDLEGATE_CUT_IDLE_HTTP_BODY", "idle"),
        ("IDLEGATE_CUT_LOGOUT_HTTP_STATUS", "410"),
        ("IDLEGATE_CUT_LOGOUT_HTTP_BODY", "logged out"),
        ("IDLEGATE_CUT_OPERATOR_HTTP_STATUS", "403"),
        ("IDLEGATE_CUT_OPERATOR_HTTP_BODY", "ended"),
    ];
    let proxy = Idlegate::shipped(&app.upstream, &words);
    let validate = async |token: &str| {
        let request = Request::post(proxy.address, "/api/validate-session").json(&json!({"session_id": token}));
        let answer = request.send().await;
        (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let [idle, out, ended] = [
        log_in(proxy.address, "ada", "lovelace").await,
        log_in(proxy.address, "bob", "builder").await,
        log_in(proxy.address, "grace", "hopper").await,
    ];
    let (mut at_out, _) = Socket::authenticated(proxy.address, &out).await;
    let (mut at_ended, _) = Socket::authenticated(proxy.address, &ended).await;
    log_out(&proxy, &out).await;
    let path = format!("/sessions/{}", id(&ended));
    assert_eq!(Request::new(proxy.admin(), Method::DELETE, &path).send().await.status, 200);
    assert_eq!(soon("the words of a logout", at_out.cut_words()).await, logged_out());
    let (message, _, reason) = soon("those of an operator", at_ended.cut_words()).await;
    assert_eq!(message["message"], "An administrator ended your session.");
    assert_eq!(reason, "Session terminated by an administrator");
    assert_eq!(validate(&out).await, (410, "logged out".to_owned()));
    assert_eq!(validate(&ended).await, (403, "ended".to_owned()));
    proxy.has_cut_in_time(1).await;
    assert_eq!(validate(&idle).await, (440, "idle".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_logout_a_socket_closes_at_once_where_its_client_does() {
    let mut ends = Ends::start_with(&[("IDLEGATE_CUT_LOGOUT_DELAY", "60s")]).await;
    let (mut client, mut app) = ends.open_as("tok", "/plain").await;
    ends.log_out("tok").await;
    client.send(masked(TEXT, b"late")).await;
    app.send(unmasked(TEXT, b"confirmed")).await;
    assert_eq!(client.frame().await, (TEXT, b"confirmed".to_vec()));
    client.send(masked(0x88, &1001_u16.to_be_bytes())).await;
    assert_eq!(client.frame().await, (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert_eq!(app.frame().await, (0x88, 1000_u16.to_be_bytes().to_vec()), "of the client nothing came but the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_is_not_completed_after_a_logout() {
    let mut ends = Ends::start_with(&[("IDLEGATE_CUT_LOGOUT_DELAY", "100ms")]).await;
    let (mut client, mut app) = ends.open_as("tok", "/plain").await;
    let frame = masked(TEXT, b"0123456789");
    client.send(&frame[..10]).await;
    assert_eq!(app.bytes(10).await, frame[..10]);
    ends.log_out("tok").await;
    assert!(client.try_send(&frame[10..]).await);
    assert_eq!(client.frame().await, (TEXT, b"bye".to_vec()));
    assert_eq!(client.frame().await.0, 0x88);
    assert_eq!(app.rest().await, b"", "neither the rest of the frame nor a Close amidst it");
}
