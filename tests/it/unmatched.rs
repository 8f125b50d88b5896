//! A rule that finds nothing is valid, and would never end a session: that is said, with the names that came.

use crate::harness::{Idlegate, Recorder, Request, Wire, ask, eventually};
use crate::http::get;
use http::Method;
use std::process::Command;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn proxy(app: &Recorder) -> Idlegate {
    let rules = "[[token]]\nfrom = \"cookie\"\nname = \"wrong\"\n[[token]]\nfrom = \"bearer\"\n";
    Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()))
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_twentieth_request_on_it_is_said_that_no_rule_has_matched() {
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
    proxy.tells("no rule has matched so far", 1).await;
    let line = proxy.logged("no rule has matched so far").remove(0);
    assert!(line.contains("cookie sid, cookie theme, header x-auth-token, query session_token"), "{line}");
    for command in ["sessions", "mode"] {
        let mut run = Command::new(env!("CARGO_BIN_EXE_idlegate"));
        let output = run.arg(command).env("IDLEGATE_ADMIN_LISTEN", &address).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.starts_with("No rule has matched in 40 requests, so no session will end. Seen: cookie sid, "),
            "{said}"
        );
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn strangers_fill_neither_memory_nor_log_with_names() {
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
    proxy.tells("no rule has matched so far", 1).await;
}
