//! One exchange and the next: connections, framing, header fields, as they stand on the wire.

use crate::harness::{App, Idlegate, Recorder, Request, Wire};
use serde_json::json;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy with no rule that applies to what is sent here.
pub fn plain(upstream: &str) -> Idlegate {
    plain_with(upstream, &[])
}

pub fn plain_with(upstream: &str, environment: &[(&str, &str)]) -> Idlegate {
    let config = format!("upstream = {upstream:?}\n[[token]]\nfrom = \"header\"\nname = \"x-token\"\n");
    Idlegate::start_with(&config, environment)
}

/// The head of a request.
pub fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.example\r\n{fields}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_one_client_share_a_connection_to_the_app_in_their_order() {
    let app = Recorder::with(|number| format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    for number in 0..3 {
        assert_eq!(client.ask(get("/", "")).await.text(), number.to_string());
    }
    // Pipelined, one of them with a body: answered in the order of asking.
    let upload = "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    client.send([get("/three", ""), upload.to_owned(), get("/five", "")].concat()).await;
    for number in 3..6 {
        assert_eq!(client.message().await.text(), number.to_string());
    }
    let lines: Vec<_> = app.got()[3..].iter().map(|got| got.head.lines().next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["GET /three HTTP/1.1", "POST /up HTTP/1.1", "GET /five HTTP/1.1"]);
    assert_eq!(app.connections(), [0; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_framings_are_kept_in_both_directions() {
    let app = Recorder::with(|number| match number {
        0 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde".to_owned(),
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4;ext=1\r\nwiki\r\n3\r\nped\r\n0\r\n\r\n";
    let answer = client.ask(chunked).await;
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("abcde", vec!["chunked"]));
    assert_eq!(answer.field("content-length"), Vec::<&str>::new());
    let answer = client.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nwiki").await;
    assert_eq!((answer.text().as_str(), answer.field("content-length")), ("abcde", vec!["5"]));
    client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    client.ask(get("/", "")).await;
    let got = app.got();
    assert_eq!((got[0].text().as_str(), got[0].field("transfer-encoding")), ("wikiped", vec!["chunked"]));
    assert_eq!(got[0].field("content-length"), Vec::<&str>::new());
    assert_eq!((got[1].text().as_str(), got[1].field("content-length")), ("wiki", vec!["4"]));
    assert_eq!(got[2].field("content-length"), ["0"]);
    assert!(!got[3].head.to_lowercase().contains("content-length"), "{}", got[3].head);
    assert!(!got[3].head.to_lowercase().contains("transfer-encoding"), "{}", got[3].head);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_fields_keep_their_case_their_order_and_their_bytes() {
    let app = Recorder::answering(
        "HTTP/1.1 200 Quite Fine\r\nContent-Length: 2\r\nX-ODD-Case: 1\r\nSet-Cookie: a=1; Path=/\r\nset-cookie: b=2\r\n\
         ETag: \"caf\u{e9}\"\r\nSet-Cookie: c=3\r\nServer: Fake/1\r\n\r\nok",
    )
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let answer = client.ask(get("/a|b^?q=`x'{y}&z=caf\u{e9}", "X-ReQuEsT-iD: 7\r\nX-Two: 1\r\nx-two: 2\r\n")).await;
    assert!(answer.head.starts_with("HTTP/1.1 200 Quite Fine\r\n"), "{}", answer.head);
    for line in ["X-ODD-Case: 1", "ETag: \"caf\u{e9}\"", "Server: Fake/1", "set-cookie: b=2", "Set-Cookie: c=3"] {
        assert!(answer.has(line), "{line} is not in {}", answer.head);
    }
    assert_eq!(answer.field("set-cookie"), ["a=1; Path=/", "b=2", "c=3"]);
    let got = app.only();
    assert!(got.head.starts_with("GET /a|b^?q=`x'{y}&z=caf\u{e9} HTTP/1.1\r\n"), "{}", got.head);
    for line in ["X-ReQuEsT-iD: 7", "X-Two: 1", "x-two: 2", "Host: site.example"] {
        assert!(got.has(line), "{line} is not in {}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_are_not_forwarded() {
    let app = Recorder::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         X-End: 1\r\n\r\nok",
    )
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let fields = "Connection: X-Mine, Upgrade, HTTP2-Settings, Host\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
                  HTTP2-Settings: AAMAAABkAAQAAP__\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-End: 1\r\n";
    let answer = client.ask(get("/", fields)).await;
    assert_eq!((answer.status(), answer.field("x-end")), (200, vec!["1"]));
    for name in ["x-hop", "keep-alive", "connection"] {
        assert!(answer.field(name).is_empty(), "{name} is in {}", answer.head);
    }
    let got = app.only();
    assert_eq!((got.field("x-end"), got.field("host")), (vec!["1"], vec!["site.example"]));
    for name in ["x-mine", "keep-alive", "upgrade", "http2-settings", "proxy-connection", "te", "connection"] {
        assert!(got.field(name).is_empty(), "{name} is in {}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_names_the_client() {
    let app = Recorder::answering(OK).await;
    let stranger = plain(&app.upstream());
    let trusting = plain_with(&app.upstream(), &[("IDLEGATE_TRUSTED_PROXIES", "127.0.0.0/8")]);
    let said = "X-Forwarded-For: 6.6.6.6\r\nX-FORWARDED-FOR: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
    Wire::connect(stranger.address).await.ask(get("/", said)).await;
    Wire::connect(trusting.address).await.ask(get("/", said)).await;
    Wire::connect(trusting.address).await.ask(get("/", "")).await;
    // An IPv4 client of an IPv6 socket is written ::ffff:127.0.0.1 by the system, and is the same client.
    let dual = [("IDLEGATE_LISTEN", "[::]:0"), ("IDLEGATE_TRUSTED_PROXIES", "127.0.0.1")];
    let mapped = plain_with(&app.upstream(), &dual);
    let address = ([127, 0, 0, 1], mapped.address.port()).into();
    Wire::connect(address).await.ask(get("/", said)).await;
    let seen: Vec<_> = app
        .got()
        .iter()
        .map(|got| ["for", "proto", "host"].map(|what| got.field(&format!("x-forwarded-{what}")).join(" + ")))
        .collect();
    let believed = ["6.6.6.6, 7.7.7.7, 127.0.0.1", "https", "evil"];
    let own = ["127.0.0.1", "http", "site.example"];
    assert_eq!(seen, [own, believed, own, believed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none() {
    let app = Recorder::with(|number| {
        let head = match number {
            0 => "200 OK\r\nContent-Length: 1234",
            1 => "200 OK\r\nTransfer-Encoding: chunked",
            2 => "204 No Content",
            3 => "304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77",
            4 => "205 Reset Content\r\nContent-Length: 0",
            _ => "200 OK\r\nContent-Length: 0",
        };
        format!("HTTP/1.1 {head}\r\n\r\n")
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(head).await;
    assert!(client.head().await.contains("Content-Length: 1234\r\n"));
    client.send(head).await;
    let unknown = client.head().await.to_lowercase();
    assert!(!unknown.contains("content-length"), "{unknown}");
    for status in [204, 304, 205, 200] {
        client.send(get("/", "")).await;
        let answer = client.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let answer = crate::harness::Message { head: answer, body: Vec::new(), trailers: String::new() };
        let length = match status {
            204 => vec![],
            // How long it would be if it had changed.
            304 => vec!["77"],
            _ => vec!["0"],
        };
        assert_eq!(answer.field("content-length"), length, "{}", answer.head);
    }
    assert_eq!(app.connections(), [0; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_is_answered_in_its_own_version() {
    let app = Recorder::with(|number| match number {
        1 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        _ => OK.to_owned(),
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.send("GET /a HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    // It knows no chunks: the body ends with the connection.
    let mut client = Wire::connect(proxy.address).await;
    client.send("GET /b HTTP/1.0\r\nHost: b\r\n\r\n").await;
    let answer = String::from_utf8(client.rest().await).unwrap();
    assert!(answer.ends_with("\r\n\r\nabc") && !answer.to_lowercase().contains("chunked"), "{answer}");
    let mut client = Wire::connect(proxy.address).await;
    let kept = "GET /c HTTP/1.0\r\nHost: c\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(client.ask(kept).await.text(), "ok");
    assert_eq!(client.ask(kept).await.text(), "ok");
    let got = app.got();
    assert!(got.iter().all(|got| got.head.contains(" HTTP/1.1\r\n") && got.field("host").len() == 1), "{got:#?}");
    assert_eq!(got[0].field("host"), [app.upstream().trim_start_matches("http://")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_is_passed_on_whole() {
    let app = crate::harness::Fake::start(|_, mut wire| async move {
        if wire.next_head().await.is_some() {
            wire.send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end").await;
        }
    })
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let answer = client.ask(get("/", "")).await;
    assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
    assert_eq!(answer.text(), "until the end");
    assert_eq!(client.ask(get("/", "")).await.text(), "until the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_of_every_form_reach_the_app() {
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    client.ask("GET http://other.example:81/x?y=1 HTTP/1.1\r\nHost: ignored\r\n\r\n").await;
    client.ask("GET http://other.example HTTP/1.1\r\nHost: ignored\r\n\r\n").await;
    client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.ask(get("//double//slash/../%2E%2e/x;y?a?b", "")).await;
    client.ask("BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let got = app.got();
    let lines: Vec<_> = got.iter().map(|got| got.head.lines().next().unwrap()).collect();
    let expected = ["GET /x?y=1", "GET /", "OPTIONS *", "GET //double//slash/../%2E%2e/x;y?a?b", "BREW /pot"];
    assert_eq!(lines, expected.map(|line| format!("{line} HTTP/1.1")));
    assert_eq!(got[0].field("host"), ["other.example:81"]);
    assert_eq!(got[1].field("host"), ["other.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_trailers_pass_in_both_directions() {
    let app = Recorder::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 900150\r\n\r\n",
    )
    .await;
    let proxy = plain(&app.upstream());
    let mut client = Wire::connect(proxy.address).await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up\r\n\
                   \r\n2\r\nhi\r\n0\r\nX-Up: 42\r\n\r\n";
    let answer = client.ask(request).await;
    assert_eq!((answer.text().as_str(), answer.field("trailer")), ("abc", vec!["X-Sum"]));
    assert_eq!(answer.trailers.to_lowercase(), "x-sum: 900150\r\n");
    let got = app.only();
    assert_eq!((got.text().as_str(), got.field("trailer"), got.field("te")), ("hi", vec!["X-Up"], vec!["trailers"]));
    assert_eq!(got.trailers.to_lowercase(), "x-up: 42\r\n");
    // A client that does not say it takes trailers gets none.
    let answer = client.ask(get("/", "")).await;
    assert_eq!((answer.text().as_str(), answer.trailers.as_str()), ("abc", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_behind_a_unix_socket_is_no_different() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("app.sock");
    let app = App::start(&["--unix", socket.to_str().unwrap()]);
    let proxy = Idlegate::shipped(&app.upstream, &[]);
    let token = crate::harness::log_in(proxy.address, "ada", "lovelace").await;
    let request = Request::post(proxy.address, "/api/validate-session").json(&json!({"session_id": token}));
    assert_eq!(request.send().await.status, 200);
    let seen = app.seen_of("request");
    assert_eq!(
        (&seen[1]["headers"]["host"], &seen[1]["audit_ip"]),
        (&json!(proxy.address.to_string()), &json!("127.0.0.1"))
    );
}
