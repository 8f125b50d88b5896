//! Tokens in messages: the dead ones never reach the app, however they are written.

use crate::harness::{
    App, CUT_FRAMES, Ends, Idlegate, PING, PONG, Request, Socket, TEXT, Wire, eventually, log_in, masked, soon,
    unmasked,
};
use serde_json::{Value, json};
use std::time::Instant;
use tokio_tungstenite::tungstenite::Message;

const BINARY: u8 = 0x82;
const QUIET: &[&str] = &["--ping", "600"];

fn offer(token: &str) -> String {
    json!({"cmd": "authenticate", "session_id": token}).to_string()
}

/// The first app's proxy and stand-in, and tokens of theirs.
struct Classroom {
    app: App,
    proxy: Idlegate,
}

impl Classroom {
    fn open() -> Self {
        let app = App::start(QUIET);
        let proxy = Idlegate::shipped(&app.upstream, &[]);
        Self { app, proxy }
    }

    async fn token(&self) -> String {
        log_in(self.proxy.address, "ada", "lovelace").await
    }

    /// A token whose session has ended.
    async fn dead_token(&self) -> String {
        let token = self.token().await;
        self.end(&token).await;
        token
    }

    async fn end(&self, token: &str) {
        let answer = Request::post(self.proxy.address, "/api/logout").json(&json!({"session_id": token})).send().await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// A socket that has been asked to authenticate.
    async fn wire(&self) -> Wire {
        let mut wire = Wire::connect(self.proxy.address).await;
        wire.upgrade("/ws", "").await;
        let (_, greeting) = wire.frame().await;
        assert!(greeting.starts_with(b"{\"type\": \"auth_required\""), "{}", String::from_utf8_lossy(&greeting));
        wire
    }

    /// How many times the app was asked to authenticate.
    fn attempts(&self) -> usize {
        self.app.seen_of("ws-authenticate").len()
    }
}

/// The words of the cut, then the end.
async fn refused(wire: &mut Wire, why: &str) {
    let (first, text) = wire.frame().await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(first == TEXT && text.contains("session_terminated"), "{why}: {text}");
    let (first, close) = wire.frame().await;
    assert_eq!((first, &close[..2]), (0x88, &4002_u16.to_be_bytes()[..]), "{why}");
    assert_eq!(wire.rest().await, b"", "{why}");
}

async fn answer(wire: &mut Wire) -> Value {
    let (_, text) = wire.frame().await;
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_is_refused_in_every_spelling_and_the_app_never_sees_it() {
    let room = Classroom::open();
    let dead = room.dead_token().await;
    let plain = offer(&dead);
    let spellings = [
        plain.clone(),
        format!(r#"  {{ "session_id" : "{dead}" , "cmd" : "authenticate" }}  "#),
        format!(r#"{{"cmd":"\u0061uthenticate","session\u005fid":"{dead}"}}"#),
        format!(r#"{{"cmd":"authenticate","session_id":"junk","session_id":"{dead}"}}"#),
        format!(r#"{{"cmd":"authenticate","session_id":"{dead}","session_id":"junk"}}"#),
        format!(r#"{{"cmd":"pong","cmd":"authenticate","session_id":"{dead}"}}"#),
        format!(r#"{{"cmd":"authenticate","session_id":"{dead}","x":[NaN,Infinity,-Infinity]}}"#),
        format!(r#"{{"cmd":"authenticate","session_id":"{dead}","x":"\ud800"}}"#),
        format!("{}{}", " ".repeat(60_000), plain),
    ];
    let mut frames: Vec<(String, Vec<u8>)> = Vec::new();
    for text in &spellings {
        let shown = text.trim().replace(&dead, "DEAD");
        frames.push((shown.clone(), masked(TEXT, text.as_bytes())));
        frames.push((format!("binary {shown}"), masked(BINARY, text.as_bytes())));
        frames.push((format!("unmasked {shown}"), unmasked(TEXT, text.as_bytes())));
    }
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    frames.push(("UTF-16".into(), masked(BINARY, &utf16)));
    let (a, rest) = plain.as_bytes().split_at(9);
    let (b, c) = rest.split_at(20);
    frames.push(("in three pieces".into(), [masked(0x01, a), masked(0x00, b), masked(0x80, c)].concat()));
    frames.push(("behind an invalid frame".into(), [unmasked(0x8a, b""), masked(TEXT, plain.as_bytes())].concat()));
    frames.push((
        "beside junk".into(),
        [masked(TEXT, offer("junk").as_bytes()), masked(TEXT, plain.as_bytes())].concat(),
    ));
    for (what, bytes) in &frames {
        let mut wire = room.wire().await;
        wire.send(bytes).await;
        if what == "beside junk" {
            let text = wire.until("session_terminated").await;
            assert!(!text.contains("auth_success"), "{text}");
            continue;
        }
        refused(&mut wire, what).await;
    }
    let dead_id = room.app.seen_of("request").iter().find_map(|seen| seen["session"].as_str().map(str::to_owned));
    let reached: Vec<_> = room
        .app
        .seen_of("ws-message")
        .into_iter()
        .filter(|seen| seen["session"].as_str() == dead_id.as_deref())
        .collect();
    assert!(dead_id.is_some() && reached.is_empty(), "{reached:?}");
    assert!(room.attempts() <= 1, "the app saw more than junk: {:?}", room.app.seen_of("ws-authenticate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_amidst_a_message_that_is_examined_is_answered() {
    let room = Classroom::open();
    let (live, dead) = (room.token().await, room.dead_token().await);
    for (token, is_dead) in [(live, false), (dead, true)] {
        let mut wire = room.wire().await;
        let text = offer(&token);
        let (a, rest) = text.as_bytes().split_at(12);
        let (b, c) = rest.split_at(30);
        wire.send([masked(0x01, a), masked(PING, b"there?"), masked(0x00, b)].concat()).await;
        assert_eq!(wire.frame().await, (PONG, b"there?".to_vec()));
        wire.send(masked(PING, b"still?")).await;
        assert_eq!(wire.frame().await, (PONG, b"still?".to_vec()));
        wire.send(masked(0x80, c)).await;
        if is_dead {
            refused(&mut wire, "fragmented").await;
        } else {
            assert_eq!(answer(&mut wire).await["type"], "auth_success");
        }
    }
    assert_eq!(room.attempts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_accepted_token_that_was_not_recognised_the_client_gets_nothing() {
    let mut ends = Ends::start().await;
    let padded = format!("{}{}", " ".repeat(70_000), offer("hidden"));
    let success = br#"{"type":"auth_success"}"#;
    for fragmented in [false, true] {
        let (mut client, mut app) = ends.open_as(&fragmented.to_string(), "/ws").await;
        client.send(masked(TEXT, padded.as_bytes())).await;
        app.frame().await;
        if fragmented {
            let begun = unmasked(0x01, &success[..5]);
            app.send([&begun[..], &unmasked(0x80, &success[5..])].concat()).await;
            assert_eq!(client.rest().await, [&begun, &CUT_FRAMES[5..]].concat(), "the message stays open, so no text");
        } else {
            app.send(unmasked(TEXT, success)).await;
            assert_eq!(client.rest().await, CUT_FRAMES);
        }
    }
    // The real app takes a padded token.
    let room = Classroom::open();
    let live = room.token().await;
    let mut wire = room.wire().await;
    wire.send(masked(TEXT, format!("{}{}", " ".repeat(70_000), offer(&live)).as_bytes())).await;
    refused(&mut wire, "padded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_too_long_to_examine_is_logged_once_while_a_token_waits() {
    let mut ends = Ends::start().await;
    let (mut client, mut app) = ends.open("/ws", "").await;
    let long = unmasked(TEXT, &vec![b' '; 70_000]);
    for (offers, told) in [(false, 0), (true, 1), (true, 1)] {
        if offers {
            client.send(masked(TEXT, offer("new").as_bytes())).await;
            app.frame().await;
        }
        app.send(&long).await;
        assert_eq!(client.bytes(long.len()).await, long);
        ends.proxy.has_logged("too long to examine", told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_offers_are_answered_in_order() {
    let room = Classroom::open();
    for good_first in [true, false] {
        let live = room.token().await;
        let mut offers = [offer(&live), offer("junk")];
        if !good_first {
            offers.reverse();
        }
        let mut wire = room.wire().await;
        wire.send([masked(TEXT, offers[0].as_bytes()), masked(TEXT, offers[1].as_bytes())].concat()).await;
        let answers = [answer(&mut wire).await, answer(&mut wire).await];
        let accepted = answers.iter().position(|answer| answer["type"] == "auth_success");
        assert_eq!(accepted, Some(usize::from(!good_first)), "{answers:?}");
        // The tunnel is the good token's.
        room.end(&live).await;
        refused(&mut wire, "the logout of the good token").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_junk_token_is_never_taken_for_the_accepted_one() {
    let room = Classroom::open();
    let live = room.token().await;
    let junk = |more: &str| format!(r#"{{"cmd":"authenticate","session_id":"junk"{more}}}"#);
    let lures: [&[String]; 5] = [
        // Read by the app as a pong, which it does not answer.
        &[junk(r#","cmd":"pong""#), offer(&live)],
        // Not JSON to Python, which does not answer either.
        &[junk(",\"x\":\"\n\""), offer(&live)],
        &[junk(&format!(",\"x\":1{}", "0".repeat(5000))), offer(&live)],
        // Answered by an error that is not about a token.
        &[r#"{"cmd":"nonsense"}"#.into(), offer(&live), offer("junk")],
        &[format!(r#"{{"cmd":"authenticate","session_id":"junk","session_id":"{live}"}}"#), offer("junk")],
    ];
    for (number, lure) in lures.iter().enumerate() {
        let mut wire = room.wire().await;
        wire.send(lure.iter().flat_map(|text| masked(TEXT, text.as_bytes())).collect::<Vec<u8>>()).await;
        let said = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(said.contains("session_terminated") && !said.contains("auth_success"), "lure {number}: {said}");
    }
    let tracked = room.proxy.logged("session ended");
    assert!(tracked.is_empty(), "{tracked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_token_moves_the_tunnel_to_its_session() {
    let room = Classroom::open();
    let (first, second) = (room.token().await, room.token().await);
    let (mut socket, _) = Socket::authenticated(room.proxy.address, &first).await;
    socket.say(&json!({"cmd": "authenticate", "session_id": second})).await;
    assert_eq!(socket.json().await["type"], "auth_success");
    room.end(&first).await;
    socket.say(&json!({"cmd": "echo", "data": "still here"})).await;
    assert_eq!(socket.json().await["data"], "still here");
    room.end(&second).await;
    assert_eq!(soon("the cut", socket.cut_words()).await.1, 4002);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_offers_without_end_is_refused() {
    let mut ends = Ends::start().await;
    let (mut client, mut app) = ends.open("/ws", "").await;
    let offers: Vec<u8> = (0..1000).flat_map(|number| masked(TEXT, offer(&number.to_string()).as_bytes())).collect();
    client.send(&offers).await;
    assert_eq!(client.rest().await, CUT_FRAMES);
    let one = masked(TEXT, offer("000").as_bytes()).len();
    let reached = app.rest().await.len() / one;
    assert!((60..=70).contains(&reached), "{reached} offers reached the app");
    // With answers in between there is no end to it.
    let room = Classroom::open();
    let mut wire = room.wire().await;
    for number in 0..200 {
        wire.send(masked(TEXT, offer(&number.to_string()).as_bytes())).await;
        assert_eq!(answer(&mut wire).await["type"], "error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_may_come_byte_by_byte_and_behind_a_late_question() {
    let mut ends = Ends::start().await;
    let (mut client, mut app) = ends.open("/ws", "").await;
    client.send(masked(TEXT, offer("late").as_bytes())).await;
    app.frame().await;
    let said = [
        unmasked(TEXT, br#"{"type":"auth_required"}"#),
        unmasked(TEXT, br#"{"type":"auth_success","username":"ada"}"#),
    ]
    .concat();
    for byte in &said {
        app.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.bytes(said.len()).await, said);
    let (mut second, _second_app) = ends.open_as("late", "/plain").await;
    ends.log_out("late").await;
    assert_eq!((client.rest().await, second.rest().await), (CUT_FRAMES.to_vec(), CUT_FRAMES.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_app_issues_on_the_tunnel_is_cut_there_too() {
    let room = Classroom::open();
    let mut wire = room.wire().await;
    let login = json!({"cmd": "authenticate", "username": "ada", "password": "lovelace"}).to_string();
    wire.send(masked(TEXT, login.as_bytes())).await;
    let token = answer(&mut wire).await["session_id"].as_str().unwrap().to_owned();
    room.end(&token).await;
    refused(&mut wire, "the logout").await;
    let mut again = room.wire().await;
    again.send(masked(TEXT, offer(&token).as_bytes())).await;
    refused(&mut again, "an issued token that is dead").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_nobodys_token() {
    let room = Classroom::open();
    let token = room.token().await;
    let (mut socket, _) = Socket::authenticated(room.proxy.address, &token).await;
    let code = "def authenticate(): return \"authenticate\" + '\\u0061' + '\"'\n".repeat(50_000);
    for _ in 0..3 {
        socket.send(Message::text(json!({"cmd": "echo", "data": code}).to_string())).await;
        assert_eq!(socket.json().await["data"], code);
    }
    let (other, again) = (room.token().await, json!({"cmd": "authenticate", "session_id": token}));
    socket.say(&again).await;
    assert_eq!(socket.json().await["type"], "auth_success");
    room.end(&other).await;
    socket.say(&json!({"cmd": "echo", "data": 1})).await;
    assert_eq!(socket.json().await["data"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reconnects_with_a_dead_token_are_refused_each_and_leave_nothing() {
    let room = Classroom::open();
    let dead = room.dead_token().await;
    let before = room.proxy.open_files();
    let begun = Instant::now();
    let mut memory = 0;
    for round in 0..20 {
        let attempts = (0..50).map(|_| async {
            let mut wire = room.wire().await;
            wire.send(masked(TEXT, offer(&dead).as_bytes())).await;
            refused(&mut wire, "a reconnect").await;
        });
        futures_util::future::join_all(attempts).await;
        if round == 4 {
            memory = room.proxy.peak_memory();
        }
    }
    eprintln!("1,000 refused reconnects took {:?}", begun.elapsed());
    assert_eq!(room.attempts(), 0);
    eventually("all sockets to be closed", async || room.proxy.open_files() <= before + 2).await;
    let grown = room.proxy.peak_memory().saturating_sub(memory);
    assert!(grown < 2000, "memory grew by {grown} KiB");
}
