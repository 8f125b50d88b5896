//! What pages, their scripts and their sockets are told once their session has ended, and what they do with it.

use crate::harness::{Answer, Idlegate, Recorder, Request, TEXT, Wire, eventually, handshake};
use http::{HeaderName, Method};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A browser opens a page.
const NAVIGATION: &[(&str, &str)] = &[("accept", "text/html,*/*;q=0.8"), ("sec-fetch-mode", "navigate")];

/// Its script calls.
const SCRIPT: &[(&str, &str)] = &[("accept", "*/*"), ("sec-fetch-mode", "same-origin")];

/// Every way in which the app sets the cookie.
const SET: [&str; 2] = [
    "sid=abc; Path=/app; Domain=site.example; Secure; HttpOnly; SameSite=None; Partitioned; Max-Age=900",
    "sid=abc; path=/",
];

async fn app() -> Recorder {
    Recorder::with(|number| {
        let set = SET.get(number).map(|line| format!("Set-Cookie: {line}\r\n")).unwrap_or_default();
        format!("HTTP/1.1 200 OK\r\n{set}Content-Length: 2\r\n\r\nok")
    })
    .await
}

/// In front of the app, with a session that an operator's logout has ended: its cookie is `sid=abc`.
async fn after_the_cut(app: &Recorder, rule: &str, cut: &str) -> Idlegate {
    let config = format!(
        "upstream = {:?}\ncors = [\"https://front.example\", \"HTTP://localhost:3000\"]\n\
         [[token]]\nfrom = \"cookie\"\nname = \"sid\"\n{rule}\n\
         [[token]]\nfrom = \"cookie\"\nname = \"sid\"\npaths = [\"/logout\"]\nends = true\n[cut]\n{cut}\n",
        app.upstream()
    );
    let proxy = Idlegate::start(&config);
    for path in ["/", "/app/", "/logout"] {
        assert_eq!(ask(&proxy, Method::GET, path, SCRIPT).await.status, 200, "{path}");
    }
    eventually("the end", async || !proxy.logged("reason=logout").is_empty()).await;
    proxy
}

async fn ask(proxy: &Idlegate, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = Request::new(proxy.address, method, path).header("cookie", "theme=dark; sid=abc");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.send().await
}

