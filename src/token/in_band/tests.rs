//! Offers, and which of them were accepted.

use super::*;
use crate::token::{Expected, Pattern, Scalar, TokenRules};
use proptest::prelude::*;
use std::collections::VecDeque;

const GOOD: &str = r#"{"type":"auth_success","username":"ada"}"#;
const BAD: &str = r#"{"type":"error","message":"Invalid or expired session"}"#;
const TALK: &str = r#"{"cmd":"run"}"#;

fn when(pointer: &str, text: &str) -> Conditions {
    Conditions(vec![(Pointer::parse(pointer).unwrap(), Expected::Equal(Scalar::Text(text.into())))])
}

/// A tunnel with the rules for the classroom app.
fn tunnel() -> InBand {
    tunnel_with(TokenRule::new)
}

/// The same, with further keys of the rule for the client.
fn tunnel_with(of_client: impl Fn(Location) -> TokenRule) -> InBand {
    let pointer = || Pointer::parse("/session_id").unwrap();
    let client = Location::WsClient {
        pointer: pointer(),
        when: when("/cmd", "authenticate"),
        accept_when: when("/type", "auth_success"),
        reject_when: Some(when("/type", "error")),
    };
    let server = Location::WsServer { pointer: pointer(), when: when("/type", "auth_success") };
    let rules = vec![of_client(client), TokenRule::new(server)];
    InBand::new(TokenRules::new(rules, SessionIds::default()).in_band(&Route::get("/ws")))
}

fn id(token: &str) -> SessionId {
    SessionId::of_token(token.as_bytes())
}

