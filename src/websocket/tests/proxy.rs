//! The proxy's own frames, and those of a real WebSocket.

use super::*;
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, WebSocket};

/// An in-memory byte stream that a WebSocket reads and writes.
#[derive(Default)]
struct Wire {
    incoming: io::Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn role(side: Side) -> Role {
    match side {
        Side::Client => Role::Client,
        Side::Server => Role::Server,
    }
}

/// The message that the peer of `side` reads from the bytes.
fn received(side: Side, bytes: Vec<u8>) -> Message {
    let peer = if side == Side::Client { Role::Server } else { Role::Client };
    let wire = Wire { incoming: io::Cursor::new(bytes), ..Wire::default() };
    WebSocket::from_raw_socket(wire, peer, None).read().unwrap()
}

fn one_frame(side: Side, bytes: &[u8]) -> (Head, Vec<u8>) {
    let mut follower = Follower::new(side, false);
    let mut seen = follow(&mut follower, &[bytes]);
    assert_eq!((follower.invalid(), seen.frames.len(), seen.lost), (None, 1, false));
    assert!(follower.at_message_boundary());
    let (head, payload, complete) = seen.frames.remove(0);
    assert!(complete);
    assert_eq!(head.mask.is_some(), side == Side::Client);
    (head, payload)
}

#[test]
fn a_close_keeps_any_code_and_reason() {
    for side in [Side::Client, Side::Server] {
        for code in 0..=u16::MAX {
            let (head, payload) = one_frame(side, &close(side, code, "r"));
            assert_eq!((head.opcode, head.fin, head.rsv), (OpCode::Control(Control::Close), true, 0));
            assert_eq!(payload, [&code.to_be_bytes()[..], b"r"].concat());
        }
        match received(side, close(side, 4002, "Session terminated: inactivity")) {
            Message::Close(Some(frame)) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4002, "Session terminated: inactivity"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_long_reason_is_truncated_between_characters() {
    let (_, payload) = one_frame(Side::Server, &close(Side::Server, 4002, &"é".repeat(100)));
    assert_eq!(payload, [&4002_u16.to_be_bytes()[..], "é".repeat(61).as_bytes()].concat());
    let (_, payload) = one_frame(Side::Server, &close(Side::Server, 4002, &"x".repeat(123)));
    assert_eq!(payload.len(), 125);
}

#[test]
fn every_frame_has_its_own_mask() {
    let masks: std::collections::HashSet<_> =
        (0..100).map(|_| one_frame(Side::Client, &text(Side::Client, "")).0.mask).collect();
    assert!(masks.len() > 90, "{}", masks.len());
}

proptest! {
    #[test]
    fn a_text_message_arrives_unchanged(message: String, long in prop::option::of(100..70_000_usize), client: bool) {
        let side = if client { Side::Client } else { Side::Server };
        let message = message + &"x".repeat(long.unwrap_or_default());
        let bytes = text(side, &message);
        let (head, payload) = one_frame(side, &bytes);
        prop_assert_eq!((head.opcode, head.fin, head.rsv), (OpCode::Data(Data::Text), true, 0));
        prop_assert_eq!(payload, message.as_bytes());
        prop_assert_eq!(received(side, bytes), Message::text(message));
    }

    #[test]
    fn a_real_websocket_is_followed(
        messages in prop::collection::vec((0..4_u8, prop::collection::vec(0..0x80_u8, 0..300), any::<bool>()), 0..8),
        client: bool,
        piece in 1..200_usize,
    ) {
        let side = if client { Side::Client } else { Side::Server };
        let config = WebSocketConfig::default().write_buffer_size(0);
        let mut socket = WebSocket::from_raw_socket(Wire::default(), role(side), Some(config));
        let mut expected = Vec::new();
        for (kind, mut payload, long) in messages {
            if kind > 1 {
                payload.truncate(125);
            } else if long {
                payload.resize(70_000, b'x');
            }
            let bytes = Bytes::from(payload.clone());
            let (message, opcode) = match kind {
                0 => (Message::text(String::from_utf8(payload.clone()).unwrap()), OpCode::Data(Data::Text)),
                1 => (Message::Binary(bytes), OpCode::Data(Data::Binary)),
                2 => (Message::Ping(bytes), OpCode::Control(Control::Ping)),
                _ => (Message::Pong(bytes), OpCode::Control(Control::Pong)),
            };
            socket.send(message).unwrap();
            expected.push((opcode, payload));
        }
        socket.close(None).unwrap();
        expected.push((OpCode::Control(Control::Close), Vec::new()));

        let mut follower = Follower::new(side, false);
        let bytes = &socket.get_ref().written;
        let seen = follow(&mut follower, &bytes.chunks(piece).collect::<Vec<_>>());
        prop_assert_eq!(follower.invalid(), None);
        prop_assert!(follower.at_message_boundary());
        let seen: Vec<_> = seen.frames.into_iter().map(|(head, payload, _)| (head.opcode, payload)).collect();
        prop_assert!(seen == expected);
    }
}