fn all(answer: &Answer, name: &str) -> Vec<String> {
    let name: HeaderName = name.parse().unwrap();
    answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_loses_its_dead_cookie_as_the_app_has_set_it_and_a_script_does_not() {
    let removals = [
        "sid=; Path=/app; Domain=site.example; Max-Age=0; Secure; SameSite=None; Partitioned",
        "sid=; Path=/; Max-Age=0",
    ];
    let app = app().await;
    let proxy = after_the_cut(&app, "", "login_url = \"/login\"").await;
    assert_eq!(all(&ask(&proxy, Method::GET, "/app/", NAVIGATION).await, "set-cookie"), removals);
    assert_eq!(all(&ask(&proxy, Method::POST, "/app/save", NAVIGATION).await, "set-cookie"), removals);
    for script in [SCRIPT, &[("accept", "text/html"), ("x-requested-with", "XMLHttpRequest")], &[]] {
        let refused = ask(&proxy, Method::GET, "/app/data", script).await;
        assert_eq!((refused.status.as_u16(), all(&refused, "set-cookie").len()), (401, 0), "{script:?}");
    }
    // A rule that requires the token refuses the page that has lost it, too.
    let app = self::app().await;
    let proxy = after_the_cut(&app, "required = true\nexcept_paths = [\"/login\"]", "").await;
    assert_eq!(all(&ask(&proxy, Method::GET, "/app/data", SCRIPT).await, "set-cookie"), removals);
    let own = r#"http_headers = { "Set-Cookie" = "sid=; Path=/x; Max-Age=0" }"#;
    let app = self::app().await;
    let proxy = after_the_cut(&app, "", own).await;
    assert_eq!(all(&ask(&proxy, Method::GET, "/app/", NAVIGATION).await, "set-cookie"), ["sid=; Path=/x; Max-Age=0"]);
    assert!(all(&ask(&proxy, Method::GET, "/app/data", SCRIPT).await, "set-cookie").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_sent_to_the_login_with_the_way_back() {
    let app = app().await;
    let proxy = after_the_cut(&app, "", "login_url = \"/login?next={path}\"\nhttp_body = '{\"code\":7}'").await;
    let referer = format!("http://{}/app/edit?id=1", proxy.address);
    let form = [NAVIGATION, &[("referer", referer.as_str())]].concat();
    let foreign = [NAVIGATION, &[("referer", "https://evil.example/app/edit")]].concat();
    for (method, path, fields, status, location) in [
        (Method::GET, "/app/?a=1&b=%2F", NAVIGATION, 302, "/login?next=/app/%3Fa%3D1%26b%3D%252F"),
        (Method::HEAD, "/app/", NAVIGATION, 302, "/login?next=/app/"),
        (Method::GET, "//evil.example/", NAVIGATION, 302, "/login?next=/"),
        (Method::POST, "/app/save", &form[..], 303, "/login?next=/app/edit%3Fid%3D1"),
        (Method::POST, "/app/save", &foreign[..], 303, "/login?next=/"),
        (Method::DELETE, "/app/save", NAVIGATION, 303, "/login?next=/"),
        // The login form itself, left open for longer than the timeout.
        (Method::POST, "/login", NAVIGATION, 303, "/login?next=/"),
    ] {
        let answer = ask(&proxy, method.clone(), path, fields).await;
        assert_eq!(
            (answer.status.as_u16(), &all(&answer, "location")[..]),
            (status, &[location.to_owned()][..]),
            "{method} {path}"
        );
    }
    // A browser that keeps its cookie does not go in circles, and a person does not read JSON.
    let login = ask(&proxy, Method::GET, "/login?next=/", NAVIGATION).await;
    assert_eq!((login.status.as_u16(), &all(&login, "content-type")[0][..]), (401, "text/html; charset=utf-8"));
    let script = ask(&proxy, Method::POST, "/app/save", SCRIPT).await;
    assert_eq!((script.status.as_u16(), &script.body[..]), (401, &br#"{"code":7}"#[..]));
}

/// The pattern of the manual: the form of the login page is not looked at, so its dead cookie refuses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_that_was_left_open_still_logs_in() {
    let app = app().await;
    let proxy = after_the_cut(&app, "except_paths = [\"/login\"]", "login_url = \"/login\"").await;
    assert_eq!(ask(&proxy, Method::POST, "/login", NAVIGATION).await.status, 200);
    assert_eq!(ask(&proxy, Method::POST, "/app/save", NAVIGATION).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_asked_to_clear_what_the_site_has_stored() {
    let app = app().await;
    let proxy = after_the_cut(&app, "", "clear_site_data = [\"cookies\", \"storage\"]").await;
    let clears = async |fields| all(&ask(&proxy, Method::GET, "/app/", fields).await, "clear-site-data");
    assert_eq!(clears(NAVIGATION).await, ["\"cookies\", \"storage\""]);
    assert!(clears(SCRIPT).await.is_empty(), "a script could go on without its token");
    let app = self::app().await;
    let required = "required = true\nexcept_paths = [\"/login\"]";
    let proxy = after_the_cut(&app, required, "clear_site_data = [\"*\"]").await;
    let mut stranger = Request::get(proxy.address, "/app/");
    for (name, value) in NAVIGATION {
        stranger = stranger.header(name, value);
    }
    let refused = stranger.send().await;
    assert_eq!((refused.status.as_u16(), all(&refused, "clear-site-data").len()), (401, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scripts_of_listed_sites_may_read_a_refusal() {
    let app = app().await;
    let own = r#"http_headers = { "Access-Control-Allow-Origin" = "https://old.example" }"#;
    let proxy = after_the_cut(&app, "", own).await;
    for (origin, allowed) in [
        ("https://front.example", "https://front.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://front.example.evil.example", "https://old.example"),
        ("null", "https://old.example"),
    ] {
        let answer = ask(&proxy, Method::GET, "/data", &[("sec-fetch-mode", "cors"), ("origin", origin)]).await;
        assert_eq!(
            (answer.status.as_u16(), all(&answer, "access-control-allow-origin")),
            (401, vec![allowed.to_owned()])
        );
        let listed = origin == allowed;
        assert_eq!(all(&answer, "access-control-allow-credentials").len(), usize::from(listed), "{origin}");
        assert_eq!(all(&answer, "vary").contains(&"Origin".to_owned()), listed, "{origin}");
    }
}

/// A client that is not ours, which checks the handshake.
async fn socket(proxy: &Idlegate, fields: &[(&str, &str)]) -> Result<(Option<String>, Vec<Message>), Error> {
    let mut request = format!("ws://{}/ws", proxy.address).into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await?;
    let subprotocol = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
    let mut messages = Vec::new();
    while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
        messages.push(message);
    }
    Ok((subprotocol, messages))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_reconnects_with_a_dead_token_reads_why() {
    let app = app().await;
    let words = "ws_message = '{\"type\":\"over\"}'\nws_code = 4001\nws_reason = \"over\"";
    let proxy = after_the_cut(&app, "", words).await;
    let seen = app.got().len();
    for (fields, subprotocol) in [
        (&[("cookie", "sid=abc")][..], None),
        (&[("cookie", "sid=abc"), ("sec-websocket-protocol", "chat, bearer")][..], Some("chat")),
        (&[("cookie", "sid=abc"), ("sec-websocket-extensions", "permessage-deflate")][..], None),
    ] {
        let (chosen, messages) = socket(&proxy, fields).await.unwrap();
        assert_eq!(chosen.as_deref(), subprotocol);
        let [Message::Text(text), Message::Close(Some(close))] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(
            (text.as_str(), u16::from(close.code), close.reason.as_str()),
            ("{\"type\":\"over\"}", 4001, "over")
        );
    }
    let counted = "idlegate_refusals_total{carrier=\"request\",reason=\"ended\"} 3";
    assert!(proxy.shows(counted).await, "{}", proxy.metrics().await);
    // What is no proper handshake is answered as before.
    for head in [
        handshake("/ws", "Cookie: sid=abc\r\n").replace("Version: 13", "Version: 8"),
        handshake("/ws", "Cookie: sid=abc\r\n").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
    ] {
        let mut client = Wire::connect(proxy.address).await;
        client.send(head).await;
        assert!(client.head().await.starts_with("HTTP/1.1 401 "));
    }
    assert_eq!(app.got().len(), seen, "nothing reaches the app");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_handshake_is_refused_can_be_chosen() {
    let app = app().await;
    let proxy = after_the_cut(&app, "", "ws_message = \"over\"\nws_refuse = \"status\"").await;
    let refused = socket(&proxy, &[("cookie", "sid=abc")]).await.unwrap_err();
    assert!(matches!(&refused, Error::Http(answer) if answer.status() == 401), "{refused:?}");
    let app = self::app().await;
    let proxy =
        after_the_cut(&app, "required = true", "login_url = \"/login\"\n[cut.missing]\nws_refuse = \"message\"").await;
    let refused = socket(&proxy, &[("cookie", "sid=abc")]).await.unwrap_err();
    assert!(matches!(&refused, Error::Http(answer) if answer.status() == 401), "{refused:?}");
    let (_, messages) = socket(&proxy, &[]).await.unwrap();
    let [Message::Close(Some(close))] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(close.reason.as_str(), "No session token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_websocket_is_closed_in_time_whatever_its_client_does() {
    let app = app().await;
    let proxy = after_the_cut(&app, "", "ws_message = \"over\"").await;
    let mut silent = Wire::connect(proxy.address).await;
    silent.upgrade("/ws", "Cookie: sid=abc\r\n").await;
    let begun = Instant::now();
    assert_eq!(silent.frame().await, (TEXT, b"over".to_vec()));
    // It says nothing, and keeps its side open.
    silent.rest().await;
    let mut busy = Wire::connect(proxy.address).await;
    busy.upgrade("/ws", "Cookie: sid=abc\r\n").await;
    while busy.try_send(vec![0_u8; 1024]).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "still open");
    }
}
