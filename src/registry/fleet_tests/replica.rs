//! A replica of the simulated fleet: a registry with its own clock. It can be frozen, cut off and killed.

use super::store::{Shared, StoreLink};
use crate::clock::Clock;
use crate::registry::{Registry, Resolved, Services, Switch};
use crate::session::{Mode, SessionId, Source};
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) struct Replica {
    pub(super) number: usize,
    pub(super) registry: Arc<Registry>,
    pub(super) cut_off: Arc<AtomicBool>,
    pace: Arc<Pace>,
    /// Aborted when the replica is killed.
    tasks: JoinSet<()>,
}

/// Runs or freezes the work of a replica, and advances its clock, which has an offset of its own.
struct Pace {
    shared: Arc<Mutex<Shared>>,
    offset: u64,
    time: Arc<AtomicU64>,
    frozen: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Pace {
    async fn keep<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if self.frozen.load(Ordering::Acquire) {
                self.waiting.lock().push(context.waker().clone());
                return Poll::Pending;
            }
            self.time.store(self.shared.lock().now() + self.offset, Ordering::Release);
            work.as_mut().poll(context)
        })
        .await
    }
}

impl Replica {
    pub(super) fn start(shared: &Arc<Mutex<Shared>>, number: usize) -> Self {
        let limits = shared.lock().limits;
        let offset = 1_000_000 + 77_777 * number as u64;
        let time = Arc::new(AtomicU64::new(shared.lock().now() + offset));
        let cut_off = Arc::new(AtomicBool::new(false));
        let clock = Clock::simulated(Arc::clone(&time));
        let store = StoreLink::store(shared, number, &time, offset, &cut_off);
        let registry = Arc::new(Registry::new(Services::new(Box::new(store), clock, limits), 1_000));
        shared.lock().running.insert(number, Arc::clone(&registry));
        let (frozen, waiting) = (AtomicBool::new(false), Mutex::default());
        let pace = Arc::new(Pace { shared: Arc::clone(shared), offset, time, frozen, waiting });
        let mut replica = Self { number, registry, cut_off, pace, tasks: JoinSet::new() };
        replica.spawn(|registry| async move { registry.exchange.run_rounds(&CancellationToken::new()).await });
        replica.spawn(|registry| async move { match registry.listen().await {} });
        replica
    }

    /// Spawns `work`, which stands still while the replica is frozen.
    fn spawn<F: Future<Output = ()> + Send>(&mut self, work: impl FnOnce(Arc<Registry>) -> F + Send + 'static) {
        let (pace, registry) = (Arc::clone(&self.pace), Arc::clone(&self.registry));
        self.tasks.spawn(async move { pace.keep(work(registry)).await });
    }

    pub(super) fn freeze(&self) {
        self.pace.frozen.store(true, Ordering::Release);
    }

    pub(super) fn thaw(&self) {
        self.pace.frozen.store(false, Ordering::Release);
        self.pace.waiting.lock().drain(..).for_each(Waker::wake);
    }

    /// Whether it is neither frozen nor cut off.
    pub(super) fn is_well(&self) -> bool {
        !self.pace.frozen.load(Ordering::Acquire) && !self.cut_off.load(Ordering::Acquire)
    }

    /// A request with this token, or a frame of its tunnel.
    pub(super) fn activity(&mut self, id: SessionId) {
        let (number, pace) = (self.number, Arc::clone(&self.pace));
        self.spawn(move |registry| async move {
            let standing = match registry.table.resolve(id).await {
                Resolved::Unknown => {
                    // The app accepts any token.
                    pace.shared.lock().passes(id, number);
                    registry.table.accept(id, None, None).await
                }
                standing => standing,
            };
            let mut shared = pace.shared.lock();
            match standing {
                Resolved::Live(session) => {
                    let at = registry.clock().now();
                    session.touch(at, Source::ClientFrame);
                    shared.witness.saw(id, at.0 - pace.offset, number);
                }
                Resolved::Ended(_) => shared.witness.saw_dead(id, number),
                // In another mode, a token may pass untracked.
                _ if registry.mode() != Mode::Enforce => {}
                Resolved::Unknown
                | Resolved::Issued
                | Resolved::NeverSeen
                | Resolved::Tolerated(_)
                | Resolved::Undecided => {
                    shared.witness.object("an accepted token is not tracked");
                }
            }
        });
    }

    /// The user logs out on this replica.
    pub(super) fn log_out(&mut self, id: SessionId) {
        let (number, pace) = (self.number, Arc::clone(&self.pace));
        self.spawn(move |registry| async move {
            if let Resolved::Live(session) = registry.table.resolve(id).await {
                registry.table.end(&session, crate::session::Reason::Logout).await;
                if session.ended().is_some() {
                    pace.shared.lock().witness.saw_dead(id, number);
                }
            }
        });
    }

    pub(super) fn switch(&self, mode: Mode) {
        self.registry.modes.switch(Switch::Replica, mode, None);
    }

    /// Switches the whole fleet.
    pub(super) fn switch_fleet(&mut self, mode: Mode) {
        self.spawn(move |registry| async move {
            registry.modes.switch_fleet(mode, None).await.expect("the store takes it");
        });
    }

    pub(super) async fn is_live(&self, id: SessionId) -> bool {
        matches!(self.pace.keep(self.registry.table.resolve(id)).await, Resolved::Live(_))
    }
}
