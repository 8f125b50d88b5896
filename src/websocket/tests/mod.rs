//! Tests with hand-written streams, random streams, and streams of a real WebSocket.

mod headers;
mod proxy;
mod splits;
mod violations;

use super::*;

/// A frame written by a test, valid or not.
#[derive(Clone, Debug)]
struct Written {
    opcode: u8,
    fin: bool,
    rsv: u8,
    mask: Option<[u8; 4]>,
    payload: Vec<u8>,
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

const CONTINUE: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame of a client.
fn frame(opcode: u8, fin: bool, payload: impl Into<Vec<u8>>) -> Written {
    Written { opcode, fin, rsv: 0, mask: Some(MASK), payload: payload.into() }
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = header(self, self.payload.len() as u64);
        // Mask byte by byte as in the RFC, not with the function under test.
        let key = self.mask.unwrap_or_default();
        bytes.extend(self.payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    fn head(&self) -> Head {
        Head {
            opcode: OpCode::from(self.opcode),
            fin: self.fin,
            rsv: self.rsv,
            mask: self.mask,
            length: self.payload.len() as u64,
            size: u8::try_from(self.bytes().len() - self.payload.len()).unwrap(),
        }
    }
}

/// The header of a frame with any length, in the shortest form.
fn header(written: &Written, length: u64) -> Vec<u8> {
    let form = match length {
        0..=125 => 0,
        126..=0xFFFF => 2,
        _ => 8,
    };
    header_with_form(written, length, form)
}

/// The header with its length written in 0, 2 or 8 more bytes.
fn header_with_form(written: &Written, length: u64, form: usize) -> Vec<u8> {
    let masked = if written.mask.is_some() { 0x80 } else { 0 };
    let length = length.to_be_bytes();
    let short = match form {
        2 => 126,
        8 => 127,
        _ => length[7],
    };
    let mut bytes = vec![u8::from(written.fin) << 7 | written.rsv << 4 | written.opcode, masked | short];
    bytes.extend(&length[8 - form..]);
    bytes.extend(written.mask.iter().flatten());
    bytes
}

fn stream(frames: &[Written]) -> Vec<u8> {
    frames.iter().flat_map(Written::bytes).collect()
}

/// The frames of a stream with their unmasked payloads, and whether each was complete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Seen {
    frames: Vec<(Head, Vec<u8>, bool)>,
    lost: bool,
}

/// Feeds the pieces and checks the invariants after every step.
fn follow(follower: &mut Follower, pieces: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    let mut inside: Option<(Head, Vec<u8>)> = None;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (taken, step) = follower.step(rest);
            assert!(taken > 0 && taken <= rest.len(), "took {taken} of {}: {step:?}", rest.len());
            let (bytes, after) = rest.split_at(taken);
            rest = after;
            match step {
                FrameEvent::NeedMore => {
                    assert!(rest.is_empty() && inside.is_none() && !follower.at_frame_boundary());
                    assert_eq!(follower.frame(), None);
                }
                FrameEvent::Head(head) => {
                    assert!(inside.is_none() && taken <= usize::from(head.size));
                    assert_eq!(follower.frame(), Some(&head));
                    inside = Some((head, Vec::new()));
                }
                FrameEvent::Payload { length, offset, last } => {
                    let (head, payload) = inside.as_mut().expect("a payload without a head");
                    assert_eq!((length, offset), (taken, payload.len() as u64));
                    unmask(head.mask.unwrap_or_default(), offset, bytes, payload);
                    assert_eq!(last, payload.len() as u64 == head.length);
                    assert_eq!(follower.frame(), Some(&*head));
                }
                FrameEvent::Lost => {
                    assert!(rest.is_empty() && !follower.at_frame_boundary());
                    seen.lost = true;
                }
            }
            if let Some((head, payload)) = inside.take_if(|(head, payload)| payload.len() as u64 == head.length) {
                assert!(follower.at_frame_boundary());
                seen.frames.push((head, payload, true));
            } else {
                assert!(inside.is_none() || !follower.at_frame_boundary());
            }
            assert!(follower.at_frame_boundary() || !follower.at_message_boundary());
        }
    }
    seen.frames.extend(inside.map(|(head, payload)| (head, payload, false)));
    seen
}

/// The expected result for the written frames.
fn expected(frames: &[Written]) -> Seen {
    let frames = frames.iter().map(|written| (written.head(), written.payload.clone(), true)).collect();
    Seen { frames, lost: false }
}
