//! Stops without losing work: tunnels are closed gradually, requests finish, the store gets the last report.
//!
//! ```text
//!  serving ──► draining ──► stopping ──► hurried
//!     └─── first signal ───────┘ second ────┘
//! ```
//! `phase` computes the deadlines. This module acts on them: tunnels are closed one after another, idle connections
//! last. A tunnel that waits for its turn costs no more than any other waiter: a place in a list, without a timer or a
//! wake-up before its turn.

mod phase;

pub use phase::Phase;

use crate::clock::{Clock, Moment};
use crate::config::Current;
use crate::metrics::Metrics;
use phase::{Drain, Order};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a closing connection may take: to deliver what was read, to send its Close, and to be closed by its peer.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the store is waited for after the second signal.
const LAST_TRY: Duration = Duration::from_millis(300);

/// How long no work may be under way before idle connections are closed. What was sent just before is read by then.
const QUIET: Duration = Duration::from_millis(250);

/// The drain of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Has the grace period.
    current: Current,
    metrics: Arc<Metrics>,
    drain: watch::Sender<Drain>,
    /// Its phase, for those who ask all the time.
    phase: AtomicU8,
    /// Those opened before the drain, and those opened since.
    early: TunnelQueue,
    late: TunnelQueue,
    /// Tunnels that are still open need not wait for their turn.
    all_due: AtomicBool,
    /// Connections that speak HTTP.
    connections: TaskTracker,
    /// Work that must finish first: requests, until their responses end, and tunnels.
    work: TaskTracker,
    closing: CancellationToken,
}

/// Tunnels to be closed, in the order in which they were opened.
#[derive(Debug, Default)]
struct TunnelQueue(Arc<Notify>);

impl TunnelQueue {
    /// How many tunnels there are: each has its own handle.
    fn open(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(1)
    }
}

/// A tunnel's place in the queue.
#[derive(Debug)]
pub(crate) struct Turn(Pin<Box<OwnedNotified>>);

impl Turn {
    /// Ready when the tunnel must close. The first poll registers the task for its wake-up.
    pub(crate) fn poll(&mut self, shutdown: &Shutdown, cx: &mut Context<'_>) -> Poll<()> {
        if shutdown.0.all_due.load(Ordering::Acquire) { Poll::Ready(()) } else { self.0.as_mut().poll(cx) }
    }
}

impl Shutdown {
    /// Goes by the grace period that `current` has when a drain begins.
    pub(crate) fn new(clock: Clock, current: Current, metrics: Arc<Metrics>) -> Self {
        let (connections, work) = (TaskTracker::new(), TaskTracker::new());
        // They are waited for only when nothing new begins, or is waited for again.
        connections.close();
        work.close();
        Self(Arc::new(Shared {
            clock,
            current,
            metrics,
            drain: watch::Sender::new(Drain::none()),
            phase: AtomicU8::new(Phase::Serving as u8),
            early: TunnelQueue::default(),
            late: TunnelQueue::default(),
            all_due: AtomicBool::new(false),
            connections,
            work,
            closing: CancellationToken::new(),
        }))
    }

    /// Begins to drain: tunnels are closed gradually, new requests are still served. Repeating it changes nothing.
    pub fn drain(&self) {
        self.order(Order::Drain);
    }

