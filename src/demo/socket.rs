//! The WebSocket side of the app.

use super::app::App;
use super::program::{Program, ProgramOutput};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

const PING_EVERY: Duration = Duration::from_secs(45);
const MAX_MESSAGE_BYTES: usize = 10 * 1024 * 1024;
/// How long a client may take to answer a Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const LOGGED_IN_ELSEWHERE: u16 = 4001;

struct Conversation<'a, S> {
    socket: WebSocketStream<S>,
    app: &'a App,
    /// Wakes when another socket authenticates with the same token.
    replaced: Arc<Notify>,
    username: Option<String>,
    program: Program,
}

/// Serves one WebSocket after its handshake, until it ends.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, app: &App) {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES)).max_frame_size(Some(MAX_MESSAGE_BYTES));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let replaced = Arc::new(Notify::new());
    let mut conversation =
        Conversation { socket, app, replaced: Arc::clone(&replaced), username: None, program: Program::default() };
    let outcome = conversation.run().await;
    app.logins.leave_socket(&replaced);
    if let Err(error) = outcome {
        tracing::debug!(%error, "a WebSocket of the demo app failed");
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn run(&mut self) -> Result<(), Error> {
        let replaced = Arc::clone(&self.replaced);
        self.say(&json!({ "type": "auth_required", "message": "Please authenticate" })).await?;
        let mut ping = tokio::time::interval(PING_EVERY);
        // The first tick comes at once.
        ping.tick().await;
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    // Binary messages are ignored, like text that is not JSON.
                    Some(Ok(Message::Text(text))) => self.handle(&text).await?,
                    Some(Ok(_)) => {}
                    Some(Err(Error::Capacity(_))) => return self.refuse_size().await,
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                },
                output = self.program.run() => self.say(&match output {
                    ProgramOutput::Text(text) => json!({ "type": "output", "text": text }),
                    ProgramOutput::Finished => json!({ "type": "finished", "exit_code": 0 }),
                }).await?,
                _ = ping.tick() => self.socket.send(Message::Ping(Bytes::from_static(b"keepalive"))).await?,
                () = replaced.notified() => {
                    let message = "You logged in elsewhere.";
                    let reason = "logged_in_elsewhere";
                    self.say(&json!({ "type": "session_terminated", "reason": reason, "message": message })).await?;
                    return self.close(CloseCode::Library(LOGGED_IN_ELSEWHERE), "Logged in elsewhere").await;
                }
            }
        }
    }

    async fn handle(&mut self, text: &str) -> Result<(), Error> {
        let Ok(message) = serde_json::from_str::<Value>(text) else { return Ok(()) };
        let field = |name: &str| message.get(name).and_then(Value::as_str);
        match field("cmd") {
            Some("authenticate") => {
                // A username and password on the socket are a login: the app issues a token here.
                let issued = match (field("username"), field("password")) {
                    (Some(username), Some(password)) if !username.is_empty() && !password.is_empty() => {
                        Some(self.app.log_in(username))
                    }
                    _ => None,
                };
                let token = issued.as_deref().or(field("session_id")).unwrap_or_default();
                self.username = self.app.logins.take_socket(token, &self.replaced);
                let mut reply = match &self.username {
                    Some(username) => json!({ "type": "auth_success", "username": username, "role": "student" }),
                    None => json!({ "type": "error", "message": "Invalid or expired session" }),
                };
                if let Some(issued) = issued {
                    reply["session_id"] = issued.into();
                }
                self.say(&reply).await
            }
            Some("run") if self.username.is_some() => {
                self.program = Program::start(field("code").unwrap_or_default());
                Ok(())
            }
            Some("run") => self.say(&json!({ "type": "error", "message": "Please authenticate" })).await,
            _ => Ok(()),
        }
    }

    async fn say(&mut self, message: &Value) -> Result<(), Error> {
        self.socket.send(Message::text(message.to_string())).await
    }

    /// Discards the rest of a message that is too big. Otherwise a connection reset could discard the Close.
    async fn refuse_size(&mut self) -> Result<(), Error> {
        self.socket
            .send(Message::Close(Some(CloseFrame { code: CloseCode::Size, reason: "message too big".into() })))
            .await?;
        let mut nowhere = tokio::io::sink();
        let rest = tokio::io::copy(self.socket.get_mut(), &mut nowhere);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
        Ok(())
    }

    async fn close(&mut self, code: CloseCode, reason: &'static str) -> Result<(), Error> {
        self.socket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        let closing = async { while let Some(Ok(_)) = self.socket.next().await {} };
        // After the timeout the connection is dropped without the client's Close.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
        Ok(())
    }
}
