//! What is counted equals what happened.
#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

use crate::harness::{
    App, Fake, Idlegate, PING, PONG, Request, Scrape, TEXT, Wire, eventually, handshake, masked, switching, unmasked,
};
use http::Method;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
response_timeout = "1s"
max_sessions = 2
[idle]
timeout = "4s"
retention = "2h"
[[token]]
from = "header"
name = "x-token"
paths = ["/data-f00d", "/plain", "/unlisted"]
[[token]]
from = "header"
name = "x-token"
paths = ["/logout"]
ends = true
[[token]]
from = "ws-client"
paths = ["/ws"]
pointer = "/token"
when = { "/type" = "auth" }
accept_when = { "/type" = "yes" }
"#;

const NEEDLES: [&str; 4] = ["tok-ada", "tok-bob", "tok-eve", "f00d"];

/// Sends a ping on each tunnel to `/plain`, and answers each frame there with a text; accepts no token on `/ws`.
async fn app(_: usize, mut wire: Wire) {
    let head = wire.head().await;
    let close = "Connection: close\r\nContent-Length: 2\r\n\r\nok";
    match head.split(' ').nth(1).unwrap() {
        "/plain" => {
            wire.send(switching("websocket", "")).await;
            wire.send(unmasked(PING, b"")).await;
            loop {
                match wire.frame().await {
                    (0x88, _) => return drop(wire.rest().await),
                    (_, payload) => wire.send(unmasked(TEXT, &payload)).await,
                }
            }
        }
        "/ws" => {
            wire.send(switching("websocket", "")).await;
            if head.contains("unasked") {
                wire.send(unmasked(TEXT, br#"{"type":"yes"}"#)).await;
            }
            wire.rest().await;
        }
        "/broken" => {}
        "/never" => drop(wire.rest().await),
        "/missing" => wire.send(format!("HTTP/1.1 404 Not Found\r\n{close}")).await,
        _ => wire.send(format!("HTTP/1.1 200 OK\r\n{close}")).await,
    }
}

async fn status(request: Request) -> u16 {
    request.send().await.status.as_u16()
}

fn get(proxy: SocketAddr, path: &str, token: &str) -> Request {
    Request::get(proxy, path).header("x-token", token)
}

/// Whether all of these series have these values.
fn are(scrape: &Scrape, expected: &[(&str, f64)]) {
    let wrong: Vec<_> = expected
        .iter()
        .map(|(series, wanted)| (series, wanted, scrape.value(series)))
        .filter(|(_, wanted, found)| *wanted != found)
        .collect();
    assert!(wrong.is_empty(), "series, expected, found: {wrong:#?}");
}

/// Three requests; a tunnel with a ping, its pong, five messages from the client and six from the app; and the cut.
async fn a_session_that_is_cut(proxy: &Idlegate) {
    for _ in 0..3 {
        assert_eq!(status(get(proxy.address, "/data-f00d?f00d=1", "tok-ada")).await, 200);
    }
    let mut client = Wire::connect(proxy.address).await;
    client.upgrade("/plain", "x-token: tok-ada\r\n").await;
    assert_eq!(client.frame().await, (PING, vec![]));
    client.send(masked(PONG, b"")).await;
    assert_eq!(client.frame().await, (TEXT, vec![]));
    for _ in 0..5 {
        client.send(masked(TEXT, b"hello")).await;
        assert_eq!(client.frame().await, (TEXT, b"hello".to_vec()));
    }
    are(&proxy.scrape().await, &[("idlegate_tunnels", 1.0), ("idlegate_sessions", 1.0), ("idlegate_connections", 0.0)]);
    assert_eq!(client.frame().await.0, 0x88, "the cut");
    drop(client);
    eventually("the tunnel to be gone", async || proxy.shows("idlegate_tunnels 0").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_equal_what_happened() {
    let app = Fake::start(app).await;
    let proxy = Idlegate::start(&format!("upstream = \"{}\"\n{CONFIG}", app.upstream()));
    let fresh = proxy.scrape().await;
    let counters = fresh.types.iter().filter(|(_, kind)| *kind == "counter");
    for (name, _) in counters {
        assert_eq!(fresh.sum(&format!("{name}_total")), 0.0, "{name} is there, and is 0");
    }
    a_session_that_is_cut(&proxy).await;

    // Dead tokens: in a request, in the handshake of a tunnel, in a message. And a tunnel with an unrecognised token.
    assert_eq!(status(get(proxy.address, "/data-f00d", "tok-ada")).await, 401);
    assert_eq!(status(get(proxy.address, "/data-f00d", "tok-ada")).await, 401);
    let mut client = Wire::connect(proxy.address).await;
    client.send(handshake("/plain", "x-token: tok-ada\r\n")).await;
    assert_eq!(client.message().await.status(), 401);
    drop(client);
    let mut client = Wire::connect(proxy.address).await;
    client.upgrade("/ws", "").await;
    client.send(masked(TEXT, br#"{"type":"auth","token":"tok-ada"}"#)).await;
    assert_eq!(client.frame().await.0, 0x88, "refused");
    drop(client);
    let mut client = Wire::connect(proxy.address).await;
    client.upgrade("/ws", "x-unasked: unasked\r\n").await;
    assert_eq!(client.frame().await.0, 0x88, "refused");
    drop(client);

    // Errors of the app, and unusual methods.
    assert_eq!(status(Request::get(proxy.address, "/broken")).await, 502);
    assert_eq!(status(Request::get(proxy.address, "/never")).await, 504);
    assert_eq!(status(Request::get(proxy.address, "/missing")).await, 404);
    for method in ["BREW", "PROPFIND", "F00D"] {
        assert_eq!(status(Request::new(proxy.address, Method::from_bytes(method.as_bytes()).unwrap(), "/")).await, 200);
    }

    // A logout; then two sessions, and no room for a third.
    assert_eq!(status(get(proxy.address, "/data-f00d", "tok-bob")).await, 200);
    assert_eq!(status(get(proxy.address, "/logout", "tok-bob")).await, 200);
    for token in ["tok-eve", "tok-eve-2", "tok-eve-3"] {
        assert_eq!(status(get(proxy.address, "/data-f00d", token)).await, 200);
    }
    drop(app);
    assert_eq!(status(Request::post(proxy.address, "/")).await, 502);

    eventually("all tunnels to be gone", async || proxy.shows("idlegate_tunnels 0").await).await;
    eventually("all clients to be gone", async || proxy.shows("idlegate_connections 0").await).await;
    let scrape = proxy.scrape().await;
    let requests = |method: &str, class: &str| {
        scrape.value(&format!("idlegate_request_duration_seconds_count{{method={method:?},status={class:?}}}"))
    };
    let build = format!("idlegate_build_info{{revision=\"{}\",version=\"0.1.0\"}}", idlegate::version::REVISION);
    are(
        &scrape,
        &[
            (&build, 1.0),
            (r#"idlegate_mode{mode="enforce"}"#, 1.0),
            (r#"idlegate_mode{mode="observe"}"#, 0.0),
            (r#"idlegate_mode{mode="off"}"#, 0.0),
            ("idlegate_sessions", 2.0),
            ("idlegate_sessions_max", 2.0),
            ("idlegate_sessions_tracked_total", 4.0),
            ("idlegate_sessions_untracked_total", 1.0),
            (r#"idlegate_sessions_ended_total{reason="idle"}"#, 1.0),
            (r#"idlegate_sessions_ended_total{reason="lifetime"}"#, 0.0),
            (r#"idlegate_sessions_ended_total{reason="logout"}"#, 1.0),
            (r#"idlegate_would_cuts_total{reason="idle"}"#, 0.0),
            ("idlegate_cut_lateness_seconds_count", 1.0),
            (r#"idlegate_refusals_total{carrier="request",reason="ended"}"#, 3.0),
            (r#"idlegate_refusals_total{carrier="tunnel",reason="ended"}"#, 1.0),
            ("idlegate_tunnels_unrecognised_total", 1.0),
            ("idlegate_tunnels_opened_total", 3.0),
            // Pong, messages, and the dead token; ping and messages. The unrequested acceptance ended its tunnel in the
            // read that brought it, so that only its bytes are counted.
            (r#"idlegate_tunnel_frames_total{direction="up"}"#, 1.0 + 5.0 + 1.0),
            (r#"idlegate_tunnel_frames_total{direction="down"}"#, 1.0 + 6.0),
            (r#"idlegate_tunnel_bytes_total{direction="up"}"#, 6.0 + 5.0 * 11.0 + 39.0),
            (r#"idlegate_tunnel_bytes_total{direction="down"}"#, 2.0 + 2.0 + 5.0 * 7.0 + 16.0),
            (r#"idlegate_activity_total{source="accepted"}"#, 4.0),
            (r#"idlegate_activity_total{source="client-frame"}"#, 5.0),
            (r#"idlegate_activity_total{source="server-frame"}"#, 6.0),
            (r#"idlegate_activity_total{source="client-pong"}"#, 1.0),
            // Where the session begins with it, a request is one at its end; later at its beginning, its answer and
            // its end. A handshake has no end.
            (r#"idlegate_activity_total{source="request"}"#, 4.0 + 2.0 * 3.0 + 2.0),
            (r#"idlegate_activity_total{source="transfer"}"#, 4.0 + 2.0),
            (r#"idlegate_upstream_errors_total{cause="bad-answer"}"#, 1.0),
            (r#"idlegate_upstream_errors_total{cause="response-timeout"}"#, 1.0),
            (r#"idlegate_upstream_errors_total{cause="unreachable"}"#, 1.0),
            (r#"idlegate_upstream_errors_total{cause="connect-timeout"}"#, 0.0),
            ("idlegate_store_up", 1.0),
            ("idlegate_store_round_trip_seconds_count", 0.0),
        ],
    );
    assert_eq!([requests("GET", "1xx"), requests("GET", "2xx")], [3.0, 3.0 + 1.0 + 1.0 + 3.0]);
    assert_eq!([requests("GET", "4xx"), requests("GET", "5xx")], [3.0 + 1.0, 2.0]);
    assert_eq!([requests("other", "2xx"), requests("POST", "5xx")], [3.0, 1.0]);
    assert_eq!(requests_of(&scrape), 21.0, "and no others: {scrape:#?}");
    let lateness = scrape.value("idlegate_cut_lateness_seconds_sum");
    assert!((1.0..10.0).contains(&lateness), "the rule asks for more than the limit: {lateness}");
    discloses_nothing(&proxy).await;
}

fn requests_of(scrape: &Scrape) -> f64 {
    scrape.sum("idlegate_request_duration_seconds_count")
}

async fn discloses_nothing(proxy: &Idlegate) {
    let text = proxy.metrics().await;
    for needle in NEEDLES {
        assert!(!text.to_lowercase().contains(needle), "{needle} in {text}");
        let id = idlegate::session::SessionId::of_token(needle.as_bytes()).to_string();
        assert!(!text.contains(&id), "{id} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stop_line_has_the_same_counts() {
    let app = Fake::start(app).await;
    let mut proxy = Idlegate::start(&format!("upstream = \"{}\"\n{CONFIG}", app.upstream()));
    for token in ["tok-ada", "tok-bob", "tok-eve"] {
        assert_eq!(status(get(proxy.address, "/data-f00d", token)).await, 200);
    }
    assert_eq!(status(get(proxy.address, "/logout", "tok-ada")).await, 200);
    assert_eq!(status(get(proxy.address, "/data-f00d", "tok-ada")).await, 401);
    assert!(proxy.stop().await.success());
    let line = proxy.logged("stopped").pop().unwrap();
    assert!(
        line.ends_with("stopped connections_left=0 tracked=2 ended=1 would_cut=0 refused=1 over_capacity=1"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observed_end_counts_as_would_cut() {
    let app = Fake::start(app).await;
    let config = format!("upstream = \"{}\"\n{CONFIG}", app.upstream());
    let proxy = Idlegate::start_with(&config, &[("IDLEGATE_IDLE_MODE", "observe"), ("IDLEGATE_IDLE_TIMEOUT", "1s")]);
    assert_eq!(status(get(proxy.address, "/data-f00d", "tok-ada")).await, 200);
    let would_cut = r#"idlegate_would_cuts_total{reason="idle"} 1"#;
    eventually("the would-cut", async || proxy.shows(would_cut).await).await;
    let expected = [
        (r#"idlegate_mode{mode="observe"}"#, 1.0),
        (r#"idlegate_mode{mode="enforce"}"#, 0.0),
        (r#"idlegate_mode{mode="off"}"#, 0.0),
        ("idlegate_sessions", 1.0),
        (r#"idlegate_sessions_ended_total{reason="idle"}"#, 0.0),
        ("idlegate_cut_lateness_seconds_count", 0.0),
    ];
    are(&proxy.scrape().await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_written_is_a_store_that_is_out() {
    let app = Fake::start(app).await;
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:{}", folder.path().join("sessions").display());
    let config = format!("upstream = \"{}\"\n{CONFIG}", app.upstream());
    let proxy = Idlegate::start_with(&config, &[("IDLEGATE_STORE_URL", &url), ("IDLEGATE_MAX_SESSIONS", "1000")]);
    eventually("the store to be up", async || proxy.shows("idlegate_store_up 1").await).await;
    proxy.let_files_grow(Some(4096));
    let mut number = 0;
    eventually("the store to be out", async || {
        number += 1;
        assert_eq!(status(get(proxy.address, "/data-f00d", &format!("tok-{number}"))).await, 200);
        proxy.shows("idlegate_store_up 0").await
    })
    .await;
    proxy.let_files_grow(None);
    eventually("the store to be up", async || proxy.shows("idlegate_store_up 1").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_data_makes_no_series() {
    let app = App::start(&["--ping", "600"]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let ask = async |number: u32| {
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        let path = format!("/{number}?{number}");
        Request::new(proxy.address, method, &path).header("user-agent", &number.to_string()).send().await;
    };
    ask(0).await;
    let before = proxy.scrape().await;
    for number in 1..50 {
        ask(number).await;
    }
    let after = proxy.scrape().await;
    let answered = |scrape: &Scrape| requests_of(scrape);
    assert_eq!(answered(&after) - answered(&before), 49.0);
    assert_eq!(after.values.keys().collect::<Vec<_>>(), before.values.keys().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn round_trips_to_redis_are_counted() {
    let (app, redis) = (App::start(&["--ping", "600"]), crate::harness::Redis::start());
    let proxy = crate::harness::replica(&app, &redis.url(), "1h", &[]);
    eventually("the store to be up", async || proxy.shows("idlegate_store_up 1").await).await;
    let (before, begun) = (proxy.scrape().await, Instant::now());
    let mut tunnel = crate::harness::Tunnel::open(&proxy, "busy").await;
    tunnel.busy_for(Duration::from_secs(3)).await;
    let after = proxy.scrape().await;
    let trips = |scrape: &Scrape| scrape.value("idlegate_store_round_trip_seconds_count");
    let made = trips(&after) - trips(&before);
    // A look-up, a beginning, and a report a second: not one for each frame.
    let reports = made - 2.0;
    assert!(reports >= 2.0 && reports <= begun.elapsed().as_secs_f64() + 2.0, "{reports} in {:?}", begun.elapsed());
    assert!(after.value("idlegate_store_round_trip_seconds_sum") < trips(&after), "less than a second each");
    assert_eq!(after.value("idlegate_store_errors_total"), 0.0);
}
