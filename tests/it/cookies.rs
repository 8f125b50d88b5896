//! An app of pages, whose session is a cookie.

use crate::harness::{Answer, Fake, Idlegate, Recorder, Redis, Request, Wire, eventually};
use crate::http::get;
use std::fmt::Write as _;

/// Answers every page; a logout by a redirect, as pages do.
async fn pages() -> Fake {
    Fake::start(|_, mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let answer = if head.starts_with("GET /logout ") {
                "HTTP/1.1 303 See Other\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
            };
            wire.send(answer).await;
        }
    })
    .await
}

fn proxy(app: &Fake, more: &str) -> Idlegate {
    Idlegate::start(&format!(
        r#"
        upstream = "{}"
        [idle]
        timeout = "1h"
        [[token]]
        from = "cookie"
        name = "__Host-sid"
        [[token]]
        from = "cookie"
        name = "__Host-sid"
        paths = ["/logout"]
        ends = true
        [cut]
        login_url = "/login?why=idle"
        {more}
        "#,
        app.upstream()
    ))
}

async fn page(proxy: &Idlegate, path: &str) -> Answer {
    let request = Request::get(proxy.address, path).header("cookie", "theme=dark; __Host-sid=abc");
    request.header("accept", "text/html").send().await
}

async fn log_out(proxy: &Idlegate) {
    assert_eq!(page(proxy, "/").await.status, 200);
    assert_eq!(page(proxy, "/logout").await.status, 303);
    eventually("the end", async || !proxy.logged("reason=logout").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_cookie_is_taken_away_so_that_one_can_log_in_again() {
    let app = pages().await;
    let proxy = proxy(&app, "");
    log_out(&proxy).await;
    let refused = page(&proxy, "/").await;
    assert_eq!((refused.status.as_u16(), &refused.headers["location"]), (302, &"/login?why=idle".parse().unwrap()));
    assert_eq!(refused.headers["set-cookie"], "__Host-sid=; Path=/; Max-Age=0; Secure");
    // A browser that keeps the cookie anyway is not redirected in circles.
    let login = page(&proxy, "/login?why=idle").await;
    assert_eq!(login.status, 401);
    assert_eq!(login.headers["set-cookie"], "__Host-sid=; Path=/; Max-Age=0; Secure");
    let without = Request::get(proxy.address, "/login").header("cookie", "theme=dark").send().await;
    assert_eq!(without.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_words_go_before() {
    let app = pages().await;
    let proxy =
        proxy(&app, r#"http_headers = { "Set-Cookie" = "__Host-sid=; Path=/; Max-Age=0; Secure; SameSite=Lax" }"#);
    log_out(&proxy).await;
    let cookies: Vec<_> = page(&proxy, "/").await.headers.get_all("set-cookie").iter().cloned().collect();
    assert_eq!(cookies, ["__Host-sid=; Path=/; Max-Age=0; Secure; SameSite=Lax"]);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Begins no session, which would be a call of its own.
const NO: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";

fn with_cookies(cookies: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{cookies}\r\n")
}

fn sid_proxy(app: &Recorder, more: &str) -> Idlegate {
    let rules = "[[token]]\nfrom = \"cookie\"\nname = \"sid\"\n[[token]]\nfrom = \"cookie\"\nname = \"sid\"\n\
                 paths = [\"/logout\"]\nends = true\n";
    Idlegate::start(&format!("upstream = {:?}\n{rules}{more}", app.upstream()))
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_left_behind_beside_a_live_one_are_not_forwarded_and_refuse_nothing() {
    let app = Recorder::answering(OK).await;
    let proxy = sid_proxy(&app, "");
    let mut client = Wire::connect(proxy.address).await;
    for live in ["dead", "live"] {
        assert_eq!(client.ask(with_cookies(&format!("Cookie: sid={live}\r\n"))).await.status(), 200);
    }
    let logout = "GET /logout HTTP/1.1\r\nHost: a\r\nCookie: sid=dead\r\n\r\n";
    assert_eq!(client.ask(logout).await.status(), 200);
    assert_eq!(client.ask(with_cookies("Cookie: sid=dead\r\n")).await.status(), 401);
    for (sent, forwarded) in [
        ("Cookie: sid=dead; a=1;  b=\"2\";sid=live\r\nX-Last: 1\r\n", &["a=1;  b=\"2\";sid=live"][..]),
        ("Cookie: sid=live; sid=never-seen; sid=\"dead\"\r\n", &["sid=live"]),
        ("Cookie: sid=dead\r\nX-Between: 1\r\nCookie: sid=live; c\r\n", &["sid=live; c"]),
        ("Cookie: other=dead; sid=live\r\n", &["other=dead; sid=live"]),
    ] {
        assert_eq!(client.ask(with_cookies(sent)).await.status(), 200, "{sent}");
        let got = app.got().pop().unwrap();
        assert_eq!(got.field("cookie"), forwarded, "{sent}");
    }
    // Without a live one, the dead one refuses.
    assert_eq!(client.ask(with_cookies("Cookie: sid=never-seen; sid=dead\r\n")).await.status(), 401);
    // In `observe` requests pass as they came.
    let observing = sid_proxy(&app, "[idle]\nmode = \"observe\"\n");
    let mut client = Wire::connect(observing.address).await;
    client.ask(with_cookies("Cookie: sid=live\r\n")).await;
    client.ask(with_cookies("Cookie: sid=x; sid=live\r\n")).await;
    assert_eq!(app.got().pop().unwrap().field("cookie"), ["sid=x; sid=live"]);
    let metrics = proxy.metrics().await;
    assert!(metrics.contains("idlegate_tokens_dropped_total{reason=\"beside-live\"} 4\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_headers_and_parameters_beside_a_live_one_are_taken_out() {
    let app = Recorder::answering(OK).await;
    let rules = "[[token]]\nfrom = \"header\"\nname = \"x-token\"\n[[token]]\nfrom = \"query\"\nname = \"t\"\n\
                 [[token]]\nfrom = \"header\"\nname = \"x-token\"\npaths = [\"/logout\"]\nends = true\n";
    let proxy = Idlegate::start(&format!("upstream = {:?}\n{rules}", app.upstream()));
    let mut client = Wire::connect(proxy.address).await;
    for (path, token) in [("/", "dead"), ("/", "live"), ("/logout", "dead")] {
        assert_eq!(client.ask(get(path, &format!("X-Token: {token}\r\n"))).await.status(), 200);
    }
    assert_eq!(client.ask(get("/?t=dead", "")).await.status(), 401);
    let two = "X-Token: dead\r\nX-Between: 1\r\nX_Token: live\r\nX-Token: never-seen\r\n";
    assert_eq!(client.ask(get("/", two)).await.status(), 200);
    let got = app.got().pop().unwrap();
    let fields: Vec<_> = got.head.lines().filter(|line| line.contains("etween") || line.contains("oken")).collect();
    assert_eq!(fields, ["X-Between: 1", "X_Token: live"]);
    assert_eq!(client.ask(get("/p?a=1&t=dead&t=live&b=%20", "")).await.status(), 200);
    assert!(app.got().pop().unwrap().head.starts_with("GET /p?a=1&t=live&b=%20 HTTP/1.1\r\n"));
    // The same dead token under two rules: each place needs a live one instead.
    assert_eq!(client.ask(get("/?t=dead", "X-Token: dead\r\nX-Token: live\r\n")).await.status(), 401);
    let both = get("/?t=dead&t=live", "X-Token: dead\r\nX-Token: live\r\n");
    assert_eq!(client.ask(both).await.status(), 200);
    let got = app.got().pop().unwrap();
    assert!(got.head.starts_with("GET /?t=live HTTP/1.1\r\n") && !got.head.contains("dead"), "{}", got.head);
    // A live token of another rule is no reason to let a dead one pass.
    assert_eq!(client.ask(get("/?t=dead", "X-Token: live\r\n")).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_thousands_of_tokens_is_eight_lookups() {
    let (app, redis) = (Recorder::answering(NO).await, Redis::start());
    let header = "[[token]]\nfrom = \"header\"\nname = \"x-token\"\n[[token]]\nfrom = \"bearer\"\n";
    let proxy = sid_proxy(&app, &format!("{header}[store]\nurl = {:?}\n", redis.url()));
    let looked_up = async || redis.calls().await.get("hmget").copied().unwrap_or(0);
    let cookies = (0..6000).fold("Cookie: a=1".to_owned(), |mut line, number| {
        write!(line, "; sid={number}").unwrap();
        line
    });
    assert!(cookies.len() < 64 * 1024);
    let mut client = Wire::connect(proxy.address).await;
    let before = looked_up().await;
    assert_eq!(client.ask(with_cookies(&format!("{cookies}\r\n"))).await.status(), 401);
    let calls = looked_up().await - before;
    assert!(calls == 8, "{calls} lookups: {:?}", redis.calls().await);
    let got = app.got().pop().unwrap();
    assert_eq!(got.field("cookie"), ["a=1; sid=0; sid=1; sid=2; sid=3; sid=4; sid=5; sid=6; sid=7"]);
    let lines = |start: &str| (0..20).fold(String::new(), |lines, number| format!("{lines}{start}t{number}\r\n"));
    assert_eq!(client.ask(with_cookies(&lines("X-Token: "))).await.status(), 401);
    assert_eq!(app.got().pop().unwrap().field("x-token").len(), 8);
    // Tokens that cannot be taken out are refused.
    assert_eq!(client.ask(with_cookies(&lines("Authorization: Bearer "))).await.status(), 400);
    // The scheme is no token.
    let mut client = Wire::connect(proxy.address).await;
    let before = looked_up().await;
    client.ask(with_cookies("Authorization: Bearer one\r\n")).await;
    assert_eq!(looked_up().await - before, 1, "{:?}", redis.calls().await);
}
