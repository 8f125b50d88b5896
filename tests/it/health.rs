//! The `[health]` listener: what it answers, and that it affects no client.
#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

use crate::harness::{Answer, App, BUSY, Fake, Idlegate, Recorder, Redis, Request, Wire, eventually, replica, soon};
use crate::http::{get, plain};
use http::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let answer = Request::get(address, path).send().await;
    (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
}

fn field<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_three_pages_and_nothing_else() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let health = proxy.health();
    assert_eq!(ask(health, "/healthz").await, (200, "alive\n".to_owned()));
    eventually("the first report", async || ask(health, "/readyz").await == (200, "ready\nstore: up\n".to_owned()))
        .await;
    let metrics = Request::get(health, "/metrics").send().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((metrics.status.as_u16(), field(&metrics, "content-type")), (200, kind));
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = Request::new(health, Method::HEAD, path).send().await;
        assert!(
            answer.status == 200 && answer.body.is_empty() && field(&answer, "content-length") != "0",
            "{answer:?}"
        );
        assert_eq!(field(&answer, "cache-control"), "no-store");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            let answer = Request::new(health, method, path).send().await;
            assert_eq!((answer.status.as_u16(), field(&answer, "allow")), (405, "GET, HEAD"), "{path}");
        }
    }
    for path in ["/", "/sessions", "/metrics/", "/healthz/../metrics", "/readyz%2f", "//healthz", "/mode"] {
        assert_eq!(ask(health, path).await.0, 404, "{path}");
        assert_eq!(Request::new(health, Method::PUT, path).send().await.status, 404, "{path}");
    }
    // Clients get none of it: these paths are the app's.
    assert_eq!(ask(proxy.address, "/metrics").await, (200, "ok".to_owned()));
    assert_eq!(app.got().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listener_without_its_key() {
    let app = Recorder::answering(OK).await;
    let config = format!("upstream = \"{}\"\n[[token]]\nfrom = \"bearer\"\n", app.upstream());
    let proxy = Idlegate::without_health(&config);
    assert!(proxy.logged("health and metrics").is_empty());
    assert_eq!(listening(proxy.pid()), 1, "the clients' listener alone");
    assert_eq!(listening(plain(&app.upstream()).pid()), 3, "and those of health and of operators");
}

/// How many TCP sockets of a process listen.
fn listening(pid: u32) -> usize {
    let own: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string()))
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[3] == "0A" && own.contains(&format!("socket:[{}]", fields[9]))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_out_changes_a_metric_and_not_the_readiness() {
    let (app, mut redis) = (App::start(&["--ping", "600"]), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[]);
    let readiness =
        async |state: &str| ask(proxy.health(), "/readyz").await == (200, format!("ready\nstore: {state}\n"));
    let mut tunnel = crate::harness::Tunnel::open(&proxy, "busy").await;
    for _ in 0..2 {
        eventually("the store to be up", async || proxy.shows("idlegate_store_up 1").await).await;
        assert!(readiness("up").await);
        redis.kill();
        tunnel.echo().await;
        eventually("the store to be out", async || proxy.shows("idlegate_store_up 0").await).await;
        assert!(readiness("out").await);
        tunnel.echo().await;
        eventually("it to be waiting", async || proxy.shows("idlegate_store_pending_sessions 1").await).await;
        assert!(proxy.scrape().await.value("idlegate_store_errors_total") > 0.0);
        redis.start_again();
    }
    eventually("the store to be up", async || proxy.shows("idlegate_store_up 1").await).await;
    eventually("nothing to wait", async || proxy.shows("idlegate_store_pending_sessions 0").await).await;
    let scrape = proxy.scrape().await;
    assert_eq!(scrape.value("idlegate_store_pending_age_seconds"), 0.0);
    assert!(scrape.value("idlegate_store_clock_difference_seconds").abs() < 5.0, "one host, one clock");
    assert!(readiness("up").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_stopping_it_lives_and_is_not_ready() {
    let (asked, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let (release, held) = tokio::sync::watch::channel(false);
    let app = Fake::start(move |_, mut wire| {
        let (asked, mut held) = (asked.clone(), held.clone());
        async move {
            wire.head().await;
            asked.send(()).unwrap();
            held.wait_for(|released| *released).await.unwrap();
            wire.send(OK).await;
        }
    })
    .await;
    let mut proxy = plain(&app.upstream());
    let health = proxy.health();
    let mut client = Wire::connect(proxy.address).await;
    client.send(get("/slow", "")).await;
    soon("the request at the app", arrived.recv()).await;
    proxy.terminate();
    eventually("it not to be ready", async || ask(health, "/readyz").await == (503, "draining\n".to_owned())).await;
    assert_eq!(ask(health, "/healthz").await.0, 200);
    assert!(proxy.metrics().await.ends_with("# EOF\n"));
    release.send(true).unwrap();
    assert_eq!(client.message().await.text(), "ok", "what was on its way was finished");
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_connections_delay_no_other() {
    // Each of them is a descriptor of this process too.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let before = proxy.open_files();
    let mut crowd = Vec::new();
    for number in 0..1000 {
        crowd.push(Wire::connect(proxy.health()).await);
        if number % 100 == 0 {
            assert_eq!(ask(proxy.address, "/").await, (200, "ok".to_owned()));
            assert_eq!(ask(proxy.health(), "/healthz").await.0, 200, "who asks is answered, and the oldest makes way");
        }
    }
    assert_eq!(ask(proxy.health(), "/readyz").await.0, 200);
    // Who makes way is gone a moment later; long before it would have been for saying nothing.
    let made_way = async {
        while proxy.open_files() > before + 70 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(BUSY, made_way).await;
    assert!(waited.is_ok(), "{} files before, {} now", before, proxy.open_files());
    // Those that are left are not waited for either.
    eventually("the crowd to be gone", async || proxy.open_files() <= before + 4).await;
    assert_eq!(ask(proxy.address, "/").await, (200, "ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_head_and_half_a_head_end_in_time() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let mut endless = Wire::connect(proxy.health()).await;
    endless.send(format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(20_000))).await;
    let answer = String::from_utf8(endless.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut half = Wire::connect(proxy.health()).await;
    half.send("GET /metrics HTTP/1.1\r\nHost: x\r\n").await;
    half.rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_may_be_a_unix_socket() {
    let app = Recorder::answering(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("health.sock");
    // Left behind by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = format!("upstream = \"{}\"\n[[token]]\nfrom = \"bearer\"\n", app.upstream());
    let listen = format!("unix:{}", path.display());
    let environment = [("IDLEGATE_HEALTH_LISTEN", &listen[..])];
    let mut proxy = Idlegate::start_with(&config, &environment);
    assert!(over_unix(&path).await.ends_with("\r\n\r\nalive\n"));
    // One that is in use is not taken away from its owner.
    let second = Idlegate::fails_with(&config, &environment);
    let told = format!("cannot listen on {listen}: ");
    assert!(second.contains(&told) && second.trim_end().ends_with("change `health.listen`"), "{second}");
    assert!(over_unix(&path).await.ends_with("\r\n\r\nalive\n"));
    assert_eq!(proxy.stop().await.code(), Some(0));
    assert!(!path.exists(), "it is removed in the end");
}

async fn over_unix(path: &Path) -> String {
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_health_port_is_named_by_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = "upstream = \"http://127.0.0.1:9\"\n[[token]]\nfrom = \"bearer\"\n";
    let told = Idlegate::fails_with(config, &[("IDLEGATE_HEALTH_LISTEN", &address)]);
    assert!(told.contains(&format!("idlegate: cannot listen on http://{address}: ")), "{told}");
    assert!(told.ends_with("another program listens there: end it, or change `health.listen`\n"), "{told}");
}
