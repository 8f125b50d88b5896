//! The app's protocol as a client sees it, over real sockets on a free port.

use super::{Glance, Watch, serve};
use crate::session::SessionId;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(10);

/// Knows every session, or none.
struct Fake(Option<Glance>);

impl Watch for Fake {
    fn glance(&self, _: &SessionId) -> Option<Glance> {
        self.0
    }
}

struct Demo {
    address: SocketAddr,
    serving: JoinHandle<std::convert::Infallible>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Demo {
    async fn start() -> Self {
        Self::knowing(None).await
    }

    async fn knowing(glance: Option<Glance>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, serving: tokio::spawn(serve(listener, Arc::new(Fake(glance)))) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await.unwrap()
    }

    async fn get(&self, target: &str) -> http::Response<Incoming> {
        self.send(Request::get(target).body(Full::default()).unwrap()).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        json_of(self.send(Request::post(path).body(Full::from(body.to_string())).unwrap()).await).await
    }

    async fn upload(&self, token: &str, size: usize) -> (StatusCode, Value) {
        let request = Request::post("/api/upload-file").header("session-id", token).body(Full::from(vec![b'x'; size]));
        json_of(self.send(request.unwrap()).await).await
    }

    async fn login(&self) -> String {
        let (status, answer) = self.post("/api/login", &json!({ "username": "ada", "password": "lovelace" })).await;
        assert_eq!((status, &answer["success"], &answer["username"]), (StatusCode::OK, &json!(true), &json!("ada")));
        answer["session_id"].as_str().unwrap().to_owned()
    }

    async fn open(&self) -> Socket {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/ws", self.address);
        let (socket, response) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert!(response.headers().get("sec-websocket-extensions").is_none());
        let mut socket = Socket(socket);
        assert_eq!(socket.receive().await["type"], "auth_required");
        socket
    }
}

struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap()
    }

    async fn receive(&mut self) -> Value {
        serde_json::from_str(self.next().await.to_text().unwrap()).unwrap()
    }

    async fn authenticate(&mut self, token: &str) -> Value {
        self.say(&json!({ "cmd": "authenticate", "session_id": token })).await;
        self.receive().await
    }

    async fn close_code(&mut self) -> u16 {
        match self.next().await {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("expected a Close with a code, got {other:?}"),
        }
    }
}

