//! What every store promises: one suite for all of them. It moves no clock, and only states how long ago something
//! happened.

use super::{Due, Ended, Known, Live, MemoryStore, Reply, Report, Store, StoreError, Touch, UnsyncedEnd};
use crate::clock::{Clock, Moment, epoch_milliseconds};
use crate::session::{Limits, Mode, Reason, SessionId, Source};

pub(super) const LIMITS: Limits = Limits { timeout: 10, lifetime: Some(40), retention: 60 };

fn touch(token: &str, age: u64) -> Touch {
    Touch { id: SessionId::of_token(token.as_bytes()), age, source: Source::Request, created_age: age, begins: true }
}

/// Short forms of calls, for tests.
pub(crate) trait ShortForms: Store {
    /// Reports activity.
    async fn flush(&self, activity: &[Touch], synced_to: Moment, mode: Mode) -> Result<Reply, StoreError> {
        let reply = self.exchange(&Report { activity, ends: &[], due: &[], synced_to, mode }).await;
        reply.failed.map_or(Ok(Reply { failed: None, ..reply }), Err)
    }

    /// Reports an end, and returns what the store knows then.
    async fn report_end(&self, touch: Touch, reason: Reason, age: u64) -> Known {
        let ends = [UnsyncedEnd { touch, reason, age }];
        let report = Report { activity: &[], ends: &ends, due: &[], synced_to: NO_MARK, mode: Mode::Enforce };
        let reply = self.exchange(&report).await;
        assert_eq!(reply.ends, 1, "{reply:?}");
        self.lookup(touch.id).await.unwrap()
    }

    /// Judges a session.
    async fn judged(&self, touch: Touch, seen_idle: u64, mode: Mode) -> Known {
        self.judge(Due { touch, seen_idle }, mode).await.unwrap()
    }
}

impl<T: Store + ?Sized> ShortForms for T {}

/// The mark. It means nothing to a store of one replica, whose first report begins now.
const NO_MARK: Moment = Moment(0);

fn live(known: Known) -> Live {
    match known {
        Known::Live(live) => live,
        other => panic!("not live: {other:?}"),
    }
}

fn ended(known: Known) -> Ended {
    match known {
        Known::Ended(ended) => ended,
        other => panic!("not ended: {other:?}"),
    }
}

/// Whether `value` is up to 1.5 s above `wanted`: the store rounds its time down, and the test itself takes time.
fn about(value: u64, wanted: u64) -> bool {
    (wanted..=wanted + 1500).contains(&value)
}

async fn an_unknown_id_stays_unknown(store: &dyn Store) {
    let id = touch("unknown", 0).id;
    assert_eq!(store.lookup(id).await.unwrap(), Known::Unknown);
    assert_eq!(store.end(id, Reason::Logout).await.unwrap(), Known::Unknown);
    assert_eq!(store.lookup(id).await.unwrap(), Known::Unknown);
}

async fn what_was_lost_is_written_back(store: &dyn Store) {
    store.flush(&[Touch { created_age: 30_000, ..touch("lost", 2_000) }], NO_MARK, Mode::Enforce).await.unwrap();
    let known = live(store.lookup(touch("lost", 0).id).await.unwrap());
    assert!(about(known.age, 2_000) && about(known.created_age, 30_000), "{known:?}");
    let dead = store.report_end(Touch { created_age: 30_000, ..touch("ended", 20_000) }, Reason::Logout, 5_000).await;
    let record = ended(dead);
    assert_eq!((record.reason, record.ended - record.last_activity), (Reason::Logout, 15));
    ended(store.lookup(touch("ended", 0).id).await.unwrap());
}

async fn ages_become_seconds_and_only_the_latest_counts(store: &dyn Store) {
    let id = touch("ages", 0).id;
    assert!(about(live(store.begin(touch("ages", 8_000)).await.unwrap()).age, 8_000));
    store.flush(&[touch("ages", 3_000)], NO_MARK, Mode::Enforce).await.unwrap();
    store.flush(&[touch("ages", 9_000)], NO_MARK, Mode::Enforce).await.unwrap();
    let known = live(store.lookup(id).await.unwrap());
    assert!(about(known.age, 3_000), "{known:?}");
    // The session expires when more than the timeout has passed since the second of the last activity.
    assert!(about(known.due_in + known.age, 11_000), "{known:?}");
    let known = live(store.begin(touch("ages", 1_000)).await.unwrap());
    assert!(about(known.age, 1_000), "{known:?}");
}

