//! One arithmetic: the record of a cut, the log, the refusals after it, `explain` and the list have the same numbers.

use crate::harness::{App, Idlegate, Redis, Socket, Tunnel, ask, eventually, id, log_in, replica, soon, switch};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const QUIET: &[&str] = &["--ping", "600"];

async fn explained(proxy: &Idlegate, token: &str) -> Value {
    ask(proxy, Method::GET, &format!("/sessions/{}", id(token))).await.1
}

async fn is_refused(proxy: &Idlegate, token: &str) -> Value {
    assert!(Tunnel::try_open(proxy.address, token).await.is_err());
    eventually("the refusal", async || !proxy.records("refuse").is_empty()).await;
    proxy.records("refuse").remove(0)
}

/// The seconds in `idle N s > 3 s`.
fn idle_in(sentence: &str) -> u64 {
    let (_, rest) = sentence.split_once("idle ").unwrap_or_else(|| panic!("{sentence}"));
    rest.split(' ').next().unwrap().parse().unwrap()
}

async fn same_everywhere(store: &str, app: &App, is_kept: bool) {
    let proxy = replica(app, store, "3s", &[]);
    let mut tunnel = Tunnel::open(&proxy, "tok").await;
    // For a while nothing is counted: the session has been inactive for longer than it counts as idle.
    assert_eq!(switch(&proxy, json!({"mode": "off"})).await.0, 200);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(switch(&proxy, json!({"mode": "enforce", "yes": true})).await.0, 200);
    let alive = explained(&proxy, "tok").await;
    assert!(alive["says"].as_str().unwrap().contains("; idle time counts from "), "{alive}");
    soon("the cut", tunnel.cut(Duration::from_secs(10))).await;
    eventually("its record", async || !proxy.records("cut").is_empty()).await;
    let cut = proxy.records("cut").remove(0);
    let (idle, counting) = (cut["idle"].as_u64().unwrap(), cut["counting"].as_u64().unwrap());
    assert!(idle == 4 || idle == 5, "{cut}");
    assert!(counting > cut["last_activity"].as_u64().unwrap() + 1, "{cut}");
    assert_eq!(cut["now"].as_u64().unwrap() - counting, idle, "{cut}");
    eventually("its line", async || !proxy.logged("session ended").is_empty()).await;
    let line = proxy.logged("session ended").remove(0);
    assert!(line.contains(&format!(" counting={counting} idle={idle} ")), "{line}");
    let same = async |proxy: &Idlegate| {
        let refused = is_refused(proxy, "tok").await;
        assert_eq!((&refused["idle"], &refused["counting"]), (&cut["idle"], &cut["counting"]), "{store}: {refused}");
        assert_eq!(idle_in(refused["says"].as_str().unwrap()), idle, "{refused}");
        let explained = explained(proxy, "tok").await;
        assert_eq!(
            (&explained["idle"], &explained["end"]["counting"]),
            (&cut["idle"], &cut["counting"]),
            "{explained}"
        );
        assert_eq!(idle_in(explained["says"].as_str().unwrap()), idle, "{explained}");
    };
    same(&proxy).await;
    assert_eq!(idle_in(cut["says"].as_str().unwrap()), idle);
    if is_kept {
        // Another process has them from the store.
        let mut proxy = proxy;
        assert!(proxy.stop().await.success());
        same(&replica(app, store, "3s", &[])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_an_end_are_the_same_wherever_it_is_explained() {
    let (app, redis, folder) = (App::start(QUIET), Redis::start(), tempfile::tempdir().unwrap());
    let (url, file) = (redis.url(), format!("file:{}", folder.path().join("s").display()));
    tokio::join!(
        same_everywhere("memory", &app, false),
        same_everywhere(&file, &app, true),
        same_everywhere(&url, &app, true),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_names_the_side_that_closed_and_its_code() {
    let app = App::start(QUIET);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut first, _) = Socket::authenticated(proxy.address, &token).await;
    assert!(explained(&proxy, &token).await["last_close"].is_null());
    // The app kicks the first.
    let (second, _) = Socket::authenticated(proxy.address, &token).await;
    soon("the kick", first.cut_words()).await;
    let closed = async || explained(&proxy, &token).await["last_close"].clone();
    eventually("the close to be known", async || closed().await["by"] == "app").await;
    let close = closed().await;
    assert_eq!(
        (&close["code"], &close["reason"]),
        (&json!(4001), &json!("Logged in from another location")),
        "{close}"
    );
    let says = explained(&proxy, &token).await["says"].as_str().unwrap().to_owned();
    assert!(
        says.contains("; its last WebSocket was closed ")
            && says.ends_with(" by app (4001 Logged in from another location)"),
        "{says}"
    );
    // A client that goes without a word.
    drop(second);
    eventually("the client to have gone", async || closed().await["by"] == "client").await;
    assert!(closed().await["code"].is_null());
    // And idlegate.
    let (mut third, _) = Socket::authenticated(proxy.address, &token).await;
    assert_eq!(ask(&proxy, Method::DELETE, &format!("/sessions/{}", id(&token))).await.0, 200);
    soon("the cut", third.cut_words()).await;
    eventually("idlegate to have closed it", async || closed().await["by"] == "idlegate").await;
    assert_eq!(closed().await["reason"], "Session terminated by an administrator");
}
