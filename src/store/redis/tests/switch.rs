//! The fleet's mode, and messages between replicas.

use super::replica::{Log, Replica};
use super::{LIMITS, Server, counting, eventually};
use crate::clock::Clock;
use crate::registry::{Registry, Resolved, Services, Switch};
use crate::session::{EpochSeconds, Mode, Reason, SessionId};
use crate::store::{
    Due, Ended, Fleet, Issued, Knowledge, Known, Notification, ReplyFuture, Report, Store, StoreFuture, Touch,
};
use redis::{FromRedisValue, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

const OBSERVE: Fleet = Fleet { mode: Mode::Observe, until: None };

#[tokio::test]
async fn an_invalid_mode_counts_as_missing_and_the_last_valid_one_stays() {
    let server = Server::start();
    let log = Log::start();
    let registry = Registry::new(Services::new(Box::new(server.store(LIMITS)), Clock::system(), LIMITS), 10);
    let mode = async || String::from_redis_value(server.ask(&["GET", "test:mode"]).await).unwrap();
    for seen in [false, true] {
        if seen {
            registry.modes.switch_fleet(Mode::Observe, None).await.unwrap();
            registry.exchange.round().await;
            log.warnings();
        }
        for kind in 0..5 {
            match kind {
                4 => drop(server.ask(&["SET", "test:mode", "\u{1}junk"]).await),
                kind => server.replace("test:mode", kind + 1).await,
            }
            if kind == 3 {
                server.ask(&["DEL", "test:mode"]).await;
                server.ask(&["HSET", "test:mode", "off", "off"]).await;
            }
            registry.exchange.round().await;
            registry.exchange.round().await;
            let warnings = log.warnings();
            let outage = warnings.iter().any(|line| line.contains("does not answer"));
            assert!(!outage && registry.metrics().store.is_up(), "{warnings:?}");
            // Nothing repairs it where no valid mode was ever seen, so the first invalid one is logged.
            assert_eq!(warnings.len(), usize::from(seen || kind == 0), "{seen} {kind}: {warnings:?}");
            assert_eq!(registry.mode(), if seen { Mode::Observe } else { Mode::Enforce });
            if seen {
                assert_eq!(mode().await, "observe", "{kind} was not written back");
            }
        }
    }
}

#[tokio::test]
async fn a_mode_is_written_back_only_if_none_is_set() {
    let server = Server::start();
    let store = counting(&server, LIMITS).await;
    for (stands, after) in [("off", "off"), (" off 9999999999 enforce", " off 9999999999 enforce"), ("x", "observe")] {
        server.ask(&["SET", "test:mode", stands]).await;
        store.restore_fleet(OBSERVE).await.unwrap();
        assert_eq!(server.ask(&["GET", "test:mode"]).await, Value::BulkString(after.into()));
    }
}

#[tokio::test]
async fn a_question_is_answered_at_its_own_key_only_and_not_for_ever() {
    let server = Server::start();
    let _replica = Replica::start(Box::new(server.store(LIMITS)), LIMITS);
    server.has_listeners(1).await;
    server.ask(&["RPUSH", "theirs", "1"]).await;
    for asked in [
        "ask theirs {}",
        "ask test:mode {}",
        "ask test:answers:0123456789abcdef {}",
        "ask 0123456789abcdeg {}",
        "ask 1 {}",
        "ask",
    ] {
        server.ask(&["PUBLISH", "test:ended", asked]).await;
    }
    // The replica that answered the last question has received the ones before it.
    server.ask(&["PUBLISH", "test:ended", "ask fedcba9876543210 {}"]).await;
    let answers = "test:answers:fedcba9876543210";
    eventually("an answer", async || server.ask(&["EXISTS", answers]).await == Value::Int(1)).await;
    let Value::Int(left) = server.ask(&["TTL", answers]).await else { panic!("no number") };
    assert!((1..=10).contains(&left), "it stays for {left} s");
    assert_eq!(server.ask(&["LLEN", "theirs"]).await, Value::Int(1));
    let mut keys = Vec::<String>::from_redis_value(server.ask(&["KEYS", "*"]).await).unwrap();
    keys.sort();
    assert_eq!(keys, [answers, "test:ends", "test:replicas", "theirs"]);
}

/// The reply to a report can be delayed after the server has given it.
#[derive(Debug)]
struct Held {
    store: super::RedisStore,
    wanted: AtomicBool,
    arrived: Notify,
    released: Notify,
}

#[derive(Debug)]
struct Holding(Arc<Held>);

impl Store for Holding {
    fn kind(&self) -> &'static str {
        self.0.store.kind()
    }

    fn now(&self) -> Option<u64> {
        self.0.store.now()
    }

    fn counting(&self) -> EpochSeconds {
        self.0.store.counting()
    }

    fn knowledge(&self) -> Knowledge {
        self.0.store.knowledge()
    }

    fn issue<'a>(&'a self, issued: &'a [Issued]) -> StoreFuture<'a, ()> {
        self.0.store.issue(issued)
    }

    fn lookup(&self, id: SessionId) -> StoreFuture<'_, Known> {
        self.0.store.lookup(id)
    }

    fn begin(&self, touch: Touch) -> StoreFuture<'_, Known> {
        self.0.store.begin(touch)
    }

    fn exchange<'a>(&'a self, report: &'a Report<'a>) -> ReplyFuture<'a> {
        Box::pin(async move {
            let reply = self.0.store.exchange(report).await;
            if self.0.wanted.swap(false, Ordering::AcqRel) {
                self.0.arrived.notify_one();
                self.0.released.notified().await;
            }
            reply
        })
    }

    fn judge(&self, due: Due, mode: Mode) -> StoreFuture<'_, Known> {
        self.0.store.judge(due, mode)
    }

    fn end(&self, id: SessionId, reason: Reason) -> StoreFuture<'_, Known> {
        self.0.store.end(id, reason)
    }

    fn end_record(&self, touch: Touch, reason: Reason) -> Ended {
        self.0.store.end_record(touch, reason)
    }

    fn switch_fleet(&self, fleet: Fleet) -> StoreFuture<'_, ()> {
        self.0.store.switch_fleet(fleet)
    }

    fn restore_fleet(&self, fleet: Fleet) -> StoreFuture<'_, ()> {
        self.0.store.restore_fleet(fleet)
    }

    fn next_notification(&self) -> StoreFuture<'_, Notification> {
        self.0.store.next_notification()
    }
}