    /// Stops: no connection is accepted any more. Repeating it hurries.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    fn order(&self, order: Order) {
        let (now, grace) = (self.0.clock.now(), self.0.current.load().grace_period);
        self.0.drain.send_if_modified(|drain| {
            let before = std::mem::replace(drain, drain.ordered(order, now, grace));
            // Before any task is woken: they read this.
            self.0.phase.store(drain.phase as u8, Ordering::Release);
            if drain.phase == before.phase {
                return false;
            }
            let (grace, tunnels, under_way) = (humantime::format_duration(grace), self.tunnels(), self.requests());
            match drain.phase {
                Phase::Serving => {}
                Phase::Draining => tracing::info!(%grace, tunnels, under_way, "draining: WebSockets are closed \
                gradually, requests are still served"),
                Phase::Stopping => tracing::info!(%grace, tunnels, under_way, "stopping"),
                Phase::Hurried => tracing::info!(
                    tunnels,
                    under_way,
                    "second signal: closing the remaining \
                connections now"
                ),
            }
            self.0.metrics.draining.set(1);
            true
        });
    }

    /// How far the drain has got.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let phase = self.0.phase.load(Ordering::Acquire);
        Phase::ALL.into_iter().find(|one| *one as u8 == phase).unwrap_or(Phase::Serving)
    }

    /// Whether a drain is under way. Read for every frame.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.phase.load(Ordering::Acquire) != Phase::Serving as u8
    }

    /// How many tunnels are open.
    pub(crate) fn tunnels(&self) -> usize {
        usize::try_from(self.0.metrics.open_tunnels()).unwrap_or(0)
    }

    /// How many requests are under way, handshakes included.
    pub(crate) fn requests(&self) -> usize {
        self.0.work.len().saturating_sub(self.tunnels())
    }

    /// How much of the grace period is left.
    pub(crate) fn left(&self) -> Duration {
        Duration::from_millis(self.0.drain.borrow().over_by.since(self.0.clock.now()))
    }

    /// Resolves when no more connections are accepted.
    pub(crate) async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    /// Resolves when idle connections are to close.
    pub(crate) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// Runs a connection that speaks HTTP.
    pub(crate) fn spawn_connection<F>(&self, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.connections.spawn(connection);
    }

    /// Runs a tunnel, or what is to become one.
    pub(crate) fn spawn_tunnel<F>(&self, tunnel: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.work.spawn(tunnel);
    }

    /// A request is under way for as long as this lives.
    pub(crate) fn request(&self) -> TaskTrackerToken {
        self.0.work.token()
    }

    /// The place of a tunnel that is opened now.
    pub(crate) fn turn(&self) -> Turn {
        let queue = if self.is_draining() { &self.0.late } else { &self.0.early };
        Turn(Box::pin(Arc::clone(&queue.0).notified_owned()))
    }

    /// Runs the drain, and returns when all connections are closed or their time is over. Returns how many were left.
    pub(crate) async fn conduct(&self) -> usize {
        self.reached(Phase::Draining).await;
        let early = [&self.0.early];
        tokio::select! {
            biased;
            () = self.reached(Phase::Stopping) => {}
            () = self.close_in_turn(&early) => self.reached(Phase::Stopping).await,
        }
        tokio::select! {
            () = self.finish() => {}
            never = self.close_all() => match never {},
            () = self.closing_time() => {}
            () = self.reached(Phase::Hurried) => {
                self.need_not_wait();
                self.0.closing.cancel();
                tokio::select! {
                    () = self.all_closed() => {}
                    () = self.closing_time() => {}
                }
            }
        }
        self.0.connections.len() + self.tunnels()
    }

    /// The last word to the store, for which there is what is left of the grace period.
    ///
    /// # Errors
    /// Where that was not enough.
    pub(crate) async fn before_the_end<T>(
        &self,
        last: impl Future<Output = T>,
    ) -> Result<T, tokio::time::error::Elapsed> {
        let mut last = std::pin::pin!(last);
        tokio::select! {
            biased;
            done = tokio::time::timeout(self.left(), &mut last) => done,
            // After the second signal: one more try, without waiting.
            () = self.reached(Phase::Hurried) => {
                tokio::time::timeout(LAST_TRY.min(self.left()), last).await
            }
        }
    }

    /// Closes the tunnels of these queues, one after another, spread over the available time.
    async fn close_in_turn(&self, queues: &[&TunnelQueue]) {
        let drain = *self.0.drain.borrow();
        // Tunnels opened from now on are not among them.
        let counts: Vec<_> = queues.iter().map(|queue| queue.open()).collect();
        let of = counts.iter().sum();
        let turns = queues.iter().zip(&counts).flat_map(|(queue, count)| std::iter::repeat_n(queue, *count));
        for (number, queue) in turns.enumerate() {
            self.until(drain.turn(number, of)).await;
            queue.0.notify_one();
        }
        // A tunnel may just be taking its place.
        for queue in queues {
            queue.0.notify_waiters();
        }
    }

    /// Closes all tunnels within their time; tunnels opened later need not wait.
    async fn close_all(&self) -> Infallible {
        self.close_in_turn(&[&self.0.early, &self.0.late]).await;
        self.need_not_wait();
        std::future::pending().await
    }

    fn need_not_wait(&self) {
        self.0.all_due.store(true, Ordering::Release);
        self.0.early.0.notify_waiters();
        self.0.late.0.notify_waiters();
    }

    /// Waits for all that is under way, and closes idle connections last: until then a client may send its next request on
    /// one, and learns from the answer that it is to come elsewhere.
    async fn finish(&self) {
        loop {
            self.0.work.wait().await;
            if self.0.connections.is_empty() {
                break;
            }
            tokio::time::sleep(QUIET).await;
            if self.0.work.is_empty() {
                break;
            }
        }
        self.0.closing.cancel();
        self.all_closed().await;
    }

    async fn all_closed(&self) {
        self.0.connections.wait().await;
        self.0.work.wait().await;
    }

    async fn reached(&self, phase: Phase) {
        // It fails where there is no sender, which is here.
        let _ = self.0.drain.subscribe().wait_for(|drain| drain.phase >= phase).await;
    }

    /// Resolves when connections have had their time, as it is now.
    async fn closing_time(&self) {
        let closed_by = self.0.drain.borrow().closed_by;
        self.until(closed_by).await;
    }

    async fn until(&self, moment: Moment) {
        let left = moment.since(self.0.clock.now());
        if left > 0 {
            tokio::time::sleep(Duration::from_millis(left)).await;
        }
    }
}
