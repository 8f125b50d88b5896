//! Data that something else wrote: it affects only its own key, and is reported.

use super::replica::Log;
use super::{LIMITS, Server, counting, flush, key_of, touch};
use crate::session::{Limits, Mode, Reason, Source};
use crate::store::contract::ShortForms;
use crate::store::{Ended, Known, Store};
use std::time::Duration;
use tokio::time::sleep;

/// Checks that `store` still ends an expired session at once.
async fn a_session_can_end(store: &super::RedisStore, token: &str) {
    store.begin(touch(token, 12_000)).await.unwrap();
    store.flush(&[], store.server.clock.now(), Mode::Enforce).await.unwrap();
    let known = store.judged(touch(token, 12_000), 12_000, Mode::Enforce).await;
    assert!(matches!(known, Known::Ended(_)), "not ended: {known:?}");
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced_and_affects_only_its_own_session() {
    let server = Server::start();
    let log = Log::start();
    let store = counting(&server, LIMITS).await;
    for kind in 0..4 {
        server.replace(&key_of("ada"), kind).await;
        assert_eq!(store.lookup(touch("ada", 0).id).await.unwrap(), Known::Unknown);
        assert_eq!(log.warnings(), [""; 0], "a lookup repairs nothing");
        flush(&store, &[touch("ada", 9_000), touch("bob", 1_000)]).await;
        let warnings = log.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("no hash"), "{warnings:?}");
        assert!(matches!(store.lookup(touch("ada", 0).id).await.unwrap(), Known::Live(_)));
        // What other replicas reported of the session is lost: knowledge of this replica alone does not cut it.
        let known = store.judged(touch("ada", 12_000), 12_000, Mode::Enforce).await;
        assert!(matches!(known, Known::Live(live) if live.age < 12_000 + 2_000), "{known:?}");
        a_session_can_end(&store, &format!("idle {kind}")).await;
        server.replace(&key_of("ada"), kind).await;
        assert_eq!(store.end(touch("ada", 0).id, Reason::Logout).await.unwrap(), Known::Unknown);
        let recorded = store.report_end(touch("ada", 5_000), Reason::Logout, 1_000).await;
        assert!(matches!(recorded, Known::Ended(ended) if ended.reason == Reason::Logout), "{recorded:?}");
        assert_eq!(log.warnings().len(), 1);
        server.ask(&["DEL", &key_of("ada")]).await;
        assert!(
            matches!(store.lookup(touch("ada", 0).id).await.unwrap(), Known::Ended(_)),
            "the end is kept elsewhere"
        );
        server.ask(&["HDEL", "test:ends", &touch("ada", 0).id.to_string()]).await;
    }
}

const SHORT: Limits = Limits { timeout: 2, lifetime: None, ..LIMITS };

#[tokio::test]
async fn an_invalid_field_neither_keeps_a_session_alive_nor_ends_it_early() {
    let server = Server::start();
    let log = Log::start();
    let store = counting(&server, SHORT).await;
    let junk = [
        ("ended", "0"),
        ("ended", "junk"),
        ("ended", "-1"),
        ("ended", "inf"),
        ("ended", "99999999999999999999"),
        ("last_activity", "junk"),
        ("last_activity", "nan"),
        ("last_activity", "5"),
        ("last_activity", "1e300"),
        ("last_activity", "9999999999"),
        ("created", "junk"),
        ("created", "0x7fffffff"),
        ("restored", "9999999999"),
        ("source", "\u{7}; no source"),
    ];
    let token = |number: usize| format!("token {number}");
    for (number, (field, value)) in junk.iter().enumerate() {
        // This replica saw it last three seconds ago; another one just now.
        store.begin(touch(&token(number), 3_000)).await.unwrap();
        flush(&store, &[touch(&token(number), 0)]).await;
        server.ask(&["HSET", &key_of(&token(number)), field, value]).await;
    }
    flush(&store, &[]).await;
    let judge = async |number: usize| {
        let known = store.judged(touch(&token(number), 3_000), 3_000, Mode::Enforce).await;
        (matches!(known, Known::Ended(_)), known)
    };
    let begun = store.server.clock.now();
    for (number, junk) in junk.iter().enumerate() {
        let (ended, known) = judge(number).await;
        assert!(!ended, "{junk:?} cut it early: {known:?}");
        let hash = server.hash(&key_of(&token(number))).await;
        let is_second = |name: &str| hash.get(name).is_none_or(|text| text.len() == 10 && text.starts_with("17"));
        assert!(["last_activity", "created", "restored"].into_iter().all(is_second), "{junk:?} stays: {hash:?}");
        assert!(!hash.contains_key("ended") && Source::from_name(&hash["source"]).is_some(), "{junk:?}: {hash:?}");
    }
    let said = log.warnings();
    // A time in the future may be the result of a clock step.
    let silent = junk.iter().filter(|(_, value)| *value == "9999999999").count();
    assert_eq!(said.len(), junk.len() - silent, "{said:?}");
    for (number, junk) in junk.iter().enumerate() {
        while !judge(number).await.0 {
            sleep(Duration::from_millis(100)).await;
            flush(&store, &[]).await;
            assert!(store.server.clock.now().since(begun) < (SHORT.timeout + 8) * 1000, "{junk:?} is immortal");
        }
    }
    assert_eq!(log.warnings(), [""; 0], "said more than once");
}

