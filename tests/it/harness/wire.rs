//! A TCP connection, byte by byte: for what no well-behaved client or app would send.

use super::soon;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Wire {
    pub stream: TcpStream,
    /// Was read, and not asked for yet.
    unread: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("a write", self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends; whether the peer could still take it.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        soon("a write", self.stream.write_all(bytes.as_ref())).await.is_ok()
    }

    /// Ends the sending direction.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads once. `false` at the end of the stream, a reset included.
    async fn fill(&mut self) -> bool {
        // On the heap: futures that hold it are moved about on the stack.
        let mut chunk = vec![0; 65536];
        match soon("bytes", self.stream.read(&mut chunk)).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                true
            }
        }
    }

    /// Exactly `count` bytes.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let read = self.try_bytes(count).await;
        read.unwrap_or_else(|| panic!("the stream ended after {:?}", String::from_utf8_lossy(&self.unread)))
    }

    /// Exactly `count` bytes; `None` where the stream ends before.
    pub async fn try_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    /// All up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let read = self.try_until(end).await;
        read.unwrap_or_else(|| panic!("the stream ended after {:?}", String::from_utf8_lossy(&self.unread)))
    }

    /// All up to and with `end`; `None` where the stream ends before.
    pub async fn try_until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, end.as_bytes()) {
                let bytes = self.bytes(at + end.len()).await;
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The head of a message.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// The head of the next message; `None` where the peer closes instead.
    pub async fn next_head(&mut self) -> Option<String> {
        loop {
            if memchr::memmem::find(&self.unread, b"\r\n\r\n").is_some() {
                return Some(self.head().await);
            }
            let mut chunk = vec![0; 65536];
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// All until the peer closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// A frame that a server sent: its first byte (FIN, opcode) and its payload.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.bytes(2).await;
        let masked = head[1] & 0x80 != 0;
        let length = match head[1] & 0x7f {
            126 => usize::from(u16::from_be_bytes(self.bytes(2).await.try_into().unwrap())),
            127 => usize::try_from(u64::from_be_bytes(self.bytes(8).await.try_into().unwrap())).unwrap(),
            length => usize::from(length),
        };
        let mask: [u8; 4] = if masked { self.bytes(4).await.try_into().unwrap() } else { [0; 4] };
        let payload = self.bytes(length).await;
        (head[0], payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect())
    }

    /// The WebSocket handshake of a client, up to the end of the answer's head.
    pub async fn upgrade(&mut self, path: &str, more: &str) -> String {
        self.send(handshake(path, more)).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head
    }

    /// The app's side of a handshake: reads the request, answers 101. Returns the request's head.
    pub async fn accept_upgrade(&mut self, and_then: &[u8]) -> String {
        let head = self.head().await;
        let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_vec();
        answer.extend_from_slice(and_then);
        self.send(answer).await;
        head
    }
}

pub fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A frame as a client sends it: masked.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = head(first, payload.len(), 0x80);
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A frame as a server sends it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u8, length: usize, mask: u8) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask | u8::try_from(length).unwrap()],
        126..=65535 => {
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            vec![first, mask | 0x7e, high, low]
        }
        _ => [&[first, mask | 0x7f][..], &u64::try_from(length).unwrap().to_be_bytes()].concat(),
    }
}

pub const TEXT: u8 = 0x81;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
