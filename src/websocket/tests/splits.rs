//! The way a stream is split does not change the result.

use super::*;
use proptest::prelude::*;

/// One frame of a valid stream. The generator chooses sizes and positions; `valid` chooses the opcodes.
type Part = (Vec<u8>, bool, bool, Option<(u8, Vec<u8>)>, [u8; 4]);

fn parts(longest: usize) -> impl Strategy<Value = Vec<Part>> {
    let payload = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..longest.min(20)),
        1 => (0..longest).prop_map(|length| vec![0xA5; length]),
    ];
    let control = prop::option::of((8..11_u8, prop::collection::vec(any::<u8>(), 2..10)));
    prop::collection::vec((payload, any::<bool>(), any::<bool>(), control, any::<[u8; 4]>()), 0..6)
}

/// A valid stream: messages in one frame or in fragments, text or binary, compressed (RSV1 on the first frame,
/// RFC 7692 §6) or not, with control frames between and inside them. The last message may be incomplete.
fn valid(parts: Vec<Part>, masked: bool) -> Vec<Written> {
    let mut frames = Vec::new();
    let mut open = false;
    for (payload, fin, choice, control, key) in parts {
        let mask = masked.then_some(key);
        let opcode = match (open, choice) {
            (true, _) => CONTINUE,
            (false, true) => TEXT,
            (false, false) => BINARY,
        };
        let rsv = if !open && payload.len() % 2 == 1 { 4 } else { 0 };
        frames.push(Written { opcode, fin, rsv, mask, payload });
        open = !fin;
        frames.extend(control.map(|(opcode, payload)| Written { opcode, fin: true, rsv: 0, mask, payload }));
    }
    frames
}

fn follower(masked: bool) -> Follower {
    Follower::new(if masked { Side::Client } else { Side::Server }, true)
}

/// The observable state of a follower.
fn state(follower: &Follower) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        follower.at_frame_boundary(),
        follower.at_message_boundary(),
        follower.invalid(),
        follower.frame().copied(),
        follower.message(),
    )
}

proptest! {
    #[test]
    fn every_split_in_two_or_into_bytes_gives_the_same_result(parts in parts(140), masked: bool) {
        let frames = valid(parts, masked);
        let bytes = stream(&frames);
        let mut whole = follower(masked);
        let seen = follow(&mut whole, &[&bytes]);
        prop_assert_eq!(&seen, &expected(&frames));
        prop_assert_eq!(whole.invalid(), None);
        prop_assert!(whole.at_frame_boundary());
        prop_assert_eq!(whole.at_message_boundary(), frames.iter().rfind(|frame| frame.opcode < 8).is_none_or(|frame| frame.fin));
        for place in 0..=bytes.len() {
            let (first, second) = bytes.split_at(place);
            let mut split = follower(masked);
            prop_assert_eq!(&follow(&mut split, &[first, second]), &seen);
            prop_assert_eq!(state(&split), state(&whole));
        }
        let mut split = follower(masked);
        prop_assert_eq!(follow(&mut split, &bytes.chunks(1).collect::<Vec<_>>()), seen);
        prop_assert_eq!(state(&split), state(&whole));
    }

    #[test]
    fn random_splits_of_long_streams_give_the_same_result(parts in parts(70_000), masked: bool, places: Vec<prop::sample::Index>) {
        let frames = valid(parts, masked);
        let bytes = stream(&frames);
        let mut places: Vec<_> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<_> = places.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        prop_assert_eq!(follow(&mut follower(masked), &pieces), expected(&frames));
    }

    #[test]
    fn splits_of_random_bytes_give_the_same_result(bytes: Vec<u8>, masked: bool, extensions: bool, place: prop::sample::Index) {
        let side = if masked { Side::Client } else { Side::Server };
        let mut whole = Follower::new(side, extensions);
        let seen = follow(&mut whole, &[&bytes]);
        let (first, second) = bytes.split_at(place.index(bytes.len() + 1));
        for pieces in [vec![first, second], bytes.chunks(1).collect()] {
            let mut split = Follower::new(side, extensions);
            prop_assert_eq!(&follow(&mut split, &pieces), &seen);
            prop_assert_eq!(state(&split), state(&whole));
        }
    }

    #[test]
    fn unmasking_in_pieces_gives_the_same_result(payload: Vec<u8>, mask: [u8; 4], offset in 0..u64::MAX / 2, place: prop::sample::Index) {
        let plain: Vec<_> = (offset..).zip(&payload).map(|(at, byte)| byte ^ mask[usize::try_from(at % 4).unwrap()]).collect();
        let (first, second) = payload.split_at(place.index(payload.len() + 1));
        let mut unmasked = b"kept".to_vec();
        unmask(mask, offset, first, &mut unmasked);
        unmask(mask, offset + first.len() as u64, second, &mut unmasked);
        prop_assert_eq!(unmasked, [b"kept", &plain[..]].concat());
    }
}
