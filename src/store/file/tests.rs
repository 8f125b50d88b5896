//! The file store through restarts, crashes and a disk that fails.

use super::disk::Disk;
use super::{FileStore, Store, Touch};
use crate::clock::{Clock, Moment};
use crate::session::{Limits, Mode, Reason, SessionId, Source};
use crate::store::contract::ShortForms;
use crate::store::{Known, contract};
use parking_lot::Mutex;
use redb::{Builder, StorageBackend};
use std::io::Error as BackendIoError;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LIMITS: Limits = Limits { timeout: 3600, lifetime: None, retention: 172_800 };
const NOON: u64 = 1_774_700_000_000;

fn id(token: &str) -> SessionId {
    SessionId::of_token(token.as_bytes())
}

fn touch(token: &str) -> Touch {
    Touch { id: id(token), age: 0, source: Source::ClientFrame, created_age: 0, begins: true }
}

const BOOT: Option<u64> = Some(7);

/// The machine's clock, in step with the wall clock.
fn clock_at(epoch: u64) -> Clock {
    Clock::simulated(Arc::new(AtomicU64::new(epoch - NOON + 5_000)))
}

fn clock() -> Clock {
    clock_at(NOON)
}

fn open(path: &Path, epoch: u64) -> FileStore {
    FileStore::open(path, LIMITS, clock_at(epoch), epoch, BOOT).unwrap()
}

/// Advances the clock while the store flushes once a second.
async fn count_for(store: &FileStore, time: &AtomicU64, milliseconds: u64) {
    for part in [milliseconds % 1000].into_iter().chain((0..milliseconds / 1000).map(|_| 1000)) {
        time.fetch_add(part, Ordering::Relaxed);
        store.flush(&[], Moment(0), Mode::Enforce).await.unwrap();
    }
}

async fn is_live(store: &FileStore, token: &str) -> bool {
    matches!(store.lookup(id(token)).await.unwrap(), Known::Live(_))
}

async fn is_dead(store: &FileStore, token: &str) -> bool {
    matches!(store.lookup(id(token)).await.unwrap(), Known::Ended(_))
}

#[tokio::test]
async fn it_keeps_the_promises_of_every_store() {
    let folder = tempfile::tempdir().unwrap();
    let time = Arc::new(AtomicU64::new(5_000));
    let clock = Clock::simulated(Arc::clone(&time));
    let store = FileStore::open(&folder.path().join("s"), contract::LIMITS, clock, NOON, BOOT).unwrap();
    // Idle time cannot start before counting does, and the contract uses activity from the past.
    count_for(&store, &time, 3_600_000).await;
    contract::keeps_its_promises(&store).await;
}

#[tokio::test]
async fn a_restart_keeps_live_and_ended_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let store = open(&path, NOON);
    store.begin(touch("ada")).await.unwrap();
    store.begin(touch("bob")).await.unwrap();
    let Known::Ended(before) = store.end(id("bob"), Reason::Logout).await.unwrap() else { panic!("not ended") };
    store.close().await.unwrap();
    drop(store);
    let store = open(&path, NOON + 20_000);
    let Known::Live(ada) = store.lookup(id("ada")).await.unwrap() else { panic!("forgotten") };
    assert_eq!((ada.age, ada.source), (20_000, Source::ClientFrame));
    let Known::Ended(bob) = store.lookup(id("bob")).await.unwrap() else { panic!("revived") };
    assert_eq!((bob.ended, bob.reason, bob.created), (before.ended, Reason::Logout, before.created));
}

#[tokio::test]
async fn downtime_never_counts_as_idle() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    for (gap, still_live) in [(50_000, false), (120_000, true)] {
        std::fs::remove_file(&path).ok();
        let time = Arc::new(AtomicU64::new(5_000));
        let store = FileStore::open(&path, LIMITS, Clock::simulated(Arc::clone(&time)), NOON, BOOT).unwrap();
        store.begin(touch("ada")).await.unwrap();
        count_for(&store, &time, 3_590_000).await;
        drop(store);
        let store = open(&path, NOON + 3_590_000 + gap);
        store.judged(Touch { age: 3_590_000 + gap, ..touch("ada") }, 0, Mode::Enforce).await;
        assert_eq!(is_live(&store, "ada").await, still_live, "after {gap} ms");
    }
}

#[tokio::test]
async fn time_in_suspend_does_not_count_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    for (gap, still_live) in [(59_000, false), (61_000, true)] {
        std::fs::remove_file(&path).ok();
        let time = Arc::new(AtomicU64::new(5_000));
        let store = FileStore::open(&path, LIMITS, Clock::simulated(Arc::clone(&time)), NOON, BOOT).unwrap();
        store.begin(touch("ada")).await.unwrap();
        count_for(&store, &time, 3_550_000).await;
        time.fetch_add(gap, Ordering::Relaxed);
        // No lookup has touched the table since. The last write must still include this.
        store.close().await.unwrap();
        drop(store);
        let idle = 3_550_000 + gap;
        let store = open(&path, NOON + idle);
        store.judged(Touch { age: idle, ..touch("ada") }, 0, Mode::Enforce).await;
        assert_eq!(is_live(&store, "ada").await, still_live, "after {gap} ms");
    }
}