fn offer(token: &str) -> String {
    format!(r#"{{"cmd":"authenticate","session_id":"{token}"}}"#)
}

/// The client sends these messages, and their offers are forwarded.
fn say<M: AsRef<[u8]>>(tunnel: &mut InBand, messages: impl IntoIterator<Item = M>) {
    for message in messages {
        if let ClientMessage::Offer(offer) = tunnel.client_message(message.as_ref()) {
            assert!(tunnel.offered(offer));
        }
    }
}

fn answer(tunnel: &mut InBand, message: &str) -> ServerMessage {
    tunnel.server_message(message.as_bytes())
}

fn ids_in(message: impl AsRef<[u8]>) -> Option<Vec<SessionId>> {
    match tunnel().client_message(message.as_ref()) {
        ClientMessage::Offer(offer) => Some(offer.ids),
        ClientMessage::Other => None,
    }
}

#[test]
fn a_token_is_found_in_every_spelling_that_python_reads() {
    let spellings = [
        r#"{"cmd":"authenticate","session_id":"abc"}"#,
        r#"  {"session_id" : "abc" , "cmd" : "authenticate"}  "#,
        r#"{"cmd":"\u0061uthenticate","session_id":"abc"}"#,
        r#"{"\u0063md":"authenticate","session\u005fid":"\u0061bc"}"#,
        r#"{"cmd":"authenticate","session_id":" abc\n"}"#,
        r#"{"cmd":"authenticate","session_id":"abc","x":[NaN,Infinity,-Infinity]}"#,
        r#"{"cmd":"authenticate","session_id":"abc","x":"\ud800"}"#,
        r#"{"cmd":"pong","cmd":"authenticate","session_id":"abc"}"#,
        r#"{"cmd":"authenticate","cmd":"pong","session_id":"abc"}"#,
    ];
    for message in spellings {
        assert_eq!(ids_in(message), Some(vec![id("abc")]), "{message}");
        let utf16: Vec<u8> = message.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(ids_in(utf16), Some(vec![id("abc")]), "{message} in UTF-16");
        let utf32: Vec<u8> = message.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        assert_eq!(ids_in(utf32), Some(vec![id("abc")]), "{message} in UTF-32");
    }
    for both in [
        r#"{"cmd":"authenticate","session_id":"abc","session_id":"def"}"#,
        r#"{"session_id":"def","session_id":"abc","cmd":"authenticate"}"#,
    ] {
        let mut ids = vec![id("abc"), id("def")];
        ids.sort_unstable();
        assert_eq!(ids_in(both), Some(ids), "{both}");
    }
}

#[test]
fn a_message_that_merely_mentions_the_command_is_no_offer() {
    let code = serde_json::json!({"cmd": "save", "code": "def authenticate():\n  return \"authenticate\" + '\\u0061'"});
    for message in [code.to_string().as_str(), r#"{"cmd":"echo","data":"authenticate"}"#, "", "hello", "\u{0}"] {
        assert_eq!(ids_in(message), None, "{message}");
    }
    assert_eq!(ids_in(r#"{"cmd":"authenticate","session_id":7}"#), Some(vec![]));
    assert_eq!(ids_in("authenticate me, \"authenticate\"!"), Some(vec![]));
}

#[test]
fn answers_match_offers_in_order() {
    let mut tunnel = tunnel();
    say(&mut tunnel, [offer("bad"), offer("good"), offer("worse"), offer("better")]);
    assert_eq!(answer(&mut tunnel, r#"{"type":"auth_required"}"#), ServerMessage::Other);
    assert_eq!(answer(&mut tunnel, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut tunnel, GOOD), ServerMessage::Accepted(id("good")));
    assert_eq!(answer(&mut tunnel, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut tunnel, GOOD), ServerMessage::Accepted(id("better")));
    assert_eq!(answer(&mut tunnel, GOOD), ServerMessage::Unrecognised);
}

#[test]
fn an_issued_token_overrides_the_accepted_offer() {
    let mut tunnel = tunnel();
    say(&mut tunnel, [r#"{"cmd":"authenticate","username":"ada","password":"lovelace"}"#]);
    let issued = r#"{"type":"auth_success","session_id":"new"}"#;
    assert_eq!(answer(&mut tunnel, issued), ServerMessage::Issued(id("new")));
}

#[test]
fn an_ambiguous_offer_keeps_its_place_and_is_never_accepted() {
    let odd = [
        r#"{"cmd":"authenticate","session_id":"dead""#,
        r#"{"cmd":"authenticate","session_id":"one","session_id":"two"}"#,
        r#"{"cmd":"authenticate","session_id":"one","cmd":"pong"}"#,
        r#"{"cmd":"authenticate","session_id":"one","x":NaN}"#,
        "{\"cmd\":\"authenticate\",\"session_id\":\"one\",\"x\":\"\n\"}",
        r#"{"cmd":"authenticate"}"#,
    ];
    for message in odd {
        let mut accepted = tunnel();
        say(&mut accepted, [message, &offer("junk")]);
        assert_eq!(answer(&mut accepted, GOOD), ServerMessage::Unrecognised, "{message}");
        let mut behind = tunnel();
        say(&mut behind, [offer("bad").as_str(), message, &offer("junk")]);
        assert_eq!(answer(&mut behind, BAD), ServerMessage::Other, "{message}");
        assert_eq!(answer(&mut behind, GOOD), ServerMessage::Unrecognised, "{message}");
    }
    // The app may not answer an ambiguous offer at all. The rejection is then for the next one.
    let mut silent = tunnel();
    say(&mut silent, [odd[4], &offer("good"), &offer("junk")]);
    assert_eq!(answer(&mut silent, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut silent, GOOD), ServerMessage::Unrecognised);
}

#[test]
fn an_unrelated_error_does_not_make_a_junk_token_the_accepted_one() {
    let mut lured = tunnel();
    say(&mut lured, [TALK, &offer("good"), &offer("junk")]);
    assert_eq!(answer(&mut lured, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut lured, GOOD), ServerMessage::Unrecognised);

    let mut twice = tunnel();
    say(&mut twice, [TALK, &offer("good"), &offer("good"), &offer("junk")]);
    assert_eq!(answer(&mut twice, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut twice, GOOD), ServerMessage::Accepted(id("good")));
    assert_eq!(answer(&mut twice, GOOD), ServerMessage::Unrecognised);

    let mut honest = tunnel();
    say(&mut honest, [TALK, &offer("good")]);
    assert_eq!(answer(&mut honest, BAD), ServerMessage::Other);
    assert_eq!(answer(&mut honest, GOOD), ServerMessage::Accepted(id("good")), "the only one it can have been");
}

#[test]
fn a_long_message_is_one_offer_with_an_unknown_token() {
    let mut tunnel = tunnel();
    let offer = tunnel.client_piece(br#"{"cmd":"authenticate","session_id":"#, false).unwrap();
    assert!(tunnel.offered(offer));
    assert_eq!(tunnel.client_piece(b"\"authenticate\"", true), None);
    let again = tunnel.client_piece(b"\"authenticate\"", true).expect("the next message offers again");
    assert!(tunnel.offered(again));
    assert_eq!(tunnel.client_piece(b"nothing of the kind", true), None);
    assert_eq!(answer(&mut tunnel, GOOD), ServerMessage::Unrecognised);
}

#[test]
fn the_number_of_unanswered_offers_is_limited() {
    let mut tunnel = tunnel();
    let offers =
        (0..1000).map(|number| tunnel.client_message(offer(&number.to_string()).as_bytes())).collect::<Vec<_>>();
    let passed = offers.into_iter().take_while(|said| match said {
        ClientMessage::Offer(offer) => tunnel.offered(offer.clone()),
        ClientMessage::Other => false,
    });
    assert_eq!(passed.count(), 64);
}

#[test]
fn large_messages_that_look_like_offers_do_not_exhaust_the_limit() {
    let mut tunnel = tunnel();
    for _ in 0..1000 {
        let looks = tunnel.client_piece(b"\"authenticate\"", true).unwrap();
        assert!(tunnel.offered(looks));
    }
}

proptest! {
    /// Whatever a client sends and however the app reads it, a token that the app did not accept never counts as
    /// accepted. The app answers unknown commands with the same message as rejected tokens.
    #[test]
    fn only_the_accepted_token_counts_as_accepted(said in prop::collection::vec(0..5_u8, 1..12), delay in 0..6_usize) {
        let mut tunnel = tunnel();
        let mut answers = VecDeque::new();
        let mut refused = false;
        for kind in said.into_iter().map(Some).chain((0..12).map(|_| None)) {
            let (message, reply) = match kind {
                Some(0) => (offer("good"), Some(GOOD)),
                Some(1) => (offer("junk"), Some(BAD)),
                Some(2) => (TALK.to_owned(), Some(BAD)),
                // Python rejects a raw newline in a string, and this app then sends no answer.
                Some(3) => ("{\"cmd\":\"authenticate\",\"session_id\":\"junk\",\"x\":\"\n\"}".to_owned(), None),
                Some(_) => (r#"{"cmd":"authenticate","session_id":"junk","session_id":"good"}"#.to_owned(), Some(GOOD)),
                None => (String::new(), None),
            };
            if kind.is_some() {
                say(&mut tunnel, [message]);
                answers.extend(reply);
            }
            if (kind.is_none() || answers.len() > delay) && !refused && let Some(reply) = answers.pop_front() {
                match answer(&mut tunnel, reply) {
                    ServerMessage::Accepted(accepted) | ServerMessage::Issued(accepted) => prop_assert_eq!(accepted, id("good")),
                    ServerMessage::Unrecognised => refused = true,
                    ServerMessage::Other => {}
                }
            }
        }
    }
}

#[test]
fn a_token_without_the_format_is_never_accepted_and_can_still_be_dead() {
    let format = Pattern::whole("[a-z]{3}").unwrap();
    let tunnel = || tunnel_with(|place| TokenRule { format: Some(format.clone()), ..TokenRule::new(place) });
    for (token, ids, accepted) in [
        ("abc", vec![id("abc")], ServerMessage::Accepted(id("abc"))),
        (r"\u0061bc", vec![id("abc")], ServerMessage::Accepted(id("abc"))),
        (" abc", vec![id("abc")], ServerMessage::Unrecognised),
        ("abcd", vec![], ServerMessage::Unrecognised),
    ] {
        let mut tunnel = tunnel();
        let ClientMessage::Offer(found) = tunnel.client_message(offer(token).as_bytes()) else { panic!("{token}") };
        assert_eq!((&found.ids, found.has_token()), (&ids, accepted != ServerMessage::Unrecognised), "{token}");
        assert!(tunnel.offered(found));
        assert_eq!(answer(&mut tunnel, GOOD), accepted, "{token}");
    }
}
