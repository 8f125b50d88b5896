//! Rules that require a token: what passes without one, what is refused, and how.

use crate::harness::{
    Answer, App, CUT_FRAMES, Ends, Idlegate, Recorder, Request, TEXT, Wire, eventually, masked, switch, unmasked,
};
use http::Method;
use serde_json::json;
use std::io::Write;
use std::process::Command;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"token\":\"t\"}";

/// An app with a login page, static files, and an API with a login of its own.
const RULES: &str = r#"
[[token]]
from = "cookie"
name = "sid"
format = "[a-z]{4}"
required = true
except_paths = ["/static/*", "/api/*"]
[[token]]
from = "cookie"
name = "sid"
paths = ["/logout"]
ends = true
[[token]]
from = "response-json"
pointer = "/token"
paths = ["/api/login"]
[[token]]
from = "bearer"
required = true
paths = ["/api/*"]
methods = ["GET", "POST"]
"#;

fn site(app: &Recorder, more: &str) -> Idlegate {
    Idlegate::start(&format!("upstream = {:?}\n{RULES}\n[cut]\nlogin_url = \"/login?next=/\"\n{more}", app.upstream()))
}

fn navigation(request: Request) -> Request {
    request.header("accept", "text/html,*/*").header("sec-fetch-mode", "navigate")
}