#[tokio::test]
async fn a_clock_set_back_expires_no_session_and_extends_none_beyond_now() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let store = open(&path, NOON + 7_200_000);
    store.begin(touch("ada")).await.unwrap();
    drop(store);
    let store = open(&path, NOON);
    let Known::Live(ada) = store.lookup(id("ada")).await.unwrap() else { panic!("forgotten") };
    assert_eq!((ada.age, ada.due_in), (0, 3_601_000));
}

#[tokio::test]
async fn a_file_that_cannot_be_the_store_is_refused_with_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| FileStore::open(path, LIMITS, clock(), NOON, BOOT).unwrap_err().to_string();
    assert!(refused(&folder.path().join("no/such/folder")).contains("make its folder"));
    let junk = folder.path().join("junk");
    std::fs::write(&junk, "this is a letter to my aunt").unwrap();
    assert!(refused(&junk).contains("move it away"), "{}", refused(&junk));
    assert_eq!(std::fs::read(&junk).unwrap(), b"this is a letter to my aunt", "what is not ours is left alone");
    let path = folder.path().join("sessions");
    let _store = open(&path, NOON);
    assert!(refused(&path).contains("in use"), "{}", refused(&path));
}

/// A simulated disk that can be full. A crash loses unsynced writes, but random sectors of them may survive.
#[derive(Clone, Debug, Default)]
struct Weak(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    written: Vec<u8>,
    full: bool,
    /// The disk just before each sync, when a crash can lose the most.
    moments: Vec<Weak>,
}

impl Weak {
    /// The disk after a crash. For each sector, `chance` decides whether the new data was written.
    fn crash(&self, mut chance: impl FnMut() -> bool) -> Self {
        Self::of(self.torn(&mut chance))
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), written: bytes, ..State::default() })))
    }

    fn torn(&self, chance: &mut impl FnMut() -> bool) -> Vec<u8> {
        let state = self.0.lock();
        let mut left = state.synced.clone();
        left.resize(state.written.len().max(left.len()), 0);
        for (old, new) in left.chunks_mut(512).zip(state.written.chunks(512)) {
            if chance() {
                old[..new.len()].copy_from_slice(new);
            }
        }
        left
    }

    fn store(&self, epoch: u64) -> FileStore {
        let weak = self.clone();
        let open = move || Builder::new().create_with_backend(weak.clone());
        let disk = Disk::opened_by(Path::new("weak"), Box::new(open)).unwrap();
        FileStore::on(disk, LIMITS, clock_at(epoch), epoch, BOOT).unwrap()
    }
}

fn full() -> BackendIoError {
    std::io::ErrorKind::StorageFull.into()
}

impl StorageBackend for Weak {
    fn len(&self) -> Result<u64, BackendIoError> {
        Ok(self.0.lock().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), BackendIoError> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().written[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), BackendIoError> {
        let mut state = self.0.lock();
        if state.full && len > state.written.len() as u64 {
            return Err(full());
        }
        state.written.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), BackendIoError> {
        let mut state = self.0.lock();
        let moment = State { synced: state.synced.clone(), written: state.written.clone(), ..State::default() };
        state.moments.push(Self(Arc::new(Mutex::new(moment))));
        state.synced = state.written.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), BackendIoError> {
        let mut state = self.0.lock();
        if state.full {
            return Err(full());
        }
        let start = usize::try_from(offset).unwrap();
        state.written[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

#[tokio::test]
async fn changes_made_while_the_disk_was_full_are_written_when_it_has_space() {
    let weak = Weak::default();
    let store = weak.store(NOON);
    store.begin(touch("before")).await.unwrap();
    weak.0.lock().full = true;
    store.begin(touch("ada")).await.unwrap();
    store.end(id("before"), Reason::Logout).await.unwrap();
    while !store.flush(&[], Moment(0), Mode::Enforce).await.unwrap().unkept {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(is_live(&store, "ada").await && is_dead(&store, "before").await, "memory goes on");
    weak.0.lock().full = false;
    store.close().await.unwrap();
    drop(store);
    let store = weak.store(NOON + 10_000);
    assert!(is_live(&store, "ada").await, "forgotten");
    assert!(is_dead(&store, "before").await, "revived");
}

#[tokio::test]
async fn closing_fails_while_the_disk_is_full() {
    let weak = Weak::default();
    let store = weak.store(NOON);
    weak.0.lock().full = true;
    store.begin(touch("ada")).await.unwrap();
    assert!(store.close().await.is_err());
}

#[tokio::test]
async fn torn_writes_lose_nothing_that_was_written_before() {
    let weak = Weak::default();
    let store = weak.store(NOON);
    for number in 0..200 {
        store.begin(touch(&format!("old {number}"))).await.unwrap();
        store.end(id(&format!("old {number}")), Reason::Logout).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    let random = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
    let chance = || {
        let mut bits = random.load(Ordering::Relaxed);
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        random.store(bits, Ordering::Relaxed);
        bits & 1 == 0
    };
    let weak = weak.crash(|| true);
    let store = weak.store(NOON + 1000);
    store.begin(touch("new")).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let moments = std::mem::take(&mut weak.0.lock().moments);
    assert!(moments.len() > 1, "nothing was synced");
    for moment in &moments {
        for _ in 0..20 {
            let store = moment.crash(chance).store(NOON + 2000);
            for number in 0..200 {
                assert!(is_dead(&store, &format!("old {number}")).await, "revived");
            }
        }
    }
}
