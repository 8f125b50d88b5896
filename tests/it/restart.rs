//! A store in a file: sessions outlive idlegate, however it ends.

use crate::harness::{App, HostClock, Idlegate, Request, Socket, eventually, log_in, soon};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

fn start(app: &App, file: &Path, limit: &str) -> Idlegate {
    let url = format!("file:{}", file.display());
    Idlegate::shipped(&app.upstream, &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_IDLE_TIMEOUT", limit)])
}

async fn validate(proxy: &Idlegate, token: &str) -> u16 {
    let body = json!({"session_id": token});
    Request::post(proxy.address, "/api/validate-session").json(&body).send().await.status.as_u16()
}

async fn log_out(proxy: &Idlegate, token: &str) {
    let answer = Request::post(proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_dead_dead_and_the_living_counted() {
    let app = App::start(&["--ping", "600"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions");
    let mut proxy = start(&app, &file, "4s");
    let dead = log_in(proxy.address, "ada", "lovelace").await;
    log_out(&proxy, &dead).await;
    let idle = log_in(proxy.address, "bob", "builder").await;
    assert!(proxy.stop().await.success());
    let proxy = start(&app, &file, "4s");
    assert_eq!(validate(&proxy, &dead).await, 401, "revived");
    // This session was not used since, and only the file knew it.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(validate(&proxy, &idle).await, 401, "its idle time was forgotten");
    let (mut socket, answer) =
        Socket::authenticated(proxy.address, &log_in(proxy.address, "ada", "lovelace").await).await;
    assert_eq!(answer["type"], "auth_success");
    soon("the cut", socket.cut_words()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_stepped_ends_nothing_early_and_nothing_late() {
    let app = App::start(&["--ping", "600"]);
    for step in [25, -3600] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions");
        let clock = HostClock::ahead(0);
        let url = format!("file:{}", file.display());
        let with_clock = clock.environment();
        let environment = [
            ("IDLEGATE_STORE_URL", url.as_str()),
            ("IDLEGATE_IDLE_TIMEOUT", "6s"),
            (with_clock[0].0, with_clock[0].1.as_str()),
            (with_clock[1].0, with_clock[1].1.as_str()),
        ];
        let mut proxy = Idlegate::shipped(&app.upstream, &environment);
        let dead = log_in(proxy.address, "bob", "builder").await;
        log_out(&proxy, &dead).await;
        let token = log_in(proxy.address, "ada", "lovelace").await;
        let last = Instant::now();
        assert_eq!(validate(&proxy, &token).await, 200);
        clock.step(step);
        assert!(proxy.stop().await.success());
        let proxy = Idlegate::shipped(&app.upstream, &environment);
        assert_eq!(validate(&proxy, &dead).await, 401, "revived by a step of {step} s");
        // Not used before the limit is over: it is only looked at.
        let (mut socket, answer) = Socket::authenticated(proxy.address, &token).await;
        assert_eq!(answer["type"], "auth_success", "ended by a step of {step} s");
        assert!(last.elapsed() < Duration::from_secs(6), "the machine was too busy to tell");
        soon("the cut", socket.cut_words()).await;
        proxy.has_cut_in_time(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_a_second_at_the_most() {
    let app = App::start(&["--ping", "600"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions");
    let mut dead: Vec<String> = Vec::new();
    for round in 0..6 {
        let proxy = start(&app, &file, "1h");
        for token in &dead {
            assert_eq!(validate(&proxy, token).await, 401, "revived in round {round}");
        }
        let token = log_in(proxy.address, "ada", "lovelace").await;
        log_out(&proxy, &token).await;
        dead.push(token);
        // The writer's second, and its time to write.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        drop(proxy);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_logged_once_and_cuts_no_session() {
    let app = App::start(&["--ping", "600"]);
    let folder = tempfile::tempdir().unwrap();
    let proxy = start(&app, &folder.path().join("sessions"), "1h");
    let token = log_in(proxy.address, "ada", "lovelace").await;
    proxy.let_files_grow(Some(4096));
    let mut last = token.clone();
    eventually("the error", async || {
        last = log_in(proxy.address, "bob", "builder").await;
        !proxy.logged("the store file cannot be written").is_empty()
    })
    .await;
    assert_eq!(validate(&proxy, &token).await, 200);
    assert_eq!(validate(&proxy, &last).await, 200);
    proxy.let_files_grow(None);
    eventually("the store to be written again", async || {
        !proxy.logged("the store file can be written again").is_empty()
    })
    .await;
    assert_eq!(proxy.logged("the store file cannot be written").len(), 1, "said once");
}
