//! What a relay takes in comes out of it, once it may.

use super::*;
use proptest::prelude::*;

/// A frame of a random stream, and where in the stream it stands.
#[derive(Clone, Debug)]
struct Placed {
    data: bool,
    fin: bool,
    start: usize,
    end: usize,
    /// The payload of its message up to and with this frame.
    message: Vec<u8>,
}

type Part = (usize, bool, Option<usize>, [u8; 4]);

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let size = prop_oneof![8 => 0..40_usize, 2 => 100..300_usize, 1 => 60_000..70_000_usize];
    prop::collection::vec((size, any::<bool>(), prop::option::of(0..20_usize), any::<[u8; 4]>()), 0..8)
}

/// A valid stream, fragmented, with control frames between and amidst its messages.
fn stream(side: Side, parts: &[Part]) -> (Vec<u8>, Vec<Placed>) {
    let (mut bytes, mut placed, mut message) = (Vec::new(), Vec::new(), Vec::new());
    let mut open = false;
    for (size, fin, control, key) in parts {
        let payload: Vec<u8> = (0..*size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let start = bytes.len();
        write_frame(&mut bytes, side, u8::from(*fin) << 7 | u8::from(!open), &payload, *key);
        message.extend_from_slice(&payload);
        placed.push(Placed { data: true, fin: *fin, start, end: bytes.len(), message: message.clone() });
        if *fin {
            message.clear();
        }
        open = !fin;
        if let Some(size) = control {
            let start = bytes.len();
            write_frame(&mut bytes, side, 0x89, &vec![7; *size], *key);
            placed.push(Placed { data: false, fin: true, start, end: bytes.len(), message: Vec::new() });
        }
    }
    (bytes, placed)
}

fn write_frame(into: &mut Vec<u8>, side: Side, first: u8, payload: &[u8], key: [u8; 4]) {
    let mask = if side == Side::Client { 0x80 } else { 0 };
    into.push(first);
    match payload.len() {
        length @ 0..=125 => into.push(mask | u8::try_from(length).unwrap()),
        length @ 126..=65535 => {
            into.push(mask | 0x7e);
            into.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            into.push(mask | 0x7f);
            into.extend((length as u64).to_be_bytes());
        }
    }
    if side == Side::Client {
        into.extend(key);
        into.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        into.extend(payload);
    }
}

/// Sends the pieces through a relay that examines, releasing each message. Checks that a whole message is held, that it
/// is the one sent, and that nothing else is held. Returns the output and the messages.
fn examine(side: Side, pieces: &[&[u8]], placed: &[Placed]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut relay = Relay::new(side, false, true);
    let (mut out, mut messages, mut taken) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let (count, examined) = relay.examine(rest, &mut Seen::default(), true);
            assert!(count > 0);
            taken += count;
            rest = &rest[count..];
            out.extend_from_slice(relay.unsent.as_slice());
            relay.unsent.clear();
            let held = placed.iter().find(|frame| {
                let short = frame.message.len() <= MAX_EXAMINED_BYTES;
                frame.data && frame.fin && short && frame.start < taken && taken <= frame.end
            });
            if let Some(frame) = held {
                assert_eq!(out.len(), frame.start, "a byte of a last frame came out before its time");
                assert_eq!(examined == Some(Examined::Message), taken == frame.end);
            }
            match examined {
                Some(Examined::Message) => {
                    messages.push(relay.message.as_slice().to_vec());
                    relay.release();
                    out.extend_from_slice(relay.unsent.as_slice());
                    relay.unsent.clear();
                    assert_eq!(out.len(), taken, "something was held back");
                }
                Some(Examined::Piece) => relay.message.clear(),
                None => {}
            }
        }
    }
    (out, messages)
}

