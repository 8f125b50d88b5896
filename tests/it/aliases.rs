//! Header fields that an app takes for others: dropped in each spelling, in front of a real WSGI server as well.

use crate::harness::{Gunicorn, Idlegate, Recorder, Wire, eventually};
use crate::http::get;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

const RULE: &str = "[[token]]\nfrom = \"header\"\nname = \"session-id\"\n";

fn proxy(upstream: &str, more: &str) -> Idlegate {
    Idlegate::start(&format!("upstream = {upstream:?}\n{more}\n{RULE}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn gunicorn_serves_the_path_that_deny_and_the_rules_were_compared_with() {
    let app = Gunicorn::start("wsgi:application");
    let request = get("/x/api/setup", "SCRIPT_NAME: /x\r\nX_Real_IP: 6.6.6.6\r\nX-Kept_too: 1\r\n");
    // What must be prevented: without a proxy in front, gunicorn removes what the client sent as the script's name.
    let direct = Wire::connect(app.address).await.ask(&request).await;
    assert!(direct.text().contains("PATH_INFO=/api/setup\n"), "{}", direct.text());
    assert!(direct.text().contains("HTTP_X_REAL_IP=6.6.6.6\n"), "{}", direct.text());
    let proxy = proxy(&app.upstream(), "deny = [\"/api/setup\"]");
    let through = Wire::connect(proxy.address).await.ask(&request).await;
    assert!(through.text().contains("SCRIPT_NAME=\nPATH_INFO=/x/api/setup\nHTTP_X_REAL_IP=\n"), "{}", through.text());
    assert!(through.text().contains("HTTP_X_FORWARDED_FOR=127.0.0.1\n"), "{}", through.text());
    proxy.has_logged("dropped a header", 2).await;
    let named = proxy.logged("dropped a header");
    assert!(named[0].contains("name=script_name") && named[1].contains("name=x_real_ip"), "{named:?}");
    eventually("the count", async || proxy.metrics().await.contains("idlegate_headers_dropped_total 2\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_spellings_are_dropped_and_other_names_pass_in_their_order() {
    let app = Recorder::answering(OK).await;
    let fields = "A_b: 1\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Prefix: /y\r\nContent_Length: 7\r\nB: 2\r\n\
                  Transfer_Encoding: chunked\r\nPATH_INFO: /z\r\nsession_id: tok\r\nC_d: 3\r\n";
    for (setting, kept) in [("", &["A_b: 1", "B: 2", "session_id: tok", "C_d: 3"][..]), ("drop", &["B: 2"])] {
        let setting = if setting.is_empty() { "" } else { "underscores_in_headers = \"drop\"" };
        let proxy = proxy(&app.upstream(), setting);
        assert_eq!(Wire::connect(proxy.address).await.ask(get("/", fields)).await.status(), 200);
        let got = app.got().pop().unwrap();
        let ours = ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
        let others = got.head.trim_end().split("\r\n").skip(1);
        let others = others.filter(|line| !ours.contains(&line.split(':').next().unwrap().to_lowercase().as_str()));
        assert_eq!(others.collect::<Vec<_>>(), kept);
        assert_eq!(got.field("x-forwarded-for"), ["127.0.0.1"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rules_header_is_read_in_either_spelling() {
    let app = Recorder::answering(OK).await;
    let logout = "[[token]]\nfrom = \"header\"\nname = \"session-id\"\npaths = [\"/logout\"]\nends = true\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{RULE}{logout}", app.upstream()));
    let mut client = Wire::connect(proxy.address).await;
    // A session begins by either spelling, and is dead in both.
    assert_eq!(client.ask(get("/", "session_id: tok\r\n")).await.status(), 200);
    proxy.has_logged("a session is tracked", 1).await;
    assert_eq!(client.ask(get("/logout", "Session_ID: tok\r\n")).await.status(), 200);
    for name in ["session-id", "session_id", "SESSION_ID"] {
        assert_eq!(client.ask(get("/", &format!("{name}: tok\r\n"))).await.status(), 401, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_carry_nothing_that_belongs_into_a_head() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nTrailer: x-sum, set-cookie, content-length\r\nTransfer-Encoding: \
    chunked\r\n\r\n2\r\nok\r\n0\r\n\
                          x-sum: 2\r\nset-cookie: sid=1\r\ncontent-length: 7\r\n\r\n";
    let app = Recorder::answering(ANSWER).await;
    let proxy = proxy(&app.upstream(), "");
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum, x-forwarded-for, x_real_ip, \
    session_id, authorization, script_name, host\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\
                   X-Sum: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nsession_id: tok\r\nAuthorization: x\r\n\
                   SCRIPT_NAME: /x\r\nHost: b\r\n\r\n";
    let answer = Wire::connect(proxy.address).await.ask(chunked).await;
    assert_eq!((answer.text().as_str(), answer.trailers.to_ascii_lowercase().as_str()), ("ok", "x-sum: 2\r\n"));
    assert_eq!(app.only().trailers.to_ascii_lowercase(), "x-sum: 1\r\n");
}
