//! An app of pages, whose session is a cookie.

use crate::harness::{Answer, Fake, Idlegate, Request, eventually};

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
    // A browser that keeps it all the same is not sent in circles.
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
