//! Both ends of a tunnel in the hands of a test.

use super::{Fake, Idlegate, Request, Wire, secret, soon, wire::handshake};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Tunnels at `/ws` are examined, as the first app's are. All others are plain. A handshake may carry a session's token in
/// `x-token`, and `GET /logout` with the same field ends that session.
const CONFIG: &str = r#"
upgrades = ["tcp-echo"]
[idle]
timeout = "1h"
retention = "2h"
[[token]]
from = "header"
name = "x-token"
paths = ["/ws", "/plain", "/raw"]
[[token]]
from = "header"
name = "x-token"
paths = ["/logout"]
ends = true
[[token]]
from = "ws-client"
paths = ["/ws"]
pointer = "/session_id"
when = { "/cmd" = "authenticate" }
accept_when = { "/type" = "auth_success" }
reject_when = { "/type" = "error" }
[cut]
ws_message = "bye"
ws_code = 4002
ws_reason = "idle"
[cut.logout]
delay = "0s"
"#;

/// What the text message and the Close of a cut look like to the client.
pub const CUT_FRAMES: &[u8] = b"\x81\x03bye\x88\x06\x0f\xa2idle";

/// The proxy, and an app that hands its end of every tunnel to the test.
pub struct Ends {
    pub proxy: Idlegate,
    tunnels: UnboundedReceiver<(String, Wire)>,
    _app: Fake,
}

impl Ends {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(environment: &[(&str, &str)]) -> Self {
        let (hand_over, tunnels) = unbounded_channel();
        let app = Fake::start(move |_, mut wire| {
            let hand_over = hand_over.clone();
            async move {
                let head = wire.head().await;
                if head.starts_with("GET /logout ") {
                    return wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                }
                // The test has ended without taking it.
                let _ = hand_over.send((head, wire));
            }
        })
        .await;
        let config = format!("listen = \"127.0.0.1:0\"\nupstream = \"{}\"\n{CONFIG}", app.upstream());
        Self { proxy: Idlegate::start_with(&config, environment), tunnels, _app: app }
    }

    /// A handshake that has arrived at the app and was not answered: its client, its head, its app.
    pub async fn knock(&mut self, request: impl AsRef<[u8]>) -> (Wire, String, Wire) {
        let mut client = Wire::connect(self.proxy.address).await;
        client.send(request).await;
        let (head, app) = soon("a handshake", self.tunnels.recv()).await.expect("the faked app has ended");
        (client, head, app)
    }

    /// A tunnel: the client's end and the app's.
    pub async fn open(&mut self, path: &str, more: &str) -> (Wire, Wire) {
        let (mut client, _, mut app) = self.knock(handshake(path, more)).await;
        let extensions =
            if more.contains("permessage-deflate") { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        app.send(switching("websocket", extensions)).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, app)
    }

    /// A tunnel of a session, which [`Ends::log_out`] cuts.
    pub async fn open_as(&mut self, token: &str, path: &str) -> (Wire, Wire) {
        self.open(path, &format!("x-token: {}\r\n", secret(token))).await
    }

    /// Ends the session of a token.
    pub async fn log_out(&self, token: &str) {
        let answer = Request::get(self.proxy.address, "/logout").header("x-token", token).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// The app's yes to an upgrade.
pub fn switching(protocol: &str, more: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n{more}\r\n")
}
