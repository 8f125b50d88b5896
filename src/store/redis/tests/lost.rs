//! Sessions that the server lost, and reports that arrive late.

use super::{LIMITS, Server, counting, touch};
use crate::clock::{Clock, epoch_milliseconds};
use crate::registry::{Registry, Resolved, Services};
use crate::session::{Limits, Mode, Reason, SessionId};
use crate::store::contract::ShortForms;
use crate::store::{Known, Store, Touch};
use rustix::process::{Pid, Signal, kill_process};
use std::sync::Arc;
use std::time::Duration;

impl Server {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    async fn lose(&self, token: &str) {
        let key = format!("test:session:{}", SessionId::of_token(token.as_bytes()));
        assert_eq!(self.ask(&["DEL", &key]).await, redis::Value::Int(1), "there was no {key}");
    }
}

/// The limit of these tests, in seconds.
const LIMIT: u64 = 2;

const SHORT: Limits = Limits { timeout: LIMIT, lifetime: None, ..LIMITS };

#[tokio::test]
async fn a_session_that_the_server_lost_starts_again_for_the_replica_that_knows_least() {
    let server = Server::start();
    let (here, there) = (counting(&server, SHORT).await, counting(&server, SHORT).await);
    here.begin(Touch { created_age: 60_000, ..touch("ada", 10_000) }).await.unwrap();
    // Reported elsewhere, and never reported again; then the server evicts it.
    there.flush(&[touch("ada", 0)], there.server.clock.now(), Mode::Enforce).await.unwrap();
    server.lose("ada").await;
    let lost = here.server.clock.now();
    let mut age = 10_000;
    loop {
        for store in [&there, &here] {
            store.flush(&[], store.server.clock.now(), Mode::Enforce).await.unwrap();
        }
        age += 100;
        match here.judged(Touch { created_age: 60_000, ..touch("ada", age) }, age, Mode::Enforce).await {
            Known::Ended(_) => break,
            Known::Live(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("not begun again: {other:?}"),
        }
        assert!(here.server.clock.now().since(lost) < (LIMIT + 8) * 1000, "never ended");
    }
    let idle = here.server.clock.now().since(lost);
    assert!(idle > LIMIT * 1000, "cut after {idle} ms");
}

#[tokio::test]
async fn a_lost_session_is_not_cut_by_the_knowledge_of_one_replica() {
    let server = Server::start();
    let there = counting(&server, SHORT).await;
    let registry = Arc::new(Registry::new(Services::new(Box::new(server.store(SHORT)), Clock::system(), SHORT), 10));
    registry.exchange.round().await;
    let id = SessionId::of_token(b"ada");
    let Resolved::Live(session) = registry.table.accept(id, None, None).await else { panic!("not begun") };
    registry.exchange.round().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let last = there.server.clock.now();
    there.flush(&[touch("ada", 0)], last, Mode::Enforce).await.unwrap();
    server.lose("ada").await;
    while session.ended().is_none() {
        there.flush(&[], there.server.clock.now(), Mode::Enforce).await.unwrap();
        registry.exchange.round().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(there.server.clock.now().since(last) < (LIMIT + 8) * 1000, "never ended");
    }
    let idle = there.server.clock.now().since(last);
    assert!(idle > LIMIT * 1000, "cut after {idle} ms");
}

#[tokio::test]
async fn a_report_that_arrives_late_is_ignored_and_sent_again() {
    let server = Server::start();
    let store = counting(&server, LIMITS).await;
    server.signal(Signal::STOP);
    let before = store.server.clock.now();
    // It waits in the socket of a server that hangs, and its sender has given it up.
    store.flush(&[touch("ada", 0)], before, Mode::Enforce).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(7)).await;
    server.signal(Signal::CONT);
    let id = touch("ada", 0).id;
    let waited = store.server.clock.now().since(before);
    // Before it answers this, the server has read everything from the old connection.
    tokio::time::timeout(Duration::from_secs(10), async {
        while store.flush(&[], store.server.clock.now(), Mode::Enforce).await.is_err() {}
    })
    .await
    .unwrap();
    assert_eq!(store.lookup(id).await.unwrap(), Known::Unknown, "it began {waited} ms after it was seen");
    store
        .flush(&[touch("ada", store.server.clock.now().since(before))], store.server.clock.now(), Mode::Enforce)
        .await
        .unwrap();
    let Known::Live(live) = store.lookup(id).await.unwrap() else { panic!("not begun") };
    assert!(live.age >= waited, "{live:?}, but it was {waited} ms ago");
}

#[tokio::test]
async fn an_end_that_is_written_back_keeps_its_own_last_activity() {
    let server = Server::start();
    let (here, there) = (counting(&server, LIMITS).await, counting(&server, LIMITS).await);
    // The server has lost session and end. A replica that was cut off knew of later activity, and writes it back first.
    let known_there = Touch { created_age: 60_000, begins: false, ..touch("ada", 4_000) };
    there.flush(&[known_there], there.server.clock.now(), Mode::Enforce).await.unwrap();
    let known_here = Touch { created_age: 60_000, begins: false, ..touch("ada", 9_000) };
    let Known::Ended(ended) = here.report_end(known_here, Reason::Idle, 2_000).await else { panic!("not ended") };
    assert_eq!(ended.ended - ended.last_activity, 7, "{ended:?}");
    // In the second of the end.
    tokio::time::sleep(Duration::from_millis(1010 - epoch_milliseconds() % 1000)).await;
    let known_there = Touch { created_age: 60_000, begins: false, ..touch("bob", 9_000) };
    there.flush(&[known_there], there.server.clock.now(), Mode::Enforce).await.unwrap();
    let known_here = Touch { created_age: 60_000, begins: false, ..touch("bob", 4_000) };
    let Known::Ended(ended) = here.report_end(known_here, Reason::Idle, 0).await else { panic!("not ended") };
    assert_eq!((ended.ended - ended.last_activity, ended.counting), (4, None), "{ended:?}");
}
