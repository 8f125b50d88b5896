//! Headers, boundaries and messages of valid streams.

use super::*;

#[test]
fn a_follower_is_small() {
    assert!(size_of::<Follower>() <= 64, "{}", size_of::<Follower>());
}

#[test]
fn every_form_of_length_is_parsed() {
    for (length, size) in [(0, 2), (1, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        for mask in [None, Some(MASK)] {
            let written = Written { mask, ..frame(BINARY, true, vec![7; length]) };
            let side = if mask.is_some() { Side::Client } else { Side::Server };
            let mut follower = Follower::new(side, false);
            let seen = follow(&mut follower, &[&written.bytes()]);
            assert_eq!(seen, expected(&[written]));
            assert_eq!(seen.frames[0].0.size, if mask.is_some() { size + 4 } else { size });
            assert_eq!(follower.invalid(), None);
            assert!(follower.at_message_boundary());
        }
    }
}

#[test]
fn the_examples_of_the_rfc_are_parsed() {
    // §5.7: "Hello" unmasked, masked, in two fragments, and a ping.
    let mut server = Follower::new(Side::Server, false);
    let bytes = b"\x81\x05Hello\x01\x03Hel\x80\x02lo\x89\x05Hello";
    let seen = follow(&mut server, &[bytes]);
    let payloads: Vec<_> = seen.frames.iter().map(|(_, payload, _)| payload.as_slice()).collect();
    assert_eq!(payloads, [&b"Hello"[..], b"Hel", b"lo", b"Hello"]);
    assert_eq!(server.invalid(), None);

    let mut client = Follower::new(Side::Client, false);
    let seen = follow(&mut client, &[b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"]);
    assert_eq!(seen.frames[0].1, b"Hello");
    assert_eq!(client.invalid(), None);
}

#[test]
fn the_maximum_length_is_allowed() {
    let mut follower = Follower::new(Side::Client, false);
    let length = u64::MAX >> 1;
    let bytes = [header(&frame(BINARY, true, []), length), vec![0; 100]].concat();
    let seen = follow(&mut follower, &[&bytes]);
    let (head, payload, complete) = &seen.frames[0];
    assert_eq!((head.length, payload.len(), complete), (length, 100, &false));
    assert_eq!(follower.invalid(), None);
}

#[test]
fn a_fragmented_message_with_control_frames_has_correct_boundaries() {
    let steps = [
        (frame(TEXT, false, "a"), Some(Data::Text), false),
        (frame(PING, true, "keepalive"), Some(Data::Text), false),
        (frame(CONTINUE, false, ""), Some(Data::Text), false),
        (frame(PONG, true, ""), Some(Data::Text), false),
        (frame(CONTINUE, true, ""), Some(Data::Text), true),
        (frame(PONG, true, ""), None, true),
        (frame(BINARY, true, ""), Some(Data::Binary), true),
        (frame(BINARY, false, ""), Some(Data::Binary), false),
        (frame(CONTINUE, true, "z"), Some(Data::Binary), true),
        (frame(CLOSE, true, [0x03, 0xE8]), None, true),
    ];
    let mut follower = Follower::new(Side::Client, false);
    assert!(follower.at_message_boundary());
    for (written, message, at_message_boundary) in steps {
        let seen = follow(&mut follower, &[&written.bytes()]);
        assert_eq!(seen, expected(std::slice::from_ref(&written)));
        assert_eq!(follower.message(), message, "{written:?}");
        assert!(follower.at_frame_boundary());
        assert_eq!(follower.at_message_boundary(), at_message_boundary, "{written:?}");
    }
    assert_eq!(follower.invalid(), None);
}

#[test]
fn there_is_no_boundary_inside_a_header_or_payload() {
    let bytes = frame(TEXT, true, "ab").bytes();
    let mut follower = Follower::new(Side::Client, false);
    for byte in &bytes[..bytes.len() - 1] {
        follower.step(&[*byte]);
        assert!(!follower.at_frame_boundary() && !follower.at_message_boundary());
    }
    assert_eq!(follower.step(&bytes[bytes.len() - 1..]), (1, FrameEvent::Payload { length: 1, offset: 1, last: true }));
    assert!(follower.at_message_boundary());
    assert_eq!(follower.message(), Some(Data::Text));
    assert!(follower.frame().is_some());
    follower.step(&bytes[..1]);
    assert_eq!((follower.frame(), follower.message()), (None, None));
}

#[test]
fn an_empty_input_changes_nothing() {
    let bytes = [frame(TEXT, false, "ab").bytes(), frame(CONTINUE, true, "").bytes()].concat();
    let mut follower = Follower::new(Side::Client, false);
    for byte in &bytes {
        let before = format!("{follower:?}");
        assert_eq!(follower.step(&[]).0, 0);
        assert_eq!(format!("{follower:?}"), before);
        follower.step(&[*byte]);
    }
}