#[tokio::test]
async fn a_mode_read_before_a_newer_notification_does_not_come_back() {
    let server = Server::start();
    let operator = counting(&server, LIMITS).await;
    let (wanted, arrived, released) = (AtomicBool::new(false), Notify::new(), Notify::new());
    let held = Arc::new(Held { store: server.store(LIMITS), wanted, arrived, released });
    let replica = Replica::start(Box::new(Holding(Arc::clone(&held))), LIMITS);
    server.has_listeners(1).await;
    let mode = || replica.registry.mode();
    for _ in 0..3 {
        operator.switch_fleet(Fleet { mode: Mode::Enforce, until: None }).await.unwrap();
        eventually("it to enforce", async || mode() == Mode::Enforce).await;
        // This round reads `enforce`, and gets the reply long after `off` was notified.
        held.wanted.store(true, Ordering::Release);
        held.arrived.notified().await;
        operator.switch_fleet(Fleet { mode: Mode::Off, until: None }).await.unwrap();
        eventually("the message", async || mode() == Mode::Off).await;
        held.released.notify_one();
        // Long enough to read the reply, but shorter than the time to the next round.
        for _ in 0..100 {
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(2)).await;
            assert_eq!(mode(), Mode::Off, "what was read before came back");
        }
    }
}

/// It is refused at once, and not only after the next report.
#[tokio::test]
async fn a_dead_token_that_passed_in_off_is_refused_when_the_mode_enforces() {
    let server = Server::start();
    let [knows, other] = std::array::from_fn(|_| {
        Arc::new(Registry::new(Services::new(Box::new(server.store(LIMITS)), Clock::system(), LIMITS), 10))
    });
    knows.exchange.round().await;
    let dead = SessionId::of_token(b"dead");
    let Resolved::Live(session) = knows.table.accept(dead, None, None).await else { panic!("not begun") };
    knows.table.end(&session, Reason::Logout).await;
    other.exchange.round().await;
    other.modes.switch(Switch::Replica, Mode::Off, None);
    for token in ["dead", "new"] {
        let id = SessionId::of_token(token.as_bytes());
        assert!(matches!(other.table.accept(id, None, None).await, Resolved::Live(_)), "{token}");
    }
    other.modes.switch(Switch::Replica, Mode::Enforce, None);
    assert!(matches!(other.table.resolve(dead).await, Resolved::Ended(_)));
    assert!(matches!(other.table.resolve(SessionId::of_token(b"new")).await, Resolved::Live(_)));
}