#[tokio::test]
async fn invalid_fields_do_not_revive_an_ended_session() {
    let server = Server::start();
    let store = counting(&server, LIMITS).await;
    for (number, (field, value)) in [("last_activity", "junk"), ("reason", "\u{0}"), ("created", "")].iter().enumerate()
    {
        let token = format!("token {number}");
        store.begin(touch(&token, 0)).await.unwrap();
        store.end(touch(&token, 0).id, Reason::Logout).await.unwrap();
        server.ask(&["HSET", &key_of(&token), field, value]).await;
        for known in [
            store.lookup(touch(&token, 0).id).await.unwrap(),
            store.begin(touch(&token, 0)).await.unwrap(),
            store.judged(touch(&token, 0), 0, Mode::Enforce).await,
        ] {
            assert!(matches!(known, Known::Ended(_)), "{field} {value:?} revived it: {known:?}");
        }
    }
    // An end in the future does not extend the retention.
    server.ask(&["HSET", &key_of("token 0"), "ended", "9999999999"]).await;
    let Known::Ended(ended) = store.lookup(touch("token 0", 0).id).await.unwrap() else { panic!("revived") };
    assert!(ended.remembered_for <= LIMITS.retention * 1000, "{ended:?}");
}

#[tokio::test]
async fn junk_among_the_marks_is_removed_and_delays_no_end() {
    let server = Server::start();
    let log = Log::start();
    let store = counting(&server, LIMITS).await;
    let long = "9".repeat(100_000);
    let junk = [
        ("foo", "junk"),
        ("foo", "999999999999999 off"),
        ("foo", "1759431600123 off"),
        ("host-0123abcd", "9999999999999 off"),
        ("host-0123abcd", "9999999999999 off 1 1 1"),
        ("host-0123abcd", "1759431600123"),
        ("host-0123abcd", "1759431600123 off 1 1"),
        ("host-0123abcd", "1759431600123 everything 1 1 1"),
        ("host-0123abcd", &long),
        ("counting", "junk"),
        ("counting", ""),
        ("counting", "5"),
        ("counting", "9999999999"),
        ("steps", "junk"),
        ("steps", &long),
        ("stepped", "junk"),
        ("left", "junk"),
        ("left", "9999999999999"),
        ("called", "junk"),
        ("called", "9999999999999"),
        ("ended", "junk"),
        ("swept", "junk"),
        ("known", "junk"),
        ("ids", "junk"),
        (&store.server.replica, "junk"),
        (&store.server.replica, "9999999999999 off"),
    ];
    for (number, (field, value)) in junk.into_iter().enumerate() {
        let short = &value[..value.len().min(40)];
        server.ask(&["HSET", "test:replicas", field, value]).await;
        flush(&store, &[]).await;
        let warnings = log.warnings();
        let said = |line: &String| line.contains("removed=1") && line.contains(field) && line.len() < 500;
        assert!(warnings.len() == 1 && warnings.iter().all(said), "{field} {short}: {warnings:?}");
        let hash = server.hash("test:replicas").await;
        assert_eq!(hash["counting"], "1000000000", "{field} {short} restarted idle time: {hash:?}");
        let expected =
            ["called", "counting", "ended", "generation", "ids", "known", "schema", "swept", &store.server.replica];
        let is_expected = |key: &String| expected.contains(&key.as_str());
        assert!(hash.keys().all(is_expected) && hash.contains_key(&store.server.replica), "{field} {short}: {hash:?}");
        // A replica that finds its own mark gone must resync first.
        flush(&store, &[]).await;
        a_session_can_end(&store, &format!("idle {number}")).await;
        assert_eq!(log.warnings(), [""; 0], "{field} {short} was said more than once");
    }
}

