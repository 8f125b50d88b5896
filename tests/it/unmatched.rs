//! A rule that finds nothing is valid, and would never end a session: that is said, with the names that came.

use crate::harness::{Gunicorn, Idlegate, Recorder, Request, Wire, ask, eventually};
use crate::http::get;
use http::Method;
use std::process::Command;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn proxy(app: &Recorder) -> Idlegate {
    let rules = "[[token]]\nfrom = \"cookie\"\nname = \"wrong\"\n[[token]]\nfrom = \"bearer\"\n";
    Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()))
}

#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_requests_without_a_match_it_is_reported() {
    let app = Recorder::answering(OK).await;
    let proxy = proxy(&app);
    let address = proxy.admin().to_string();
    let mut client = Wire::connect(proxy.address).await;
    let request = get("/?page=1&session_token=hidden-1", "Cookie: sid=hidden-2; theme=x\r\nX-Auth-Token: hidden-3\r\n");
    let report = async || ask(&proxy, Method::GET, "/sessions").await.1["no_match"].clone();
    for _ in 0..19 {
        client.ask(&request).await;
    }
    assert!(report().await.is_null());
    client.ask(&request).await;
    let no_match = report().await;
    assert_eq!(no_match["requests"], 20, "{no_match}");
    let names: Vec<_> = no_match["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, ["cookie sid", "cookie theme", "header x-auth-token", "query session_token"]);
    for _ in 0..20 {
        client.ask(&request).await;
    }
    proxy.has_logged("no rule has matched so far", 1).await;
    let line = proxy.logged("no rule has matched so far").remove(0);
    assert!(line.contains("cookie sid, cookie theme, header x-auth-token, query session_token"), "{line}");
    for command in ["sessions", "mode"] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_idlegate"));
        let output = run.arg(command).env("IDLEGATE_ADMIN_LISTEN", &address).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.starts_with("No rule has matched in 40 requests, so no session will end. Rules: token.0 (cookie wrong), token.1 (bearer). Seen: cookie sid, "),
            "{said}"
        );
    }
    let (said, code) = doctor(&app, &proxy);
    assert!(said.contains("WRONG  No rule has matched in 40 requests") && code == Some(1), "{said}");
    assert!(!proxy.all_said().contains("hidden-"));
    // One that matches ends it.
    assert_eq!(Request::get(proxy.address, "/").header("authorization", "Bearer good").send().await.status, 200);
    eventually("the match to be known", async || report().await.is_null()).await;
    let metrics = proxy.metrics().await;
    for line in [
        "idlegate_rule_matches_total{rule=\"0\",from=\"cookie\"} 0\n",
        "idlegate_rule_matches_total{rule=\"1\",from=\"bearer\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

/// What `doctor` says beside a running idlegate, and its exit code.
fn doctor(app: &Recorder, proxy: &Idlegate) -> (String, Option<i32>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rules = "[[token]]\nfrom = \"bearer\"\n";
    let admin = proxy.admin();
    std::fs::write(&file, format!("upstream = {:?}\n[admin]\nlisten = \"{admin}\"\n{rules}", app.upstream())).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    let output = run.arg("doctor").arg("--config").arg(file.path()).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_json_fields_are_listed_where_rules_look_into_json() {
    let app = Recorder::answering(OK).await;
    let rules = "[[token]]\nfrom = \"request-json\"\npointer = \"/wrong\"\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()));
    let body = r#"{"user":{"session_id":"hidden-1","age":7},"theme":"x","auth~key":"hidden-2","token":5}"#;
    for _ in 0..20 {
        let request = Request::new(proxy.address, Method::POST, "/api/x").body(body);
        assert_eq!(request.send().await.status, 200);
    }
    let no_match = ask(&proxy, Method::GET, "/mode").await.1["no_match"].clone();
    assert_eq!(no_match["names"], serde_json::json!(["request-json /auth~0key", "request-json /user/session_id"]));
    assert_eq!(no_match["rules"], serde_json::json!(["token.0 (request-json /wrong)"]));
    assert!(!proxy.all_said().contains("hidden-"));
}

/// An app that sets its cookie with every second answer: ten times to the same value, as logins do, then to a new one.
async fn changing_app() -> Recorder {
    Recorder::with(|number| {
        let cookie = match number {
            _ if number % 2 == 0 => String::new(),
            0..20 => "Set-Cookie: sid=stays\r\n".to_owned(),
            _ => format!("Set-Cookie: sid=secret-{number}; Path=/; HttpOnly\r\n"),
        };
        format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: 2\r\n\r\nok")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_app_changes_while_its_user_stays_logged_in_is_reported() {
    let app = changing_app().await;
    let rules = "[[token]]\nfrom = \"cookie\"\nname = \"sid\"\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()));
    let mut client = Wire::connect(proxy.address).await;
    let mut value = "first".to_owned();
    let changing = async || ask(&proxy, Method::GET, "/mode").await.1["changing"].clone();
    let mut go = async || {
        // The first request begins the session, and the second belongs to a live one.
        for _ in 0..2 {
            let answer = client.ask(get("/", &format!("Cookie: sid={value}\r\n"))).await;
            if let Some(cookie) = answer.field("set-cookie").first() {
                value = cookie.trim_start_matches("sid=").split(';').next().unwrap().to_owned();
            }
        }
    };
    // Ten logins change the token once, and four more responses are too few to tell.
    for _ in 0..13 {
        go().await;
    }
    assert!(changing().await.is_null(), "{}", changing().await);
    for _ in 0..3 {
        go().await;
    }
    assert_eq!(changing().await, serde_json::json!(["token.0 (cookie sid)"]));
    proxy.has_logged("the app changes this token while its user stays logged in", 1).await;
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("idlegate_rule_token_changes_total{rule=\"0\",from=\"cookie\"} 7\n"), "{metrics}");
    let (said, code) = doctor(&app, &proxy);
    assert!(said.contains("WRONG  The app changes its token while users stay logged in: token.0"), "{said}");
    assert_eq!(code, Some(1));
    assert!(!proxy.all_said().contains("secret-"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_flask_app_that_writes_to_its_session_is_reported_and_its_logins_are_not() {
    let app = Gunicorn::start("cart:application");
    // A cookie is used before the app replaces it, or replaced at its first use.
    for writes in [["/me", "/add"], ["/add", "/add"]] {
        let rules = "[[token]]\nfrom = \"cookie\"\nname = \"session\"\n";
        let proxy = Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()));
        let changing = async || ask(&proxy, Method::GET, "/mode").await.1["changing"].clone();
        let mut client = Wire::connect(proxy.address).await;
        let mut cookie = String::new();
        let mut go = async |path: &str| {
            let answer = client.ask(get(path, &format!("Cookie: {cookie}\r\n"))).await;
            assert_eq!(answer.status(), 200, "{answer:?}");
            if let Some(set) = answer.field("set-cookie").first() {
                set.split(';').next().unwrap().clone_into(&mut cookie);
            }
        };
        for path in ["/login", "/me", "/me", "/login", "/me", "/login", "/me"] {
            go(path).await;
        }
        assert!(changing().await.is_null(), "{}", changing().await);
        for path in writes.repeat(5) {
            go(path).await;
        }
        assert_eq!(changing().await, serde_json::json!(["token.0 (cookie session)"]));
        proxy.has_logged("the app changes this token while its user stays logged in", 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_clients_are_bounded() {
    let app = Recorder::answering(OK).await;
    let proxy = proxy(&app);
    let mut client = Wire::connect(proxy.address).await;
    for number in 0..30 {
        let long = "n".repeat(1000);
        let cookie = format!("Cookie: name-{number}=1; {long}=1; \"odd\u{e9}=1; a b=2\r\n");
        client.ask(get("/", &cookie)).await;
    }
    let no_match = ask(&proxy, Method::GET, "/mode").await.1["no_match"].clone();
    let names = no_match["names"].as_array().unwrap();
    assert_eq!(names.len(), 16, "{no_match}");
    assert!(names.iter().all(|name| name.as_str().unwrap().len() <= 50), "{no_match}");
    proxy.has_logged("no rule has matched so far", 1).await;
}
