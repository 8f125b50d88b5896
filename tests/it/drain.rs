//! Stopping, and what must not be lost by it.

use crate::harness::{
    App, Ends, Fake, Idlegate, Message, Recorder, Redis, Request, TEXT, Tunnel, Wire, eventually, id, masked, replica,
    secret, soon, unmasked,
};
use crate::http::{get, plain_with};
use http::Method;
use serde_json::Value;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The payload of the Close that a tunnel gets.
const RESTART: &[u8] = b"\x03\xf4Service restart";

const PLENTY: (&str, &str) = ("IDLEGATE_GRACE_PERIOD", "1h");

async fn drain(proxy: &Idlegate, method: Method) -> Value {
    let answer = Request::new(proxy.admin(), method, "/drain").send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn ready(proxy: &Idlegate) -> (u16, String) {
    let answer = Request::get(proxy.health(), "/readyz").send().await;
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

/// Whether the answer says that it is the last one on its connection.
fn closes(answer: &Message) -> bool {
    answer.field("connection") == ["close"]
}

/// An app that takes an upload, pours a download, or answers at once.
async fn slow_app(release: watch::Receiver<bool>) -> Fake {
    Fake::start(move |_, mut wire| {
        let mut release = release.clone();
        async move {
            while let Some(head) = wire.next_head().await {
                if head.starts_with("POST ") {
                    wire.bytes(10).await;
                } else if head.starts_with("GET /stream ") {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
                    release.wait_for(|released| *released).await.unwrap();
                    wire.send("after").await;
                    continue;
                } else if head.contains("Upgrade: websocket") {
                    wire.send(crate::harness::switching("websocket", "")).await;
                    wire.rest().await;
                    return;
                }
                wire.send(OK).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_tunnels_one_after_another_on_both_ends() {
    let mut ends = Ends::start_with(&[("IDLEGATE_GRACE_PERIOD", "8s")]).await;
    let mut tunnels = Vec::new();
    for path in ["/ws", "/plain", "/ws", "/plain"] {
        tunnels.push(ends.open(path, "").await);
    }
    ends.proxy.terminate();
    let begun = Instant::now();
    let told = Arc::new(AtomicUsize::new(0));
    let hear = async |mut client: Wire, mut app: Wire| {
        let said = unmasked(0x88, RESTART);
        assert_eq!(client.bytes(said.len()).await, said);
        let (order, at) = (told.fetch_add(1, Ordering::SeqCst), begun.elapsed());
        assert_eq!(app.frame().await, (0x88, RESTART.to_vec()));
        assert!(client.rest().await.is_empty());
        (order, at)
    };
    let hearing = tunnels.into_iter().map(|(client, app)| hear(client, app));
    let (status, heard) = tokio::join!(ends.proxy.ended(), futures_util::future::join_all(hearing));
    assert!(status.success(), "{status}");
    let orders: Vec<_> = heard.iter().map(|(order, _)| *order).collect();
    assert_eq!(orders, [0, 1, 2, 3], "the oldest first");
    // 5 s of the 8 s, in four parts; a busy machine makes it later, never earlier.
    for (number, (_, at)) in heard.iter().enumerate() {
        let earliest = Duration::from_millis(1250 * u64::try_from(number).unwrap());
        assert!(*at + Duration::from_millis(100) > earliest, "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_serves_new_requests_and_asks_to_close_their_connections() {
    let mut ends = Ends::start_with(&[("IDLEGATE_GRACE_PERIOD", "3s")]).await;
    let (mut client, mut app) = ends.open("/ws", "").await;
    assert_eq!(drain(&ends.proxy, Method::GET).await["phase"], "serving", "asking changes nothing");
    assert!(ends.proxy.shows("idlegate_draining 0").await);
    for method in [Method::PUT, Method::PUT, Method::GET] {
        let standing = drain(&ends.proxy, method).await;
        assert_eq!(standing["phase"], "draining");
        assert!(standing["seconds_left"].as_u64().unwrap() <= 3, "{standing}");
    }
    assert_eq!(ready(&ends.proxy).await, (503, "draining\n".to_owned()));
    assert!(ends.proxy.shows("idlegate_draining 1").await);
    ends.proxy.has_logged("draining: WebSockets are closed gradually, requests are still served", 1).await;
    assert_eq!(client.frame().await, (0x88, RESTART.to_vec()));
    assert_eq!(app.frame().await, (0x88, RESTART.to_vec()));
    // New requests and tunnels are served; the tunnel is not closed before SIGTERM.
    let (mut late, mut late_app) = ends.open("/ws", "").await;
    eventually("the grace period to be over", async || drain(&ends.proxy, Method::GET).await["seconds_left"] == 0)
        .await;
    late.send(masked(TEXT, b"hello")).await;
    assert_eq!(late_app.frame().await, (TEXT, b"hello".to_vec()));
    let mut keep_alive = Wire::connect(ends.proxy.address).await;
    let answer = keep_alive.ask(get("/logout", "")).await;
    assert!(answer.status() == 200 && closes(&answer), "{answer:?}");
    assert!(keep_alive.rest().await.is_empty());
    ends.proxy.terminate();
    assert_eq!(late.frame().await, (0x88, RESTART.to_vec()));
    drop((late, late_app));
    assert_eq!(ends.proxy.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn idlegates_own_answers_say_close_too_and_an_upgrade_does_not() {
    let mut ends = Ends::start().await;
    let mut kept = Wire::connect(ends.proxy.address).await;
    let before = kept.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(before.status() == 405 && !closes(&before), "{before:?}");
    drain(&ends.proxy, Method::PUT).await;
    let after = kept.ask("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await;
    assert!(after.status() == 405 && closes(&after), "{after:?}");
    let (mut client, _, mut app) = ends.knock(crate::harness::handshake("/ws", "")).await;
    app.send(crate::harness::switching("websocket", "")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.to_lowercase().contains("close"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_finish_and_idle_connections_close_last() {
    let (release, held) = watch::channel(false);
    let app = slow_app(held).await;
    let mut proxy = plain_with(&app.upstream(), &[PLENTY]);
    let [mut upload, mut stream, mut idle, mut new] = [
        Wire::connect(proxy.address).await,
        Wire::connect(proxy.address).await,
        Wire::connect(proxy.address).await,
        Wire::connect(proxy.address).await,
    ];
    upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234").await;
    stream.send(get("/stream", "")).await;
    stream.until("first").await;
    assert_eq!(idle.ask(get("/", "")).await.text(), "ok");
    eventually("both to be under way", async || drain(&proxy, Method::GET).await["requests"] == 2).await;
    proxy.terminate();
    eventually("it to stop", async || drain(&proxy, Method::GET).await["phase"] == "stopping").await;
    upload.send("56789").await;
    let answer = upload.message().await;
    assert!(answer.text() == "ok" && closes(&answer), "{answer:?}");
    // An idle connection is still good for a request, and so is one that was not used yet.
    for wire in [&mut idle, &mut new] {
        let answer = wire.ask(get("/", "")).await;
        assert!(answer.text() == "ok" && closes(&answer), "{answer:?}");
        assert!(wire.rest().await.is_empty());
    }
    assert!(proxy.is_running());
    release.send(true).unwrap();
    stream.until("after").await;
    // The grace period is an hour: nothing is left, so it ends.
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert!(proxy.logged("stopped")[0].contains("connections_left=0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_hurries() {
    let (_release, held) = watch::channel(false);
    let app = slow_app(held).await;
    let mut proxy = plain_with(&app.upstream(), &[PLENTY]);
    let mut stream = Wire::connect(proxy.address).await;
    stream.send(get("/stream", "")).await;
    stream.until("first").await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut client = Wire::connect(proxy.address).await;
        client.upgrade("/ws", "").await;
        tunnels.push(client);
    }
    proxy.terminate();
    assert_eq!(tunnels[0].frame().await, (0x88, RESTART.to_vec()));
    eventually("the first to be gone", async || drain(&proxy, Method::GET).await["tunnels"] == 2).await;
    let begun = Instant::now();
    let (status, ()) = tokio::join!(proxy.stop(), async {
        for mut client in tunnels.drain(1..) {
            assert_eq!(client.frame().await, (0x88, RESTART.to_vec()));
        }
    });
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2) + crate::harness::BUSY, "{took:?}");
    assert!(proxy.logged("stopped")[0].contains("connections_left=1"), "the stream, which had no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_delays_the_exit_beyond_the_grace_period() {
    let (_release, held) = watch::channel(false);
    let (app, redis) = (slow_app(held).await, Redis::start());
    let url = redis.url();
    let mut proxy = plain_with(&app.upstream(), &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_GRACE_PERIOD", "4s")]);
    let token = format!("x-token: {}\r\n", secret("ada"));
    // A download without an end, a tunnel that never closes, a client that says nothing, and a store that hangs.
    let mut stream = Wire::connect(proxy.address).await;
    stream.send(get("/stream", &token)).await;
    stream.until("first").await;
    let mut tunnel = Wire::connect(proxy.address).await;
    tunnel.upgrade("/ws", &token).await;
    let silent = Wire::connect(proxy.address).await;
    eventually("the session to be reported", async || redis.session("ada").await.contains_key("created")).await;
    redis.freeze();
    tunnel.send(masked(TEXT, b"hello")).await;
    let begun = Instant::now();
    let status = proxy.stop().await;
    let took = begun.elapsed();
    redis.thaw();
    assert_eq!(status.code(), Some(0));
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(4) + crate::harness::BUSY, "{took:?}");
    assert!(proxy.logged("stopped")[0].contains("connections_left="), "{}", proxy.whole_log());
    drop((stream, tunnel, silent));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_activity_is_reported_before_the_exit() {
    let (app, redis) = (App::start(&["--ping", "600"]), Redis::start());
    // One report a day, so that only the last one can have sent it.
    let mut proxy = replica(&app, &redis.url(), "1h", &[("IDLEGATE_STORE_FLUSH_INTERVAL", "10s")]);
    let mut tunnel = Tunnel::open(&proxy, "ada").await;
    eventually("the session to be reported", async || redis.session("ada").await.contains_key("created")).await;
    let created = redis.session("ada").await["last_activity"].parse::<u64>().unwrap();
    eventually("a later second", async || redis.now().await > created + 1).await;
    let now = redis.now().await;
    tunnel.echo().await;
    assert_eq!(proxy.stop().await.code(), Some(0));
    let record = redis.session("ada").await;
    assert!(record["last_activity"].parse::<u64>().unwrap() >= now, "{record:?}, and an echo at {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_report_waits_for_the_store_within_the_grace_period() {
    let (app, mut redis) = (App::start(&["--ping", "600"]), Redis::start_with(&["--appendonly", "yes"]));
    let mut proxy = replica(&app, &redis.url(), "1h", &[("IDLEGATE_GRACE_PERIOD", "30s")]);
    let mut tunnel = Tunnel::open(&proxy, "ada").await;
    eventually("the session to be reported", async || redis.session("ada").await.contains_key("created")).await;
    redis.kill();
    eventually("the outage to be noticed", async || !proxy.logged("until it is back").is_empty()).await;
    tunnel.echo().await;
    let ended = Request::new(proxy.admin(), Method::DELETE, &format!("/sessions/{}", id("ada"))).send().await;
    assert_eq!(ended.status, 202, "{ended:?}");
    proxy.terminate();
    eventually("it to stop", async || !proxy.logged("stopping ").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(proxy.is_running(), "it went with what only it knows");
    redis.start_again();
    eventually("it to exit", async || !proxy.is_running()).await;
    let record = redis.session("ada").await;
    assert_eq!(record.get("reason").map(String::as_str), Some("operator"), "{record:?}");
    assert!(proxy.logged("is lost").is_empty(), "{}", proxy.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_report_that_fails_is_logged_as_lost() {
    let (app, mut redis) = (App::start(&["--ping", "600"]), Redis::start());
    let mut proxy = replica(&app, &redis.url(), "1h", &[("IDLEGATE_GRACE_PERIOD", "2s")]);
    let mut tunnel = Tunnel::open(&proxy, "ada").await;
    redis.kill();
    eventually("the outage to be noticed", async || !proxy.logged("until it is back").is_empty()).await;
    tunnel.echo().await;
    assert_eq!(proxy.stop().await.code(), Some(0));
    assert_eq!(proxy.logged("that it does not know are lost").len(), 1, "{}", proxy.whole_log());
}

/// With a log driver that blocks, or a journal that is stopped, the app must stay reachable, and the timeout must be
/// possible to roll back.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_a_reader_delays_nothing() {
    let app = Recorder::answering(OK).await;
    let folder = tempfile::tempdir().unwrap();
    let (config, socket) = (folder.path().join("proxy.toml"), folder.path().join("admin.sock"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = format!(
        "listen = \"{address}\"\nupstream = {:?}\ndeny = [\"/no\"]\nlog = \"debug\"\naudit = \"none\"\ngrace_period \
        = \"2s\"\n\
         [admin]\nlisten = \"unix:{}\"\n[[token]]\nfrom = \"bearer\"\n",
        app.upstream(),
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut proxy = command(&["--config", config.to_str().unwrap()]).spawn().unwrap();
    eventually("it to listen", async || socket.exists()).await;
    let mut client = Wire::connect(address).await;
    // More than a pipe holds.
    for _ in 0..2_000 {
        assert_eq!(client.ask(get("/no", "")).await.status(), 404);
    }
    let admin = format!("unix:{}", socket.display());
    let switched = tokio::task::spawn_blocking(move || command(&["mode", "off", "--admin", &admin]).status().unwrap());
    assert!(soon("the mode to be switched", switched).await.unwrap().success());
    assert_eq!(client.ask(get("/", "")).await.status(), 200);
    let pid = rustix::process::Pid::from_child(&proxy);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    eventually("it to exit", async || proxy.try_wait().unwrap().is_some()).await;
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_drains_at_once_or_waits_for_the_end() {
    let (release, held) = watch::channel(false);
    let app = slow_app(held).await;
    let mut proxy = plain_with(&app.upstream(), &[PLENTY]);
    let admin = format!("http://{}", proxy.admin());
    let mut stream = Wire::connect(proxy.address).await;
    stream.send(get("/stream", "")).await;
    stream.until("first").await;
    let output = command(&["drain", "--admin", &admin]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said == "draining: 0 tunnels and 1 request left, up to 1h to finish\n",
        "{said}"
    );
    assert_eq!(ready(&proxy).await.0, 503);
    let mut waiting = command(&["drain", "--wait", "--admin", &admin]).spawn().unwrap();
    let mut asked = async || proxy.is_running() && waiting.try_wait().unwrap().is_none();
    for _ in 0..5 {
        assert!(asked().await, "a request is under way");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    release.send(true).unwrap();
    stream.until("after").await;
    let output = soon("the command to return", tokio::task::spawn_blocking(move || waiting.wait_with_output())).await;
    let output = output.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("draining: 0 tunnels and 0 requests left, "));
    // It still serves, until SIGTERM.
    assert_eq!(Request::get(proxy.address, "/").send().await.status, 200);
    assert_eq!(proxy.stop().await.code(), Some(0));
    let output = command(&["drain", "--admin", &admin]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "nobody is there");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.toml");
    std::fs::write(&config, "upstream = \"http://127.0.0.1:9\"\n[[token]]\nfrom = \"bearer\"\n").unwrap();
    let output = command(&["drain", "--config", config.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && told.contains("add [admin] listen = "), "{told}");
}

/// One client with a connection that it keeps, which asks again where a connection that it had used before brought no
/// answer. Returns how many answers it got.
async fn ask_until(address: std::net::SocketAddr, stop: Arc<AtomicBool>, number: usize) -> usize {
    let (mut wire, mut used, mut answers) = (Wire::connect(address).await, false, 0);
    while !stop.load(Ordering::SeqCst) {
        let path = format!("/{number}/{answers}");
        let sent = wire.try_send(get(&path, "")).await;
        if let Some(answer) = if sent { wire.try_message().await } else { None } {
            assert_eq!((answer.status(), answer.text()), (200, "ok".to_owned()), "{path}");
            (answers, used) = (answers + 1, true);
            if !closes(&answer) {
                continue;
            }
        } else {
            assert!(used, "request {path} was lost on a new connection");
        }
        (wire, used) = (Wire::connect(address).await, false);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn restarting_with_a_socket_of_the_service_manager_loses_no_request() {
    const CLIENTS: usize = 24;
    let (release, held) = watch::channel(false);
    let app = slow_app(held).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = format!(
        "upstream = \"{}\"\nlisten = \"127.0.0.1:10086\"\ngrace_period = \"5s\"\n[[token]]\nfrom = \"bearer\"\n",
        app.upstream()
    );
    let start = || Idlegate::handed(&config, &[], socket.try_clone().unwrap(), "idlegate");
    let stop = Arc::new(AtomicBool::new(false));
    let mut proxy = start();
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(ask_until(address, Arc::clone(&stop), number))).collect();
    for round in 0..3 {
        let mut tunnels = Vec::new();
        for _ in 0..3 {
            let mut client = Wire::connect(address).await;
            client.upgrade("/ws", "").await;
            tunnels.push(client);
        }
        let [mut upload, mut stream] = [Wire::connect(address).await, Wire::connect(address).await];
        upload.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234").await;
        stream.send(get("/stream", "")).await;
        stream.until("first").await;
        proxy.terminate();
        for client in &mut tunnels {
            assert_eq!(client.frame().await, (0x88, RESTART.to_vec()), "round {round}");
        }
        upload.send("56789").await;
        assert_eq!(upload.message().await.text(), "ok", "round {round}");
        release.send(true).unwrap();
        stream.until("after").await;
        drop(tunnels);
        assert_eq!(proxy.ended().await.code(), Some(0));
        assert!(proxy.logged("stopped")[0].contains("connections_left=0"), "{}", proxy.whole_log());
        proxy = start();
        release.send(false).unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut answers = 0;
    for client in clients {
        answers += soon("a client to be done", client).await.unwrap();
    }
    println!("{answers} requests over three restarts, none lost");
    assert!(answers > 10 * CLIENTS, "{answers}");
    drop(proxy);
}

/// A client that never sends a whole head, like a scanner, must not make every restart as long as it can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_comes_is_not_waited_for() {
    let app = Recorder::answering(OK).await;
    let mut proxy = plain_with(&app.upstream(), &[("IDLEGATE_GRACE_PERIOD", "60s")]);
    let mut silent = Vec::new();
    for sent in ["", "G", "GET / HTTP/1.1\r\nHost: app\r\n"] {
        let mut client = Wire::connect(proxy.address).await;
        client.send(sent).await;
        silent.push(client);
    }
    let mut late = Wire::connect(proxy.address).await;
    late.send("GET / HTTP/1.1\r\n").await;
    eventually("all to be accepted", async || proxy.metrics().await.contains("\nidlegate_connections 4\n")).await;
    let begun = Instant::now();
    proxy.terminate();
    eventually("it to stop", async || !proxy.logged("stopping ").is_empty()).await;
    // A request sent just now is answered, with `Connection: close`.
    let answer = late.ask("Host: app\r\n\r\n").await;
    assert!(answer.status() == 200 && closes(&answer), "{answer:?}");
    assert_eq!(soon("the end", proxy.ended()).await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
