//! What a hostile client tried once, and got through with.

use crate::harness::{App, Idlegate, Request, Socket, TEXT, Wire, log_in, masked, soon};
use crate::http::get;
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

const QUIET: &[&str] = &["--ping", "600"];

fn with_limit(app: &App, limit: &str) -> Idlegate {
    Idlegate::shipped(&app.upstream, &[("IDLEGATE_IDLE_TIMEOUT", limit)])
}

#[tokio::test(flavor = "multi_thread")]
async fn dots_lead_no_dead_token_out_of_its_paths() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "1s");
    let login = json!({"username": "admin", "password": "secret"});
    let answer = Request::post(proxy.address, "/api/admin/auth/login").json(&login).send().await;
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut client = Wire::connect(proxy.address).await;
    assert_eq!(client.ask(get("/api/admin/../x", &bearer)).await.status(), 200, "it lives");
    proxy.has_cut_in_time(1).await;
    for path in ["users", "../x", "%2e%2e/x", "..%2fx", "%252e%252e/x", "x\\..\\..\\y", "//../../q", "..;/x"] {
        let answer = client.ask(get(&format!("/api/admin/{path}"), &bearer)).await;
        assert_eq!(answer.status(), 401, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_bytes_count_before_a_cut() {
    let app = App::start(QUIET);
    let proxy = with_limit(&app, "2s");
    let mut sockets = Vec::new();
    for _ in 0..10 {
        let token = log_in(proxy.address, "ada", "lovelace").await;
        sockets.push(Socket::authenticated(proxy.address, &token).await.0);
    }
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(proxy.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    for _ in 0..5 {
        for socket in &mut sockets {
            socket.say(&json!({"cmd": "echo", "data": 1})).await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    let renew = Request::post(proxy.address, "/api/renew-session").json(&json!({"session_id": token}));
    let renew = tokio::spawn(async move { renew.send().await.status.as_u16() });
    sleep(Duration::from_millis(200)).await;
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    for socket in &mut sockets {
        for _ in 0..5 {
            assert_eq!(socket.json().await["type"], "echo", "{}", proxy.whole_log());
        }
    }
    assert_eq!(soon("an answer", renew).await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_follows_a_hidden_dead_token_reaches_the_app() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let body = json!({"session_id": token});
    assert_eq!(Request::post(proxy.address, "/api/logout").json(&body).send().await.status, 200);
    // The stand-in forgets a token at its logout; what matters is whether the commands arrive.
    let offer = json!({"cmd": "authenticate", "session_id": token, "padding": "x".repeat(70_000)}).to_string();
    let command = json!({"cmd": "run", "lines": 1}).to_string();
    let mut wire = Wire::connect(proxy.address).await;
    wire.upgrade("/ws", "").await;
    wire.send([masked(TEXT, offer.as_bytes()), masked(TEXT, command.as_bytes())].concat()).await;
    wire.rest().await;
    let commands = app.seen_of("ws-message").iter().filter(|seen| seen["cmd"] == "run").count();
    assert_eq!(commands, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_crumbs_takes_no_more_room_than_a_whole_one() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let before = proxy.peak_memory();
    let head = "POST /api/validate-session HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut crowd = Vec::new();
    for _ in 0..20 {
        let mut client = Wire::connect(proxy.address).await;
        client.send(format!("{head}{}", "1\r\nx\r\n".repeat(60_000))).await;
        crowd.push(client);
    }
    // Until all of it was read: then the peak stands still.
    let mut peak = 0;
    while std::mem::replace(&mut peak, proxy.peak_memory()) != peak {
        sleep(Duration::from_secs(1)).await;
    }
    let each = peak.saturating_sub(before) / 20;
    // The last piece read belongs to it.
    assert!((60..1024).contains(&each), "{each} KiB each");
}