async fn json_of(response: http::Response<Incoming>) -> (StatusCode, Value) {
    assert_eq!(response.headers()["content-type"], "application/json");
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[test]
fn the_demo_configuration_is_valid_toml() {
    let table: toml::Table = toml::from_str(super::CONFIG).unwrap();
    assert_eq!(table["idle"]["timeout"].as_str(), Some("30s"));
    assert_eq!(table["token"].as_array().map(Vec::len), Some(6));
}

#[tokio::test]
async fn a_login_is_valid_until_the_logout() {
    let demo = Demo::start().await;
    let token = demo.login().await;
    let session = json!({ "session_id": token });
    for path in ["/api/validate-session", "/api/renew-session"] {
        assert_eq!(demo.post(path, &session).await.0, StatusCode::OK);
    }
    assert_eq!(demo.upload(&token, 70_000).await, (StatusCode::OK, json!({ "success": true, "bytes": 70_000 })));
    assert_eq!(demo.post("/api/logout", &session).await.0, StatusCode::OK);
    let refusal = json!({ "success": false, "error": "Invalid or expired session" });
    for path in ["/api/validate-session", "/api/renew-session", "/api/logout"] {
        assert_eq!(demo.post(path, &session).await, (StatusCode::UNAUTHORIZED, refusal.clone()));
    }
    assert_eq!(demo.upload(&token, 1).await, (StatusCode::UNAUTHORIZED, refusal));
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let demo = Demo::start().await;
    for body in [json!(null), json!({ "username": "ada" }), json!({ "username": " ", "password": "x" })] {
        assert_eq!(demo.post("/api/login", &body).await.0, StatusCode::UNAUTHORIZED);
    }
    let too_much = demo.upload(&demo.login().await, super::http::MAX_UPLOAD_BYTES + 1).await;
    assert_eq!(too_much.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json_of(demo.get("/ws").await).await.0, StatusCode::BAD_REQUEST);
    let head = demo.send(Request::head("/health").body(Full::default()).unwrap()).await;
    assert_eq!(head.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_socket_authenticates_in_band_and_runs_programs() {
    let demo = Demo::start().await;
    let mut socket = demo.open().await;
    let refusal = json!({ "type": "error", "message": "Invalid or expired session" });
    // A bad token or invalid JSON leaves the socket open.
    assert_eq!(socket.authenticate("no such token").await, refusal);
    socket.0.send(Message::text("{")).await.unwrap();
    let welcome = socket.authenticate(&demo.login().await).await;
    assert_eq!(welcome, json!({ "type": "auth_success", "username": "ada", "role": "student" }));
    socket.say(&json!({ "cmd": "run", "code": "print(\"hello\")" })).await;
    assert_eq!(socket.receive().await, json!({ "type": "output", "text": "hello" }));
    assert_eq!(socket.receive().await["type"], "finished");
}

#[tokio::test]
async fn a_socket_may_issue_a_token() {
    let demo = Demo::start().await;
    let mut socket = demo.open().await;
    socket.say(&json!({ "cmd": "authenticate", "username": "ada", "password": "lovelace" })).await;
    let welcome = socket.receive().await;
    assert_eq!(welcome["type"], "auth_success");
    let session = json!({ "session_id": welcome["session_id"] });
    assert_eq!(demo.post("/api/validate-session", &session).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_second_socket_replaces_the_first() {
    let demo = Demo::start().await;
    let token = demo.login().await;
    let (mut first, mut second) = (demo.open().await, demo.open().await);
    // The same socket may authenticate again.
    for _ in 0..2 {
        assert_eq!(first.authenticate(&token).await["type"], "auth_success");
    }
    assert_eq!(second.authenticate(&token).await["type"], "auth_success");
    let message = first.receive().await;
    assert_eq!((&message["type"], &message["reason"]), (&json!("session_terminated"), &json!("logged_in_elsewhere")));
    assert_eq!(first.close_code().await, 4001);
    second.say(&json!({ "cmd": "run", "code": "" })).await;
    assert_eq!(second.receive().await["type"], "finished");
}

#[tokio::test]
async fn a_message_that_is_too_big_closes_with_1009() {
    let demo = Demo::start().await;
    let mut socket = demo.open().await;
    let _ = socket.0.send(Message::text("x".repeat(10 * 1024 * 1024 + 1))).await;
    assert_eq!(socket.close_code().await, 1009);
}

#[tokio::test]
async fn the_watch_reports_what_the_proxy_knows() {
    let glance = Glance { state: "live", source: "client-pong", idle_ms: 4210, limit_seconds: 30, connections: 1 };
    let demo = Demo::knowing(Some(glance)).await;
    let token = demo.login().await;
    let known = SessionId::of_token(token.as_bytes());
    let live = |app_login: bool| {
        json!({
            "state": "live", "source": "client-pong", "idle_ms": 4210, "limit_seconds": 30, "connections": 1,
            "app_login": app_login,
        })
    };
    let unknown = json!({ "state": "unknown", "app_login": false });
    for (target, expected) in [
        (format!("/demo/watch?session={known}"), live(true)),
        ("/demo/watch?session=00000000000000000000000000000000".to_owned(), live(false)),
        ("/demo/watch?session=abc".to_owned(), unknown.clone()),
        ("/demo/watch".to_owned(), unknown),
    ] {
        let response = demo.get(&target).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        for _ in 0..2 {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap().unwrap().unwrap();
            let event = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            let data = event.strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
            assert_eq!(serde_json::from_str::<Value>(data).unwrap(), expected, "{target}");
        }
    }
}

#[tokio::test]
async fn every_unknown_path_is_the_page_and_it_loads_nothing_from_other_hosts() {
    let demo = Demo::start().await;
    for (path, media_type) in [
        ("/", "text/html"),
        ("/no/such/path", "text/html"),
        ("/demo/style.css", "text/css"),
        ("/demo/app.js", "text/javascript"),
        ("/demo/icon.svg", "image/svg+xml"),
        ("/health", "application/json"),
    ] {
        let response = demo.get(path).await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert!(headers["content-type"].to_str().unwrap().starts_with(media_type), "{path}: {headers:?}");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self';"));
        assert_eq!(headers["cache-control"], "no-store");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let text = std::str::from_utf8(&body).unwrap().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path} names another host");
    }
}

#[tokio::test]
async fn everything_ends_when_the_server_is_dropped() {
    let demo = Demo::start().await;
    let mut socket = demo.open().await;
    drop(demo);
    let end = tokio::time::timeout(PATIENCE, socket.0.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}
