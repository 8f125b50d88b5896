//! Fuzzing: invalid values in every kind of key, field and message that a replica reads.

use super::replica::Replica;
use super::{LIMITS, Server, eventually, key_of};
use crate::clock::Clock;
use crate::registry::Resolved;
use crate::session::{Limits, SessionId};
use proptest::prelude::*;
use redis::Value;
use std::time::Duration;
use tokio::time::sleep;

#[derive(Clone, Debug)]
enum Junk {
    /// A value of another type at the key of a session, or at the key of the mode.
    Type(Option<usize>, usize),
    Field(usize, &'static str, Vec<u8>),
    Mark(String, Vec<u8>),
    Mode(Vec<u8>),
    Message(Vec<u8>),
}

const VICTIMS: [&str; 3] = ["victim 0", "victim 1", "victim 2"];
const OTHERS: [&str; 3] = ["other 0", "other 1", "other 2"];

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = [
        "",
        "0",
        "-1",
        "1",
        "5",
        "nan",
        "inf",
        "1e300",
        "0x10",
        "1.5",
        "junk",
        " 1759431600",
        "1759431600 ",
        "17594316000000",
        "99999999999999999999",
        "1759431600123 nonsense",
        "999999999999999 off",
        "1759431600123 enforce 1 1",
        "ask",
        "ask 1 {}",
        "mode",
        "mode junk",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

fn junk() -> impl Strategy<Value = Junk> {
    let who = 0..VICTIMS.len();
    let future = || Just(b"9999999999".to_vec());
    let field = proptest::sample::select(vec!["last_activity", "source", "created", "ended", "reason", "restored"]);
    let ahead = proptest::sample::select(vec!["last_activity", "created", "restored"]);
    let mark = proptest::sample::select(vec![
        "counting",
        "generation",
        "stepped",
        "left",
        "called",
        "ended",
        "schema",
        "foo",
        "host-0123abcd",
    ]);
    prop_oneof![
        (proptest::option::of(who.clone()), 0usize..4).prop_map(|(who, kind)| Junk::Type(who, kind)),
        (who.clone(), field, value()).prop_map(|(who, field, value)| Junk::Field(who, field, value)),
        (who, ahead, future()).prop_map(|(who, field, value)| Junk::Field(who, field, value)),
        (mark, value()).prop_map(|(field, value)| Junk::Mark(field.to_owned(), value)),
        ("[a-z]{0,5}-[0-9a-f]{8}", Just(b"9999999999999 off 1 1 1".to_vec()))
            .prop_map(|(field, value)| Junk::Mark(field, value)),
        value().prop_map(Junk::Mode),
        value().prop_map(Junk::Message),
    ]
}

impl Junk {
    async fn write(&self, server: &Server) {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::Cmd::new();
        match self {
            Self::Type(who, kind) => {
                return server.replace(&who.map_or("test:mode".to_owned(), |who| key_of(VICTIMS[who])), *kind).await;
            }
            Self::Field(who, field, value) => command.arg("HSET").arg(key_of(VICTIMS[*who])).arg(field).arg(value),
            Self::Mark(field, value) => command.arg("HSET").arg("test:replicas").arg(field).arg(value),
            Self::Mode(value) => command.arg("SET").arg("test:mode").arg(value),
            Self::Message(value) => command.arg("PUBLISH").arg("test:ended").arg(value),
        };
        // HSET fails on a key of another type.
        let _: redis::RedisResult<Value> = command.query_async(&mut connection).await;
    }
}

const LIMIT: u64 = 3;

/// Six sessions on two replicas, with invalid data all the time. No session is cut early, and idle ones are cut in
/// time.
async fn sessions_end_in_time_despite(all: Vec<Junk>) {
    let server = Server::start();
    let limits = Limits { timeout: LIMIT, lifetime: None, ..LIMITS };
    let replicas = [0, 1].map(|_| Replica::start(Box::new(server.store(limits)), limits));
    server.has_listeners(2).await;
    eventually("both to report", async || server.hash("test:replicas").await.len() == 8).await;
    server.ask(&["HSET", "test:replicas", "counting", "1000000000"]).await;
    let sessions: Vec<_> = VICTIMS.into_iter().chain(OTHERS).collect();
    for token in &sessions {
        for replica in &replicas {
            let begun = replica.registry.table.accept(SessionId::of_token(token.as_bytes()), None, None).await;
            assert!(matches!(begun, Resolved::Live(_)));
        }
    }
    let clock = Clock::system();
    let mut junk = all.iter().cycle();
    let mut last = clock.now();
    let begun = last;
    let mut more = async || {
        junk.next().unwrap().write(&server).await;
        sleep(Duration::from_millis(60)).await;
    };
    // The replicas take turns: for longer than a timeout, only one of them sees the activity of a session.
    while clock.now().since(begun) < 3 * LIMIT * 1000 {
        let turn = usize::try_from(clock.now().since(begun) / (1000 * LIMIT + 1000)).unwrap();
        last = clock.now();
        for (number, token) in sessions.iter().enumerate() {
            replicas[(number + turn) % 2].touch(token);
        }
        more().await;
        for token in &sessions {
            assert!(!replicas.iter().any(|replica| replica.is_ended(token)), "{token} was cut though it was active");
        }
    }
    let mut silent = 0;
    while !OTHERS.iter().all(|token| replicas[0].is_ended(token) && replicas[1].is_ended(token)) {
        silent = clock.now().since(last);
        assert!(silent < (LIMIT + 4) * 1000, "not cut for {silent} ms");
        more().await;
        let early = sessions.iter().any(|token| replicas.iter().any(|replica| replica.is_ended(token)));
        assert!(!early || clock.now().since(last) > LIMIT * 1000, "cut early, after {} ms", clock.now().since(last));
    }
    println!("all others were cut after {silent} ms");
    let ended = async || VICTIMS.iter().all(|token| replicas[0].is_ended(token) && replicas[1].is_ended(token));
    eventually("the victims' ends", ended).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn junk_in_every_key_neither_ends_a_session_early_nor_keeps_one_alive(all in proptest::collection::vec(junk(), 40..100)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(sessions_end_in_time_despite(all));
    }
}

proptest! {
    #[test]
    fn any_text_is_read_as_message_and_mode(text in "(mode |ask )?\\PC{0,80}") {
        let _ = crate::store::redis::message::notification(&text);
    }
}