#[tokio::test]
async fn an_invalid_generation_or_count_of_ends_revives_no_session() {
    let server = Server::start();
    let store = counting(&server, LIMITS).await;
    for field in ["generation", "ended"] {
        store.begin(touch(field, 0)).await.unwrap();
        store.end(touch(field, 0).id, Reason::Logout).await.unwrap();
        server.ask(&["HSET", "test:replicas", field, "junk"]).await;
        assert_eq!(flush(&store, &[]).await.resync, field == "generation");
        flush(&store, &[]).await;
        assert!(matches!(store.lookup(touch(field, 0).id).await.unwrap(), Known::Ended(_)), "{field}");
        a_session_can_end(&store, &format!("idle {field}")).await;
    }
}

#[tokio::test]
async fn an_end_stays_known_without_the_record_of_its_session() {
    let server = Server::start();
    let store = counting(&server, LIMITS).await;
    for kind in 0..4 {
        let token = format!("token {kind}");
        let id = touch(&token, 0).id;
        store.begin(touch(&token, 3_000)).await.unwrap();
        let Known::Ended(before) = store.end(id, Reason::Logout).await.unwrap() else { panic!("not ended") };
        server.ask(&["DEL", &key_of(&token)]).await;
        let Known::Ended(after) = store.lookup(id).await.unwrap() else { panic!("revived") };
        assert!(before.remembered_for - after.remembered_for < 2_000, "{before:?}, {after:?}");
        assert_eq!(Ended { remembered_for: before.remembered_for, ..after }, before);
        assert!(matches!(store.begin(touch(&token, 0)).await.unwrap(), Known::Ended(_)), "revived by its app");
        // The key of all ends is gone, or something else: those who know an end write it back.
        server.replace("test:ends", kind).await;
        assert!(flush(&store, &[]).await.resync, "a replica was not asked for what it knows");
        let Known::Ended(back) = store.report_end(touch(&token, 3_000), Reason::Logout, 1_000).await else {
            panic!("not written back")
        };
        assert_eq!(back.reason, Reason::Logout);
    }
}

#[tokio::test]
async fn a_replicas_key_of_another_type_causes_a_resync() {
    let server = Server::start();
    let log = Log::start();
    let store = counting(&server, LIMITS).await;
    for kind in 0..4 {
        server.replace("test:replicas", kind).await;
        assert!(flush(&store, &[]).await.resync, "other data may be lost too");
        assert_eq!(log.warnings().len(), 1);
        flush(&store, &[]).await;
        let hash = server.hash("test:replicas").await;
        assert!(hash["counting"] != "1000000000" && hash.contains_key(&store.server.replica), "{hash:?}");
        assert_eq!(log.warnings(), [""; 0]);
    }
    server.ask(&["HSET", "test:replicas", "counting", "1000000000"]).await;
    a_session_can_end(&store, "idle").await;
}

#[tokio::test]
async fn time_without_a_counting_replica_never_counts_even_with_invalid_marks() {
    let server = Server::start();
    for left in ["1000000000000", "9999999999999", "junk"] {
        for more in [&[][..], &["host-0123abcd", "9999999999999 enforce 1 1 1"]] {
            server.ask(&["FLUSHALL"]).await;
            let early = counting(&server, LIMITS).await;
            early.close().await.unwrap();
            server.ask(&[&["HSET", "test:replicas", "left", left, "called", left], more].concat()).await;
            flush(&server.store(LIMITS), &[]).await;
            let counting = &server.hash("test:replicas").await["counting"];
            assert_ne!(counting, "1000000000", "{left} {more:?}: time without counting counts");
        }
    }
}
