//! Well-behaved clients.

use super::{secret, soon};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// A request to be sent, on a connection of its own.
pub struct Request {
    address: SocketAddr,
    head: http::request::Builder,
    body: Bytes,
}

/// Its answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn new(address: SocketAddr, method: Method, path: &str) -> Self {
        let head = http::Request::builder().method(method).uri(path).header(header::HOST, address.to_string());
        Self { address, head, body: Bytes::new() }
    }

    pub fn get(address: SocketAddr, path: &str) -> Self {
        Self::new(address, Method::GET, path)
    }

    pub fn post(address: SocketAddr, path: &str) -> Self {
        Self::new(address, Method::POST, path)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        match name {
            "session-id" | "x-token" => _ = secret(value),
            "authorization" => _ = secret(value.trim_start_matches("Bearer ")),
            "cookie" => _ = secret(value.split_once('=').map_or(value, |(_, token)| token)),
            _ => {}
        }
        self.head = self.head.header(name, value);
        self
    }

    pub fn json(self, value: &Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub async fn send(self) -> Answer {
        let sending = async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(self.head.body(Full::new(self.body)).unwrap()).await.unwrap();
            let (head, body) = answer.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Answer { status: head.status, headers: head.headers, body }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), sending).await.expect("an answer within a minute")
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Logs in to the stand-in. Returns the token.
pub async fn log_in(address: SocketAddr, name: &str, password: &str) -> String {
    let answer =
        Request::post(address, "/api/login").json(&json!({"username": name, "password": password})).send().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    secret(password);
    secret(answer.json()["session_id"].as_str().unwrap()).to_owned()
}

/// A WebSocket client.
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    pub async fn open(address: SocketAddr, path: &str) -> Self {
        Self::open_with(address, path, &[]).await.unwrap_or_else(|status| panic!("the handshake was answered {status}"))
    }

    /// Opens with more header fields. Where the handshake is refused: the status.
    pub async fn open_with(address: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Result<Self, StatusCode> {
        use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match soon("a handshake", tokio_tungstenite::client_async(request, stream)).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => Err(answer.status()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens `/ws` of the stand-in, and authenticates by a token. Returns the answer as well.
    pub async fn authenticated(address: SocketAddr, token: &str) -> (Self, Value) {
        let mut socket = Self::open(address, "/ws").await;
        assert_eq!(socket.json().await["type"], "auth_required");
        socket.say(&json!({"cmd": "authenticate", "session_id": secret(token)})).await;
        let answer = socket.json().await;
        (socket, answer)
    }

    pub async fn say(&mut self, value: &Value) {
        self.send(Message::text(value.to_string())).await;
    }

    pub async fn send(&mut self, message: Message) {
        soon("a message to be sent", self.0.send(message)).await.unwrap();
    }

    /// The next data or close message; pings are answered on the way, as a browser does. `None` at the end.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.0.next().await? {
                Ok(Message::Ping(_) | Message::Pong(_)) => self.0.flush().await.unwrap(),
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// The next message, which must be JSON and must come soon.
    pub async fn json(&mut self) -> Value {
        let message = soon("a message", self.next()).await;
        match message {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a text message, got {other:?}"),
        }
    }

    /// Waits for the words of the cut, before which messages of these types may come.
    pub async fn cut_words_after(&mut self, types: &[&str]) -> (Value, u16, String) {
        let mut message = self.json().await;
        while types.iter().any(|kind| message["type"] == *kind) {
            message = self.json().await;
        }
        self.close_after(message).await
    }

    /// Waits for the words of the cut: the text message and the Close, then nothing. Returns both.
    pub async fn cut_words(&mut self) -> (Value, u16, String) {
        let message = text_of(self.next().await);
        self.close_after(serde_json::from_str(&message).unwrap()).await
    }

    async fn close_after(&mut self, message: Value) -> (Value, u16, String) {
        let close = match soon("Close", self.next()).await {
            Some(Message::Close(Some(close))) => close,
            other => panic!("no Close after {message}, but {other:?}"),
        };
        assert!(soon("the end", self.next()).await.is_none());
        (message, close.code.into(), close.reason.to_string())
    }
}

fn text_of(message: Option<Message>) -> Utf8Bytes {
    match message {
        Some(Message::Text(text)) => text,
        other => panic!("expected a text message, got {other:?}"),
    }
}
