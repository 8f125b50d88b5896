//! Each violation by itself, and the frames after it.

use super::*;

/// Checks that the last of these frames causes this violation, and that a frame after it is still parsed.
#[track_caller]
fn breaks(side: Side, frames: &[Written], violation: Invalid) {
    breaks_with_bytes(side, frames, &[], violation);
}

#[track_caller]
fn breaks_with_bytes(side: Side, frames: &[Written], last: &[u8], violation: Invalid) {
    let mut follower = Follower::new(side, false);
    let valid = if last.is_empty() { frames.len() - 1 } else { frames.len() };
    follow(&mut follower, &[&stream(&frames[..valid])]);
    assert_eq!(follower.invalid(), None);
    follow(&mut follower, &[&stream(&frames[valid..]), last]);
    assert_eq!(follower.invalid(), Some(violation));
    assert!(follower.at_frame_boundary());

    let next = frame(CONTINUE, false, "still followed");
    let other = Written { mask: if side == Side::Client { None } else { Some(MASK) }, ..next };
    let seen = follow(&mut follower, &[&other.bytes()]);
    assert_eq!(seen, expected(&[other]));
    assert_eq!(follower.invalid(), Some(violation), "the first one is kept");
}

fn unmasked(written: Written) -> Written {
    Written { mask: None, ..written }
}

#[test]
fn wrong_masking_is_a_violation() {
    breaks(Side::Client, &[frame(TEXT, true, "a"), unmasked(frame(TEXT, true, "b"))], Invalid::Unmasked);
    breaks(Side::Server, &[unmasked(frame(TEXT, true, "a")), frame(PONG, true, "b")], Invalid::Masked);
}

#[test]
fn reserved_opcodes_are_violations() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        breaks(Side::Client, &[frame(opcode, true, "a")], Invalid::ReservedOpcode);
        breaks(Side::Server, &[unmasked(frame(opcode, false, vec![0; 70_000]))], Invalid::ReservedOpcode);
    }
}

#[test]
fn reserved_bits_need_an_extension() {
    for rsv in 1..8 {
        let written = Written { rsv, ..frame(TEXT, true, "a") };
        let mut with_extension = Follower::new(Side::Client, true);
        assert_eq!(follow(&mut with_extension, &[&written.bytes()]), expected(std::slice::from_ref(&written)));
        assert_eq!(with_extension.invalid(), None);
        breaks(Side::Client, &[written], Invalid::ReservedBits);
    }
}

#[test]
fn malformed_control_frames_are_violations() {
    for opcode in [CLOSE, PING, PONG] {
        breaks(Side::Client, &[frame(opcode, false, "ab")], Invalid::ControlFragmented);
        for length in [126, 65_536] {
            breaks(Side::Client, &[frame(opcode, true, vec![0; length])], Invalid::ControlTooLong);
        }
    }
    breaks(Side::Client, &[frame(CLOSE, true, "a")], Invalid::CloseOfOneByte);
    let mut follower = Follower::new(Side::Client, false);
    follow(&mut follower, &[&stream(&[frame(PING, true, "a"), frame(PONG, true, [0; 125]), frame(CLOSE, true, "")])]);
    assert_eq!(follower.invalid(), None);
}

#[test]
fn lengths_must_be_in_their_shortest_form() {
    for (length, form) in [(0, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65_535, 8)] {
        let masked = frame(BINARY, true, vec![0; length]);
        for (side, written) in [(Side::Server, unmasked(masked.clone())), (Side::Client, masked)] {
            let mut bytes = header_with_form(&written, length as u64, form);
            bytes.extend(&written.payload);
            breaks_with_bytes(side, &[], &bytes, Invalid::LengthNotShortest);
        }
    }
}

#[test]
fn misplaced_fragments_are_violations() {
    breaks(Side::Client, &[frame(CONTINUE, true, "a")], Invalid::ContinuationWithoutMessage);
    breaks(Side::Client, &[frame(TEXT, true, "a"), frame(CONTINUE, false, "")], Invalid::ContinuationWithoutMessage);
    for opcode in [TEXT, BINARY] {
        let frames = [frame(TEXT, false, "a"), frame(PING, true, ""), frame(opcode, true, "b")];
        breaks(Side::Client, &frames, Invalid::MessageInsideMessage);
    }
}

#[test]
fn a_length_of_2_63_or_more_loses_the_stream() {
    for length in [1 << 63, u64::MAX] {
        let bytes = [frame(TEXT, true, "a").bytes(), header(&frame(BINARY, true, ""), length), vec![0; 50]].concat();
        let mut whole = Follower::new(Side::Client, false);
        let seen = follow(&mut whole, &[&bytes]);
        assert_eq!((seen.frames.len(), seen.lost), (1, true));
        assert_eq!(whole.invalid(), Some(Invalid::LengthTooLarge));
        assert!(!whole.at_frame_boundary() && !whole.at_message_boundary());
        assert_eq!(whole.frame(), None);
        assert_eq!(whole.step(b"x"), (1, FrameEvent::Lost));
        let mut split = Follower::new(Side::Client, false);
        assert_eq!(follow(&mut split, &bytes.chunks(1).collect::<Vec<_>>()), seen);
    }
}

#[test]
fn each_violation_has_its_own_message() {
    let all = [
        Invalid::Unmasked,
        Invalid::Masked,
        Invalid::ReservedOpcode,
        Invalid::ReservedBits,
        Invalid::LengthTooLarge,
        Invalid::LengthNotShortest,
        Invalid::ControlFragmented,
        Invalid::ControlTooLong,
        Invalid::CloseOfOneByte,
        Invalid::ContinuationWithoutMessage,
        Invalid::MessageInsideMessage,
    ];
    let said: std::collections::HashSet<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), all.len());
}
