//! Every place where a token may travel over HTTP, each with a real exchange.

use crate::harness::{Idlegate, Message, Recorder, Wire, eventually};
use std::fmt::Write as _;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
const HEADER: &str = "from = \"header\"\nname = \"session-id\"";
const JSON: &str = "from = \"request-json\"\npointer = \"/session_id\"\npaths = [\"/json\", \"/logout\"]";

/// A proxy with these rules; on `/logout` the first of them ends the session.
fn with_rules(app: &Recorder, rules: &[&str]) -> Idlegate {
    let mut config = format!("upstream = {:?}\n", app.upstream());
    for rule in rules {
        write!(config, "[[token]]\n{rule}\n").unwrap();
    }
    let first = rules[0].split("\npaths").next().unwrap();
    write!(config, "[[token]]\n{first}\npaths = [\"/logout\"]\nends = true\n").unwrap();
    Idlegate::start(&config)
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn post(path: &str, fields: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

async fn ask(proxy: &Idlegate, request: impl AsRef<[u8]>) -> Message {
    Wire::connect(proxy.address).await.ask(request).await
}

/// After a login and a logout in the plainest form, every form of the same token is refused, and the app sees none.
async fn dead_in_every_form(rule: &str, live: &str, logout: &str, dead: &[String], other: &str) {
    let app = Recorder::answering(OK).await;
    let proxy = with_rules(&app, &[rule]);
    assert_eq!(ask(&proxy, live).await.status(), 200);
    assert_eq!(ask(&proxy, live).await.status(), 200);
    assert_eq!(ask(&proxy, logout).await.status(), 200);
    eventually("the end", async || proxy.logged("session ended").len() == 1).await;
    let before = app.got().len();
    for request in dead {
        let answer = ask(&proxy, request).await;
        assert_eq!(answer.status(), 401, "{request}");
    }
    assert_eq!(app.got().len(), before, "the app saw a dead token");
    assert_eq!(ask(&proxy, other).await.status(), 200, "another token is another session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_header() {
    let field = |value: &str| format!("Session-Id: {value}\r\n");
    let dead = ["tok", "  tok  ", "tok\t", "alive\r\nsession-id: tok", "tok\r\nsession-id: alive"];
    let dead: Vec<_> = dead.map(|value| get("/", &field(value))).into();
    dead_in_every_form(
        HEADER,
        &get("/", &field("tok")),
        &get("/logout", &field("tok")),
        &dead,
        &get("/", &field("new")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_authorization() {
    let field = |value: &str| format!("Authorization: {value}\r\n");
    let dead = ["Bearer tok", "bearer  tok", "BEARER tok ", "Basic x\r\nAuthorization: Bearer tok"];
    let dead: Vec<_> = dead.map(|value| get("/", &field(value))).into();
    let (live, logout) = (get("/", &field("Bearer tok")), get("/logout", &field("Bearer tok")));
    dead_in_every_form("from = \"bearer\"", &live, &logout, &dead, &get("/", &field("Bearer new"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_cookie() {
    let field = |value: &str| format!("Cookie: {value}\r\n");
    let dead = [
        "sid=tok",
        "a=1; sid=\"tok\"",
        "sid=%74ok",
        "sid=\"\\164ok\"",
        "sid=new; sid=tok",
        "sid=tok; sid=new",
        "sid=new\r\nCookie: sid=tok",
    ];
    let dead: Vec<_> = dead.map(|value| get("/", &field(value))).into();
    let rule = "from = \"cookie\"\nname = \"sid\"";
    dead_in_every_form(
        rule,
        &get("/", &field("sid=tok")),
        &get("/logout", &field("sid=tok")),
        &dead,
        &get("/", &field("sid=new")),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_query() {
    let dead = ["/?t=tok", "/?a=b&t=%74ok", "/?%74=tok", "/?t=new&t=tok", "/?t=tok+", "/x?t=tok#t=new"];
    let dead: Vec<_> = dead.map(|target| get(target, "")).into();
    let rule = "from = \"query\"\nname = \"t\"";
    dead_in_every_form(rule, &get("/?t=tok", ""), &get("/logout?t=tok", ""), &dead, &get("/?t=new", "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_json_of_a_request() {
    let dead = [
        r#"{"session_id":"tok"}"#,
        r#"{"session_id":" tok\n"}"#,
        r#"{"session_id":"\u0074ok"}"#,
        r#"{"session\u005fid":"tok"}"#,
        r#"{"session_id":"new","session_id":"tok"}"#,
        r#"{"session_id":"tok","session_id":"new"}"#,
        r#"{"session_id":"tok","x":NaN}"#,
    ];
    let mut dead: Vec<_> = dead.map(|body| post("/json", "", body)).into();
    dead.push("POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"session\r\nb\r\n_id\":\"tok\"}\r\n0\r\n\r\n".into());
    dead.push(post("/x/..//json/", "", r#"{"session_id":"tok"}"#));
    let plain = r#"{"session_id":"tok"}"#;
    let other = post("/json", "", r#"{"session_id":"new"}"#);
    dead_in_every_form(JSON, &post("/json", "", plain), &post("/logout", "", plain), &dead, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_dead_token_among_several_refuses() {
    let app = Recorder::answering(OK).await;
    let proxy = with_rules(&app, &[HEADER, "from = \"cookie\"\nname = \"sid\"", JSON]);
    ask(&proxy, get("/", "session-id: dead\r\n")).await;
    ask(&proxy, get("/logout", "session-id: dead\r\n")).await;
    let before = app.got().len();
    for request in [
        get("/", "session-id: alive\r\nCookie: sid=dead\r\n"),
        get("/", "Cookie: sid=junk; sid=dead\r\nsession-id: alive\r\n"),
        post("/json", "session-id: alive\r\nCookie: sid=alive\r\n", r#"{"session_id":"dead"}"#),
    ] {
        assert_eq!(ask(&proxy, &request).await.status(), 401, "{request}");
    }
    assert_eq!(app.got().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_forwarded_byte_for_byte_in_its_own_framing() {
    let app = Recorder::answering(OK).await;
    let proxy = with_rules(&app, &[JSON]);
    let body = "{ \"session_id\" :\t\"t\\u006fk\",\r\n\"x\": NaN, \"x\": 1e999}\n";
    let mut client = Wire::connect(proxy.address).await;
    client.ask(post("/json", "Expect: 100-continue\r\n", body).split("{ ").next().unwrap()).await;
    client.send(body).await;
    assert_eq!(client.message().await.status(), 200);
    let chunked = format!("{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", 5, &body[..5], body.len() - 5, &body[5..]);
    client.ask(format!("POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")).await;
    let got = app.got();
    assert_eq!([got[0].text(), got[1].text()], [body, body]);
    assert_eq!(got[0].field("content-length"), [body.len().to_string()]);
    assert_eq!((got[1].field("content-length"), got[1].field("transfer-encoding")), (vec![], vec!["chunked"]));
    // Nothing in it, nothing to find.
    for request in [
        post("/json", "", ""),
        "OPTIONS /json HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: POST\r\n\r\n".to_owned(),
        get("/json", ""),
        "POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ] {
        assert_eq!(ask(&proxy, &request).await.status(), 200, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_bodies_are_refused_only_on_the_rules_paths() {
    let app = Recorder::answering(OK).await;
    let proxy = with_rules(&app, &[JSON]);
    let fits = format!("{{\"x\":\"{}\"}}", "y".repeat(64 * 1024 - 8));
    let large = format!("{fits} ");
    let chunked = format!(
        "POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    let packed = "Content-Encoding: gzip\r\n";
    for (request, status) in [
        (post("/json", "", &fits), 200),
        (post("/json", "", &large), 413),
        (chunked, 413),
        (post("/json", "", "{'session_id':'tok'}"), 400),
        (post("/json", packed, "\x1f\x08"), 400),
        (post("/json", packed, "{}"), 400),
        (post("/other", "", &large), 200),
        (post("/other", packed, "\x1f\x08"), 200),
        (post("/other", "", "{'session_id':'tok'}"), 200),
    ] {
        let answer = ask(&proxy, &request).await;
        assert_eq!(answer.status(), status, "{}", &request[..request.len().min(200)]);
    }
    assert_eq!(app.got().len(), 4);
}

const LOGIN: &str = "from = \"response-json\"\npointer = \"/session_id\"\npaths = [\"/login\"]";

fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_answer_to_a_login() {
    let small = r#"{"session_id":"tok"}"#;
    let large = format!("{{\"x\":\"{}\",\"session_id\":\"tok\"}}", "y".repeat(70_000));
    let app = Recorder::with(move |number| match number {
        0 => answer("Transfer-Encoding: chunked\r\n", "9\r\n{\"session\r\nb\r\n_id\":\"tok\"}\r\n0\r\n\r\n"),
        1 => answer(&format!("Content-Length: {}\r\n", small.len()), small),
        2 => answer(&format!("Content-Length: {}\r\n", large.len()), &large),
        3 => answer("Content-Length: 1234\r\n", ""),
        _ => answer("Content-Length: 9\r\n", "not JSON!"),
    })
    .await;
    let proxy = with_rules(&app, &[HEADER, LOGIN]);
    let mut client = Wire::connect(proxy.address).await;
    let request = post("/login", "Accept-Encoding: gzip, br\r\n", "name=ada");
    let first = client.ask(&request).await;
    assert_eq!((first.text().as_str(), first.field("transfer-encoding")), (small, vec!["chunked"]));
    let second = client.ask(&request).await;
    assert_eq!((second.text().as_str(), second.field("content-length")), (small, vec!["20"]));
    let third = client.ask(&request).await;
    assert!(third.text().contains(&"y".repeat(70_000)), "{} bytes came", third.body.len());
    client.send("HEAD /login HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.contains("Content-Length: 1234\r\n"));
    assert_eq!(client.ask(&request).await.text(), "not JSON!");
    assert_eq!(app.got()[0].field("accept-encoding"), ["identity"]);
    // Known before it is used: it dies with its session, although the app never said yes to a request with it.
    ask(&proxy, get("/logout", "session-id: tok\r\n")).await;
    assert_eq!(ask(&proxy, get("/", "session-id: tok\r\n")).await.status(), 401);
    ask(&proxy, get("/x", "Accept-Encoding: gzip\r\n")).await;
    assert_eq!(app.got().last().unwrap().field("accept-encoding"), ["gzip"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_accepting_answer_begins_a_session() {
    let statuses = ["401 Unauthorized", "403 Forbidden", "500 Internal Server Error", "302 Found", "200 OK"];
    let app = Recorder::with(move |number| {
        let kind = if number == 5 { "application/json; charset=utf-8" } else { "text/html" };
        let status = statuses[number.min(4)];
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    let rule = format!("{HEADER}\naccept_type = \"application/json\"");
    let mut proxy = with_rules(&app, &[&rule, LOGIN]);
    for _ in 0..6 {
        ask(&proxy, get("/", "session-id: tok\r\n")).await;
    }
    assert!(proxy.stop().await.success());
    eventually("the last word", async || proxy.logged("stopped").len() == 1).await;
    assert!(proxy.logged("stopped")[0].contains("tracked=1"), "{:?}", proxy.logged("stopped"));
}
