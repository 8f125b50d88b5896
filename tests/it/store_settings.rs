//! `[store]`: secrets, certificates, unknown tokens, and what `doctor` says of it all.

use crate::harness::{
    App, Cluster, Idlegate, Redis, Request, Sentinel, Sentinels, Socket, Way, eventually, log_in, replica, soon,
};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use tokio_tungstenite::tungstenite::Message;

const QUIET: &[&str] = &["--ping", "600"];

async fn validate(proxy: &Idlegate, token: &str) -> (u16, Option<String>) {
    let answer = Request::post(proxy.address, "/api/validate-session").json(&json!({"session_id": token})).send().await;
    let retry = answer.headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (answer.status.as_u16(), retry)
}

fn doctor(app: &App, environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idlegate"))
        .args(["doctor", "--config", concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml")])
        .env("IDLEGATE_UPSTREAM", &app.upstream)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_tokens_are_refused_while_the_store_is_out_where_that_is_asked_for() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[("IDLEGATE_STORE_UNKNOWN_TOKENS", "refuse")]);
    let known = log_in(proxy.address, "ada", "lovelace").await;
    let (mut tunnel, answer) = Socket::authenticated(proxy.address, &known).await;
    assert_eq!(answer["type"], "auth_success");
    redis.kill();
    eventually("the outage", async || !proxy.logged("the store does not answer").is_empty()).await;
    assert_eq!(validate(&proxy, "unknown").await, (503, Some("2".to_owned())));
    let mut stranger = Socket::open(proxy.address, "/ws").await;
    stranger.say(&json!({"cmd": "authenticate", "session_id": "unknown"})).await;
    let mut close = soon("Close", stranger.next()).await;
    if matches!(close, Some(Message::Text(_))) {
        close = soon("Close", stranger.next()).await;
    }
    assert!(matches!(&close, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1013), "{close:?}");
    assert!(app.seen_of("ws-authenticate").iter().all(|seen| seen["accepted"] == true), "it reached the app");
    assert_eq!(validate(&proxy, &known).await.0, 200);
    tunnel.say(&json!({"cmd": "echo", "data": 1})).await;
    assert_eq!(tunnel.json().await["data"], 1);
    redis.start_again();
    eventually("the store", async || !proxy.logged("the store is back").is_empty()).await;
    assert_eq!(validate(&proxy, "unknown").await.0, 401, "the app has the say again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_takes_too_long_goes_on_and_decides_the_next_request() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let there = replica(&app, &redis.url(), "1h", &[]);
    let token = log_in(there.address, "ada", "lovelace").await;
    let answer = Request::post(there.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
    // 300 ms there and back, and a look-up may take 250 ms.
    let slow = Way::to(&redis, std::time::Duration::from_millis(150)).await;
    let here = replica(&app, &slow.url(), "1h", &[("IDLEGATE_STORE_UNKNOWN_TOKENS", "refuse")]);
    assert_eq!(validate(&here, &token).await, (503, Some("2".to_owned())));
    eventually("the token to be known as dead", async || validate(&here, &token).await.0 == 401).await;
    assert!(here.logged("until it is back").is_empty(), "{}", here.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_secret_ids_cannot_be_computed_from_tokens() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let secret = [("IDLEGATE_STORE_SECRET", "kept between the replicas")];
    let (here, there) = (replica(&app, &redis.url(), "1h", &secret), replica(&app, &redis.url(), "1h", &secret));
    let token = log_in(here.address, "ada", "lovelace").await;
    let plain = idlegate::session::SessionId::of_token(token.as_bytes());
    let keyed = idlegate::session::SessionIds::keyed(b"kept between the replicas").of_token(token.as_bytes());
    assert!(redis.hash(&format!("idlegate:session:{plain}")).await.is_empty());
    assert!(!redis.hash(&format!("idlegate:session:{keyed}")).await.is_empty());
    let answer = Request::post(here.address, "/api/logout").json(&json!({"session_id": token})).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(validate(&there, &token).await.0, 401, "the other replica computes the same id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_may_stand_in_a_file() {
    let (app, mut redis) = (App::start(QUIET), Redis::start());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "open-sesame\n").unwrap();
    let url = redis.url();
    redis.change_password("open-sesame").await;
    let wrong = doctor(&app, &[("IDLEGATE_STORE_URL", &url)]);
    assert_eq!(wrong.status.code(), Some(1));
    let refused = String::from_utf8_lossy(&wrong.stdout);
    assert!(refused.contains("WRONG  Redis at ") && refused.contains(" refuses: it wants a password"), "{wrong:?}");
    let right = doctor(&app, &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_STORE_PASSWORD_FILE", file.to_str().unwrap())]);
    let said = String::from_utf8_lossy(&right.stdout);
    assert!(said.contains("good   a session can be begun, reported and ended"), "{said}");
    assert!(!said.contains("sesame"));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_warns_of_settings_that_lose_sessions() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let url = [("IDLEGATE_STORE_URL", redis.url())];
    let url = [(url[0].0, url[0].1.as_str())];
    let output = doctor(&app, &url);
    assert_eq!(output.status.code(), Some(1), "nothing is written to a disk: {output:?}");
    let () = redis.ask("CONFIG SET appendonly yes").await;
    let output = doctor(&app, &url);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let () = redis.ask("CONFIG SET maxmemory 100mb").await;
    let () = redis.ask("CONFIG SET maxmemory-policy allkeys-lru").await;
    let output = doctor(&app, &url);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("WRONG  maxmemory-policy is allkeys-lru"), "{said}");
    // It leaves nothing behind that a replica would wait for.
    let marks = redis.hash("idlegate:replicas").await;
    assert!(marks.values().all(|mark| !mark.ends_with("enforce")), "{marks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_measures_how_fast_the_clock_of_redis_runs() {
    let (app, redis) = (App::start(QUIET), Redis::with_clock());
    let () = redis.ask("CONFIG SET appendonly yes").await;
    let url = redis.url();
    let environment = [("IDLEGATE_STORE_URL", url.as_str())];
    let exact = doctor(&app, &environment);
    let said = String::from_utf8_lossy(&exact.stdout);
    assert!(exact.status.success() && said.contains("its clock runs as fast as this host's"), "{exact:?}");
    for (millionths, words) in [(50_000, " % faster than this host's"), (-4_000, " % slower than this host's")] {
        redis.run_clock_fast(millionths);
        let wrong = doctor(&app, &environment);
        let said = String::from_utf8_lossy(&wrong.stdout);
        assert!(!wrong.status.success() && said.contains(words), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_asks_all_sentinels_and_names_the_next_master() {
    let (app, mut servers) = (App::start(QUIET), Sentinels::start().await);
    servers.servers[0].ask::<()>("CONFIG SET appendonly yes").await;
    servers.want_passwords("open-sesame", "hush-hush").await;
    let folder = tempfile::tempdir().unwrap();
    let (file, plain) = (folder.path().join("sentinels"), servers.url());
    std::fs::write(&file, "hush-hush\n").unwrap();
    let url = plain.replace("://", "://:open-sesame@");
    let all = [("IDLEGATE_STORE_URL", url.as_str()), ("IDLEGATE_STORE_SENTINEL_PASSWORD_FILE", file.to_str().unwrap())];
    let say = |environment: &[(&str, &str)]| {
        let output = doctor(&app, environment);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(!said.contains("sesame") && !said.contains("hush"), "a password: {said}");
        (output.status.code(), said)
    };
    let mut said = (None, String::new());
    eventually("replicas that are in step again", async || {
        said = say(&all);
        said.0 == Some(0)
    })
    .await;
    let (_, said) = said;
    let led = said.lines().find(|line| line.starts_with("good   the server that may write is 127.0.0.1:")).unwrap();
    assert_eq!(led.matches("Sentinel 127.0.0.1:").count(), 3, "{said}");
    assert_eq!(said.matches(" would take over; its clock is 0 ms from the server's").count(), 2, "{said}");
    for wrong in [&[all[0]][..], &[("IDLEGATE_STORE_URL", plain.as_str()), all[1]]] {
        let (code, said) = say(wrong);
        assert!(code == Some(1) && said.contains("WRONG  Redis at the master main"), "{said}");
    }
    servers.kill_sentinel();
    let (code, said) = say(&all);
    assert!(code == Some(1) && said.contains(" leads to no server that may write (Connection refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_the_node_of_a_cluster_that_keeps_the_sessions() {
    let (app, cluster) = (App::start(QUIET), Cluster::start().await);
    cluster.nodes[cluster.owner].ask::<()>("CONFIG SET appendonly yes").await;
    let url = cluster.url();
    let mut said = String::new();
    // A replica that is in step is shown as one with its first word, up to a second later.
    eventually("nothing to be wrong", async || {
        let output = doctor(&app, &[("IDLEGATE_STORE_URL", &url)]);
        said = String::from_utf8(output.stdout).unwrap();
        output.status.success()
    })
    .await;
    let led = said.lines().find(|line| line.starts_with("good   the server that may write is 127.0.0.1:")).unwrap();
    assert_eq!(led.matches("node 127.0.0.1:").count(), 3, "{said}");
    cluster.nodes[Cluster::STAND_IN].ask::<()>("CLUSTER RESET HARD").await;
    eventually("it to be missed", async || {
        let output = doctor(&app, &[("IDLEGATE_STORE_URL", &url)]);
        String::from_utf8_lossy(&output.stdout).contains("WRONG  no server would take over")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_redis_verifies_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(|name| certificate(folder.path(), name, &[]));
    let key = ours.replace(".pem", ".key");
    let leaf = ["-CA", &ours, "-CAkey", &key, "-addext", "basicConstraints=CA:FALSE"];
    let server = certificate(folder.path(), "server", &leaf);
    let port = free_port();
    let tls = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--save", ""].map(str::to_owned);
    let files = [
        ("--tls-cert-file", server.clone()),
        ("--tls-key-file", server.replace(".pem", ".key")),
        ("--tls-ca-cert-file", ours.clone()),
    ];
    let mut arguments: Vec<&str> = tls.iter().map(String::as_str).collect();
    for (name, file) in &files {
        arguments.extend([*name, file.as_str()]);
    }
    let (app, redis) = (App::start(QUIET), Redis::start_with(&arguments));
    let url = format!("rediss://127.0.0.1:{port}");
    let proxy = replica(&app, &url, "1h", &[("IDLEGATE_STORE_CA_FILE", &ours)]);
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let id = idlegate::session::SessionId::of_token(token.as_bytes());
    eventually("the session in the server", async || !redis.hash(&format!("idlegate:session:{id}")).await.is_empty())
        .await;
    let sentinel = Sentinel::in_tls(port, &files);
    for url in [url, format!("rediss+sentinel://127.0.0.1:{}/main/0", sentinel.port)] {
        let said = |authority: &str| {
            let output = doctor(&app, &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_STORE_CA_FILE", authority)]);
            String::from_utf8(output.stdout).unwrap()
        };
        eventually("the server", async || said(&ours).contains("good   a session can be begun, reported and ended"))
            .await;
        let other = said(&other);
        assert!(
            other.contains("WRONG  Redis at ") && other.contains(" does not answer (invalid peer"),
            "{url}: {other}"
        );
    }
}

/// A port for a server that does not say which one the system chose: none that the system gives away by itself.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = 20_000 + u16::try_from(std::process::id() % 5_000).unwrap();
    (first..first + 5_000).find(is_free).unwrap()
}

/// A certificate for 127.0.0.1, signed by itself where `more` names no authority; returns its file.
fn certificate(folder: &Path, name: &str, more: &[&str]) -> String {
    let (pem, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(more)
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&pem)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    pem.to_str().unwrap().to_owned()
}
