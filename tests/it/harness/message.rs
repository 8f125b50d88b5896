//! HTTP messages on a wire, and an app that keeps those it got.

use super::{Fake, Wire, soon};
use std::sync::{Arc, Mutex};

/// A message as it stood on the wire, but for the chunks of its body, which are put together.
#[derive(Clone, Debug)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
    /// What follows the last chunk, up to the empty line.
    pub trailers: String,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The values of a field, whatever the case of its name.
    pub fn field(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }

    /// Whether a line of the head is exactly this.
    pub fn has(&self, line: &str) -> bool {
        self.head.split("\r\n").any(|found| found == line)
    }
}

impl Wire {
    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.message().await
    }

    /// The next message, with the body that its head announces. (An answer to HEAD is read by `head`.)
    pub async fn message(&mut self) -> Message {
        let head = self.head().await;
        self.with_body(head).await.expect("the whole body")
    }

    /// The same; `None` where the peer closes instead.
    pub async fn try_message(&mut self) -> Option<Message> {
        let head = soon("a message", self.next_head()).await?;
        self.with_body(head).await
    }

    /// The message that began with `head`; `None` where the stream ends before its body does.
    pub async fn with_body(&mut self, head: String) -> Option<Message> {
        let mut message = Message { head, body: Vec::new(), trailers: String::new() };
        if message.field("transfer-encoding") == ["chunked"] {
            loop {
                let size = self.try_until("\r\n").await?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
                if size == 0 {
                    break;
                }
                message.body.extend(self.try_bytes(size).await?);
                assert_eq!(self.try_bytes(2).await?, b"\r\n");
            }
            loop {
                let line = self.try_until("\r\n").await?;
                if line == "\r\n" {
                    break;
                }
                message.trailers.push_str(&line);
            }
        } else if let Some(length) = message.field("content-length").first() {
            message.body = self.try_bytes(length.parse().unwrap()).await?;
        }
        Some(message)
    }
}

/// A faked app that answers every request in the same way, and keeps what it got.
pub struct Recorder {
    fake: Fake,
    got: Arc<Mutex<Vec<(usize, Message)>>>,
}

impl Recorder {
    pub async fn answering(answer: &'static str) -> Self {
        Self::with(move |_| answer.to_owned()).await
    }

    /// Answers as `answer` says, which gets the number of requests before this one on any connection.
    pub async fn with(answer: impl Fn(usize) -> String + Clone + Send + 'static) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&got);
        let fake = Fake::start(move |connection, mut wire| {
            let (written, answer) = (Arc::clone(&written), answer.clone());
            async move {
                while let Some(head) = wire.next_head().await {
                    let Some(message) = wire.with_body(head).await else { return };
                    let number = {
                        let mut written = written.lock().unwrap();
                        written.push((connection, message));
                        written.len() - 1
                    };
                    wire.send(answer(number)).await;
                }
            }
        });
        Self { fake: fake.await, got }
    }

    /// As idlegate's `upstream` says it.
    pub fn upstream(&self) -> String {
        self.fake.upstream()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.fake.address
    }

    pub fn got(&self) -> Vec<Message> {
        self.got.lock().unwrap().iter().map(|(_, message)| message.clone()).collect()
    }

    /// The only message that came.
    pub fn only(&self) -> Message {
        let mut got = self.got();
        assert_eq!(got.len(), 1, "{got:#?}");
        got.remove(0)
    }

    /// On which connections the messages came.
    pub fn connections(&self) -> Vec<usize> {
        self.got.lock().unwrap().iter().map(|(connection, _)| *connection).collect()
    }
}