fn short_messages(placed: &[Placed]) -> Vec<Vec<u8>> {
    let ends = placed.iter().filter(|frame| frame.data && frame.fin && frame.message.len() <= MAX_EXAMINED_BYTES);
    ends.map(|frame| frame.message.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn examined_streams_come_out_as_they_went_in(
        parts in parts(),
        client: bool,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let side = if client { Side::Client } else { Side::Server };
        let (bytes, placed) = stream(side, &parts);
        let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<_> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        let (out, messages) = examine(side, &pieces, &placed);
        prop_assert!(out == bytes, "what came out is not what went in");
        prop_assert!(messages == short_messages(&placed), "the messages are not those that were sent");
    }

    #[test]
    fn every_split_of_a_small_stream(parts in prop::collection::vec(
        (0..12_usize, any::<bool>(), prop::option::of(0..6_usize), any::<[u8; 4]>()), 0..6), client: bool) {
        let side = if client { Side::Client } else { Side::Server };
        let (bytes, placed) = stream(side, &parts);
        for place in 0..=bytes.len() {
            let (first, second) = bytes.split_at(place);
            let (out, messages) = examine(side, &[first, second], &placed);
            prop_assert_eq!(&out, &bytes);
            prop_assert_eq!(messages, short_messages(&placed));
        }
        let (out, messages) = examine(side, &bytes.chunks(1).collect::<Vec<_>>(), &placed);
        prop_assert_eq!(&out, &bytes);
        prop_assert_eq!(messages, short_messages(&placed));
    }

    #[test]
    fn random_bytes_come_out_as_well(bytes: Vec<u8>, client: bool, examining: bool, size in 1..20_usize) {
        let side = if client { Side::Client } else { Side::Server };
        let mut relay = Relay::new(side, false, examining);
        for piece in bytes.chunks(size) {
            let mut rest = piece;
            while examining && !rest.is_empty() {
                let (count, examined) = relay.examine(rest, &mut Seen::default(), true);
                rest = &rest[count..];
                if examined == Some(Examined::Message) {
                    relay.release();
                }
            }
            relay.follow(rest, &mut Seen::default());
            relay.unsent.extend(rest);
        }
        relay.release();
        prop_assert_eq!(relay.unsent.as_slice(), &bytes[..]);
    }
}

/// A frame of a client, masked, whose message ends with it or not.
fn masked(opcode: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let key = [7, 1, 9, 200];
    let mut frame = vec![u8::from(fin) << 7 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
    frame.extend(key);
    unmask(key, 0, payload, &mut frame);
    frame
}

fn ignoring_threes() -> std::sync::Arc<MessageRules> {
    let text = "from = \"client\"\ntext = \"3\"\n[[ignore]]\nfrom = \"client\"\nprefix = \"ping\"\n";
    let text = format!("upstream = \"http://app\"\n[[token]]\nfrom = \"bearer\"\n[[ignore]]\n{text}");
    let config = crate::config::Config::parse(&text, "proxy.toml", &crate::config::Variables::default()).unwrap();
    let rules = crate::ignore::IgnoreRules::new(config.ignore);
    rules.for_messages(&crate::route::Route::get("/ws"), Side::Client).unwrap()
}

proptest! {
    #[test]
    fn only_messages_that_no_rule_ignores_count_however_their_bytes_are_split(
        messages in proptest::collection::vec(
            prop_oneof![Just("3"), Just("33"), Just("ping"), Just("ping and more"), Just("pin"), Just(""), Just("edit")],
            0..8,
        ),
        cut in 0_usize..6,
        sizes in proptest::collection::vec(1_usize..9, 1..20),
        examining: bool,
    ) {
        let ignored = |text: &&&str| **text == "3" || text.starts_with("ping");
        let mut stream = Vec::new();
        for text in &messages {
            let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
            stream.extend(masked(1, false, first));
            stream.extend(masked(9, true, b"a ping between"));
            stream.extend(masked(0, true, second));
        }
        let mut relay = Relay::new(Side::Client, false, examining).ignoring(Some(ignoring_threes()));
        let (mut rest, mut counted, mut told) = (&stream[..], false, false);
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            let mut seen = Seen::default();
            let mut piece_left = piece;
            while examining && !piece_left.is_empty() {
                let (count, examined) = relay.examine(piece_left, &mut seen, true);
                piece_left = &piece_left[count..];
                if examined.is_some() {
                    relay.release();
                }
            }
            relay.follow(piece_left, &mut seen);
            counted |= seen.data;
            told |= seen.ignored.is_some();
            rest = left;
        }
        let all = messages.iter().filter(ignored).count() as u64;
        prop_assert_eq!(counted, messages.iter().any(|text| !ignored(&text)), "{:?}", messages);
        prop_assert_eq!(told, all > 0);
        prop_assert_eq!(relay.take_ignored().map(|(_, count)| count).sum::<u64>(), all);
    }
}

#[test]
fn a_compressed_message_counts() {
    let mut relay = Relay::new(Side::Client, true, false).ignoring(Some(ignoring_threes()));
    let mut seen = Seen::default();
    let mut frame = masked(1, true, b"3");
    frame[0] |= 0x40;
    relay.follow(&frame, &mut seen);
    assert!(seen.data && seen.ignored.is_none());
}

/// What was sent on of `bytes`, and the relay.
fn after(bytes: &[u8]) -> Relay {
    let mut relay = Relay::new(Side::Server, false, true);
    let (count, _) = relay.examine(bytes, &mut Seen::default(), true);
    assert_eq!(count, bytes.len());
    relay
}

#[test]
fn a_message_that_may_not_be_seen_is_never_completed() {
    let begun = b"\x01\x02{\"\x80\x03a\":";
    let mut refused = after(begun);
    refused.give_up_examining(false);
    assert_eq!(refused.unsent.as_slice(), &begun[..4]);
    assert!(refused.at_frame_boundary() && !refused.at_message_boundary() && refused.stays_open());

    let mut completed = after(&begun[..8]);
    completed.give_up_examining(true);
    assert_eq!(completed.unsent.as_slice(), &begun[..8]);
    assert!(!completed.at_frame_boundary() && !completed.stays_open());
    completed.take_until(b":\x81\x00", Relay::at_message_boundary);
    assert_eq!(completed.unsent.as_slice(), begun);
    assert!(completed.at_message_boundary());
}

#[test]
fn a_message_that_the_peer_has_not_begun_to_see_is_dropped() {
    for begun in [&b"\x81"[..], b"\x81\x03", b"\x81\x03ab", b"\x81\x03abc"] {
        let mut relay = after(begun);
        relay.give_up_examining(true);
        assert!(relay.unsent.is_empty() && relay.at_message_boundary() && !relay.stays_open(), "{begun:?}");
    }
}