async fn counted(proxy: &Idlegate, metric: &str, reason: &str) -> bool {
    proxy.metrics().await.contains(&format!("{metric}{{carrier=\"request\",reason=\"{reason}\"}} 1\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_the_token_never_reaches_the_app() {
    let app = Recorder::answering(OK).await;
    let proxy = site(&app, "");
    let page = |path: &str| navigation(Request::get(proxy.address, path));
    let to_login = page("/inbox").send().await;
    assert_eq!((to_login.status.as_u16(), &to_login.headers["location"]), (302, &"/login?next=/".parse().unwrap()));
    assert_eq!(to_login.headers["cache-control"], "no-store");
    assert!(!to_login.headers.contains_key("set-cookie"), "a browser that only kept its cookie back keeps it");
    let form = navigation(Request::post(proxy.address, "/inbox")).send().await;
    assert_eq!((form.status.as_u16(), &form.headers["location"]), (303, &"/login?next=/".parse().unwrap()));
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let call = Request::new(proxy.address, method.clone(), "/api/me").send().await;
        assert_eq!((call.status.as_u16(), &call.headers["content-type"]), (401, &"application/json".parse().unwrap()));
        assert!(method == Method::HEAD || call.json()["error"] == "token-missing", "{call:?}");
    }
    // In a form, or under a name, that the rule does not read.
    for (name, value) in [
        ("cookie", "SID=abcd"),
        ("cookie", "sid:abcd"),
        ("cookie", "a=1 sid=abcd"),
        ("cookie", "sid=\"abcd\""),
        ("cookie", "sid=abcd,a=1"),
        ("cookie", "sid=abcde"),
        ("authorization", "Bearer abcd"),
    ] {
        let refused = Request::get(proxy.address, "/inbox").header(name, value).send().await;
        assert_eq!(refused.status, 401, "{value}");
        let removed = refused.headers.get("set-cookie").map(|value| value.to_str().unwrap());
        assert_eq!(removed, value.contains("sid").then_some("sid=; Path=/; Max-Age=0"), "{value}");
    }
    for value in ["Token abcd", "Bearer", "Basic abcd", "Bearer\u{a0}abcd"] {
        let refused = Request::get(proxy.address, "/api/me").header("authorization", value).send().await;
        assert_eq!(refused.status, 401, "{value}");
    }
    for path in ["/static/..;/inbox", "/login/..;/inbox", "/api/login/..;/me"] {
        assert_eq!(Request::post(proxy.address, path).send().await.status, 401, "{path}");
    }
    let mut handshake = Wire::connect(proxy.address).await;
    handshake.send(crate::harness::handshake("/ws", "")).await;
    assert!(handshake.head().await.starts_with("HTTP/1.1 401 "));
    assert!(app.got().is_empty(), "{:#?}", app.got());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_a_token_is_open() {
    let app = Recorder::answering(OK).await;
    let proxy = site(&app, "");
    for (method, path) in [
        ("GET", "/login?next=/x"),
        ("POST", "/login"),
        ("GET", "/static/a%20b.css"),
        ("POST", "/api/login"),
        ("DELETE", "/api/me"),
    ] {
        let answer = navigation(Request::new(proxy.address, method.parse().unwrap(), path)).send().await;
        assert_eq!(answer.status, 200, "{method} {path}");
    }
    let preflight = |path: &str| {
        let request = Request::new(proxy.address, Method::OPTIONS, path).header("origin", "https://a.example");
        request.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-a")
    };
    assert_eq!(preflight("/inbox").send().await.status, 200);
    assert_eq!(preflight("/inbox").header("cookie", "a=1 sid=abcd").send().await.status, 401, "that is no preflight");
    assert_eq!(Request::new(proxy.address, Method::OPTIONS, "/inbox").send().await.status, 401);
    let with = |path: &str, name: &str, value: &str| Request::get(proxy.address, path).header(name, value);
    assert_eq!(with("/inbox", "cookie", "sid=abcd").send().await.status, 200);
    assert_eq!(with("/inbox", "cookie", "theme=\"dark\"; sid=abcd").send().await.status, 200);
    assert_eq!(with("/api/me", "authorization", "Bearer t").send().await.status, 200);
    assert_eq!(app.got().len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_removal_is_for_cookies_that_came() {
    let app = Recorder::answering(OK).await;
    let proxy = site(&app, r#"http_headers = { "Set-Cookie" = "sid=; Path=/app; Max-Age=0", Vary = "Origin" }"#);
    for (cookie, removal) in [("theme=dark", None), ("sid=\"\"", Some("sid=; Path=/app; Max-Age=0"))] {
        let refused = Request::get(proxy.address, "/inbox").header("cookie", cookie).send().await;
        assert_eq!(refused.headers.get("set-cookie").map(|value| value.to_str().unwrap()), removal, "{cookie}");
        assert_eq!((refused.status.as_u16(), &refused.headers["vary"]), (401, &"Origin".parse().unwrap()));
    }
}

/// A single-page app cannot remove its `HttpOnly` cookie, and would send it to its login for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cookie_is_removed_and_the_next_login_passes() {
    let app = Recorder::answering(OK).await;
    let login = "[cut.logout]\nlogin_url = '/login?next=/&why=\"'\n";
    let proxy = site(&app, &format!("{login}[cut.missing]\nhttp_status = 403\nhttp_body = \"login first\"\n"));
    let call = async |path: &str, cookie: &str| -> Answer {
        let request = Request::post(proxy.address, path).header("sec-fetch-mode", "cors");
        if cookie.is_empty() { request.send().await } else { request.header("cookie", cookie).send().await }
    };
    for path in ["/inbox", "/logout"] {
        assert_eq!(call(path, "sid=abcd").await.status, 200);
    }
    eventually("the end", async || !proxy.logged("reason=logout").is_empty()).await;
    let seen = app.got().len();
    for cookie in ["sid=abcd", "sid=\"abcd\"", "sid=%61bcd", "sid=wxyz; sid=abcd"] {
        let dead = call("/login", cookie).await;
        assert_eq!((dead.status.as_u16(), &dead.json()["error"]), (401, &json!("session ended")), "{cookie}");
        assert_eq!(dead.headers["set-cookie"], "sid=; Path=/; Max-Age=0");
    }
    // Where the login itself is refused there is a page.
    let form = navigation(Request::get(proxy.address, "/login")).header("cookie", "sid=abcd").send().await;
    let page = String::from_utf8_lossy(&form.body);
    assert!(page.contains("<h1>Your session has ended</h1>"), "{page}");
    assert!(page.contains("<a href=\"/login?next=/&amp;why=&quot;\">Log in</a>"), "{page}");
    let missing = call("/inbox", "").await;
    assert_eq!((missing.status.as_u16(), &missing.body[..]), (403, &b"login first"[..]));
    assert_eq!(app.got().len(), seen);
    assert_eq!(call("/login", "").await.status, 200);
}

#[test]
fn check_refuses_a_site_without_a_way_in() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let rule = "[[token]]\nfrom = \"cookie\"\nname = \"sid\"\nrequired = true\n";
    write!(file, "upstream = \"http://127.0.0.1:9\"\n{rule}").unwrap();
    let check = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
        let output =
            command.arg("check").arg("--config").arg(file.path()).envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = check(&[]);
    let says = ":5: token.0.required: every request needs the token, and so no client could log in to get one; set cut.login_url";
    assert!(code == Some(2) && told.contains(says), "{code:?} {told}");
    let opened = [("IDLEGATE_CUT_LOGIN_URL", "/login"), ("IDLEGATE_TOKEN_0_EXCEPT_PATHS", "/login")];
    for variable in opened {
        assert_eq!(check(&[variable]).0, Some(0), "{variable:?}");
    }
    let (code, told) = check(&[("IDLEGATE_CUT_LOGIN_URL", "https://app.example/login")]);
    assert!(code == Some(2) && told.contains("add except_paths = [\"/login\"]"), "{code:?} {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_records_what_it_does_without_the_token() {
    let app = Recorder::answering(OK).await;
    let proxy = site(&app, "[idle]\nmode = \"observe\"\n");
    let get = async || Request::get(proxy.address, "/inbox?t=1").send().await.status.as_u16();
    assert_eq!(get().await, 200);
    eventually("the record", async || proxy.records("would-refuse").len() == 1).await;
    assert!(counted(&proxy, "idlegate_would_refusals_total", "missing").await);
    let is_switched = async |mode: &str| assert_eq!(switch(&proxy, json!({"mode": mode, "yes": true})).await.0, 200);
    is_switched("off").await;
    assert_eq!(get().await, 200);
    assert_eq!(proxy.records("would-refuse").len(), 1);
    let enforcing = site(&app, "");
    assert_eq!(Request::get(enforcing.address, "/inbox?t=1").send().await.status, 401);
    eventually("the record", async || enforcing.records("refuse").len() == 1).await;
    assert!(counted(&enforcing, "idlegate_refusals_total", "missing").await);
    let (would, refused) = (proxy.records("would-refuse").remove(0), enforcing.records("refuse").remove(0));
    for (record, mode) in [(would, "observe"), (refused, "enforce")] {
        let told =
            ["reason", "rule", "carrier", "client", "route", "mode"].map(|field| record[field].as_str().unwrap());
        assert_eq!(told, ["missing", "token.0 (cookie sid)", "request", "127.0.0.1", "/inbox", mode], "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_refreshes_no_other_session() {
    let app = Recorder::answering(OK).await;
    let rules = "[[token]]\nfrom = \"header\"\nname = \"x-token\"\n[[token]]\nfrom = \"bearer\"\nrequired = true\n\
                 paths = [\"/api/*\"]\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{rules}[idle]\ntimeout = \"2s\"\n", app.upstream()));
    let get =
        async |path: &str| Request::get(proxy.address, path).header("x-token", "one").send().await.status.as_u16();
    assert_eq!(get("/").await, 200);
    eventually("the cut", async || {
        assert_eq!(get("/api/me").await, 401);
        !proxy.records("cut").is_empty()
    })
    .await;
}

const WITHIN: (&str, &str) = ("IDLEGATE_TOKEN_2_REQUIRED_WITHIN", "1s");
const OFFER: &[u8] = br#"{"cmd":"authenticate","session_id":"token-in-time"}"#;
const ACCEPTED: &[u8] = br#"{"type":"auth_success"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_sends_no_token_in_time_is_closed_and_others_stay() {
    let mut ends = Ends::start_with(&[WITHIN, ("IDLEGATE_CUT_MISSING_WS_CODE", "4001")]).await;
    let (mut named, mut named_app) = ends.open("/ws", "").await;
    named.send(masked(TEXT, OFFER)).await;
    assert_eq!(named_app.frame().await, (TEXT, OFFER.into()));
    named_app.send(unmasked(TEXT, ACCEPTED)).await;
    // The app has not answered yet.
    let (mut waiting, mut waiting_app) = ends.open("/ws", "").await;
    waiting.send(masked(TEXT, OFFER)).await;
    assert_eq!(waiting_app.frame().await, (TEXT, OFFER.into()));
    let (mut elsewhere, mut elsewhere_app) = ends.open("/plain", "").await;
    let (mut silent, mut silent_app) = ends.open("/ws", "").await;
    let (mut loose, _loose_app) = ends.open("/ws", "").await;
    loose.send(masked(TEXT, br#"{"cmd":"authenticate","sessionId":"token-in-time"}"#)).await;
    for client in [&mut silent, &mut loose] {
        assert_eq!(client.frame().await, (TEXT, b"bye".into()));
        assert_eq!(client.frame().await, (0x88, [&4001_u16.to_be_bytes()[..], b"idle"].concat()));
        assert_eq!(client.rest().await, b"");
    }
    assert_eq!(silent_app.frame().await.0, 0x88);
    for (client, app) in
        [(&mut named, &mut named_app), (&mut waiting, &mut waiting_app), (&mut elsewhere, &mut elsewhere_app)]
    {
        client.send(masked(TEXT, b"still here")).await;
        assert_eq!(app.frame().await, (TEXT, b"still here".into()));
    }
    eventually("both records", async || ends.proxy.records("refuse").len() == 2).await;
    let refused = &ends.proxy.records("refuse")[0];
    let told = ["reason", "rule", "carrier", "route"].map(|field| refused[field].as_str().unwrap());
    assert_eq!(told, ["missing", "token.2 (ws-client /session_id)", "tunnel", "/ws"], "{refused}");
    let metrics = ends.proxy.metrics().await;
    assert!(metrics.contains("idlegate_refusals_total{carrier=\"tunnel\",reason=\"missing\"} 2\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_a_mode_let_pass_is_closed_once_the_mode_enforces() {
    let mut ends = Ends::start_with(&[WITHIN]).await;
    let is_switched =
        async |proxy: &Idlegate, mode: &str| assert_eq!(switch(proxy, json!({"mode": mode, "yes": true})).await.0, 200);
    is_switched(&ends.proxy, "observe").await;
    let (mut client, mut app) = ends.open("/ws", "").await;
    eventually("the record", async || ends.proxy.records("would-refuse").len() == 1).await;
    client.send(masked(TEXT, b"still here")).await;
    assert_eq!(app.frame().await, (TEXT, b"still here".into()));
    assert!(ends.proxy.records("refuse").is_empty());
    is_switched(&ends.proxy, "enforce").await;
    assert_eq!(client.rest().await, CUT_FRAMES);
    eventually("the record", async || ends.proxy.records("refuse").len() == 1).await;
    assert_eq!(ends.proxy.records("would-refuse").len(), 1);
}

/// A person types the password on the open socket: the app's answer brings the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_app_issues_on_the_socket_is_in_time() {
    let app = App::start(&["--ping", "600"]);
    let within = ("IDLEGATE_TOKEN_1_REQUIRED_WITHIN", "2s");
    let proxy = Idlegate::shipped(&app.upstream, &[within]);
    let opened = async || {
        let mut client = Wire::connect(proxy.address).await;
        client.upgrade("/ws", "").await;
        client.frame().await;
        client
    };
    let mut person = opened().await;
    person.send(masked(TEXT, br#"{"cmd":"authenticate","username":"ada","password":"lovelace"}"#)).await;
    let (_, answer) = person.frame().await;
    assert!(String::from_utf8_lossy(&answer).contains("auth_success"));
    let mut silent = opened().await;
    assert_eq!(silent.frame().await.0, TEXT);
    assert_eq!(silent.frame().await.0, 0x88);
    person.send(masked(0x89, b"x")).await;
    assert_eq!(person.frame().await, (0x8a, b"x".into()));
}