async fn only_the_idle_are_ended(store: &dyn Store) {
    store.begin(touch("idle", 12_000)).await.unwrap();
    let known = live(store.judged(touch("idle", 2_000), 0, Mode::Enforce).await);
    assert!(about(known.age, 2_000), "{known:?}");
    store.begin(touch("left", 12_000)).await.unwrap();
    let record = ended(store.judged(touch("left", 12_000), 0, Mode::Enforce).await);
    assert_eq!(record.reason, Reason::Idle);
    assert!(record.ended - record.last_activity > LIMITS.timeout, "{record:?}");
}

async fn sessions_end_in_enforce_only(store: &dyn Store) {
    store.begin(touch("seen", 12_000)).await.unwrap();
    for mode in [Mode::Observe, Mode::Off] {
        let known = store.judged(touch("seen", 12_000), 0, mode).await;
        let Known::Overdue(live, record) = known else { panic!("{known:?}") };
        assert!(about(live.age, 12_000) && record.reason == Reason::Idle, "{known:?}");
        assert!(record.ended - record.last_activity > LIMITS.timeout, "{record:?}");
        live_still(store.lookup(touch("seen", 0).id).await.unwrap());
    }
    // With newer activity the session is neither overdue nor ended.
    live(store.judged(touch("seen", 1_000), 0, Mode::Observe).await);
    store.begin(touch("aged", 45_000)).await.unwrap();
    let known = store.judged(touch("aged", 0), 0, Mode::Observe).await;
    assert!(matches!(known, Known::Overdue(_, record) if record.reason == Reason::Lifetime), "{known:?}");
}

fn live_still(known: Known) {
    assert!(matches!(known, Known::Live(live) if live.due_in == 0), "{known:?}");
}

/// Runs last, because idle time from before does not count afterwards.
async fn time_that_was_off_does_not_count(store: &dyn Store) {
    store.begin(touch("uncounted", 12_000)).await.unwrap();
    store.flush(&[], Clock::system().now(), Mode::Off).await.unwrap();
    store.flush(&[], Clock::system().now(), Mode::Enforce).await.unwrap();
    let known = live(store.judged(touch("uncounted", 12_000), 0, Mode::Enforce).await);
    assert!(known.due_in > 9_000, "{known:?}");
}

async fn the_lifetime_ends_the_active(store: &dyn Store) {
    store.begin(touch("old", 45_000)).await.unwrap();
    let record = ended(store.judged(touch("old", 0), 0, Mode::Enforce).await);
    assert_eq!(record.reason, Reason::Lifetime);
}

async fn the_ended_stay_ended(store: &dyn Store) {
    let id = touch("dead", 0).id;
    store.begin(touch("dead", 0)).await.unwrap();
    let record = ended(store.end(id, Reason::Logout).await.unwrap());
    assert!(about(60_000 - record.remembered_for, 0) || record.remembered_for == 60_000, "{record:?}");
    let flushed = store.flush(&[touch("dead", 0)], NO_MARK, Mode::Enforce).await.unwrap();
    assert!(flushed.ended.iter().any(|(ended, _)| *ended == id), "{flushed:?}");
    for known in [
        store.lookup(id).await.unwrap(),
        store.begin(touch("dead", 0)).await.unwrap(),
        store.judged(touch("dead", 0), 0, Mode::Enforce).await,
        store.end(id, Reason::Idle).await.unwrap(),
    ] {
        let again = ended(known);
        assert_eq!((again.reason, again.ended), (Reason::Logout, record.ended), "the first end counts");
    }
}

/// Checks every promise on a store that was opened with [`LIMITS`].
pub(super) async fn keeps_its_promises(store: &dyn Store) {
    an_unknown_id_stays_unknown(store).await;
    what_was_lost_is_written_back(store).await;
    ages_become_seconds_and_only_the_latest_counts(store).await;
    only_the_idle_are_ended(store).await;
    sessions_end_in_enforce_only(store).await;
    the_lifetime_ends_the_active(store).await;
    the_ended_stay_ended(store).await;
    time_that_was_off_does_not_count(store).await;
}

#[tokio::test]
async fn the_memory_store_keeps_its_promises() {
    keeps_its_promises(&MemoryStore::new(LIMITS, Clock::system(), epoch_milliseconds())).await;
}
