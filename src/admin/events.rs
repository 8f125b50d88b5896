//! `GET /events`: everything the page shows, once a second, as Server-Sent Events.

use super::json::{Modes, OneSession};
use crate::clock::Moment;
use crate::proxy::Body;
use crate::registry::{FleetReply, Overview, Past, Registry, State, StoreStatus};
use crate::session::EpochSeconds;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// The number of events in one response; then the page asks again. So a response ends well within the life of a
/// connection, and not in the middle of an event.
const SNAPSHOTS: usize = 20;

/// How many may look at once.
const SEATS: usize = 8;

/// The number of sessions shown: those with the least time left.
const SESSIONS: usize = 200;

/// How long a snapshot is reused for further pages, in milliseconds.
const FRESH: u64 = 500;

/// Sent to a page that must make room; it does not reconnect by itself.
const REPLACED: &[u8] = b"event: replaced\ndata: {}\n\n";

/// The open pages. When all seats are taken, the oldest page makes room: open pages cannot keep an operator out.
#[derive(Debug)]
pub(super) struct Events {
    registry: Arc<Registry>,
    seats: Mutex<VecDeque<Weak<Notify>>>,
    snapshot: tokio::sync::Mutex<Option<(Moment, Bytes)>>,
}

impl Events {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, seats: Mutex::default(), snapshot: tokio::sync::Mutex::default() }
    }

    /// The body of a response that repeats the current snapshot.
    pub(super) fn stream(self: &Arc<Self>) -> Body {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscriber = Subscriber { events: Arc::clone(self), seat: self.seat(), tick, left: SNAPSHOTS };
        let events = stream::unfold(subscriber, async |mut subscriber| {
            let event = subscriber.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), subscriber))
        });
        StreamBody::new(events).map_err(|never| match never {}).boxed_unsync()
    }

    /// A seat. It is free again when dropped, and is notified when it must be left.
    fn seat(&self) -> Arc<Notify> {
        let seat = Arc::new(Notify::new());
        let mut seats = self.seats.lock();
        seats.retain(|taken| taken.strong_count() > 0);
        if seats.len() >= SEATS
            && let Some(longest) = seats.pop_front().and_then(|taken| taken.upgrade())
        {
            longest.notify_one();
        }
        seats.push_back(Arc::downgrade(&seat));
        seat
    }
}

/// One open page.
struct Subscriber {
    events: Arc<Events>,
    seat: Arc<Notify>,
    tick: Interval,
    left: usize,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        tokio::select! {
            biased;
            () = self.seat.notified() => {
                self.left = 0;
                Some(Bytes::from_static(REPLACED))
            }
            _ = self.tick.tick() => Some(self.events.event().await),
        }
    }
}

impl Events {
    /// The event of this moment. Requests in quick succession share one, and concurrent ones wait for it.
    async fn event(&self) -> Bytes {
        let mut last = self.snapshot.lock().await;
        let now = self.registry.clock().now();
        match &*last {
            Some((then, event)) if now.since(*then) < FRESH => event.clone(),
            _ => {
                let event = Bytes::from(format!("data: {}\n\n", self.read().await));
                *last = Some((self.registry.clock().now(), event.clone()));
                event
            }
        }
    }

    async fn read(&self) -> Value {
        let registry = &self.registry;
        // One more, to know whether that is all of them.
        let FleetReply { found: mut views, silent } = registry.views(0, SESSIONS + 1).await;
        let by = registry.timing();
        views.sort_by_key(|view| view.left(&by).0);
        let are_more = views.len() > SESSIONS;
        views.truncate(SESSIONS);
        let overdue_anywhere = views.iter().filter(|view| view.state == State::Overdue).count();
        let Overview { live, overdue } = registry.overview();
        json!(Snapshot {
            modes: Modes::of(registry, overdue),
            now: by.now,
            version: crate::version::BOTH,
            limit: by.limits.timeout,
            lifetime: by.limits.lifetime,
            live,
            past_the_limit_anywhere: overdue_anywhere.max(overdue),
            silent,
            sessions: views.into_iter().map(|view| OneSession::of(view, &by)).collect(),
            are_more,
            recent: registry.recent().iter().map(record).collect(),
            store: store(registry.store_kind(), registry.store_status()),
        })
    }
}

/// All that the page shows.
#[derive(Serialize)]
struct Snapshot {
    #[serde(flatten)]
    modes: Modes,
    now: EpochSeconds,
    version: &'static str,
    limit: u64,
    lifetime: Option<u64>,
    live: usize,
    past_the_limit_anywhere: usize,
    /// How many replicas did not answer: their sessions are missing.
    silent: u64,
    sessions: Vec<OneSession>,
    are_more: bool,
    recent: Vec<Value>,
    store: Value,
}

/// A record, with how many it stands for.
fn record(past: &Past) -> Value {
    let mut record: Value = serde_json::from_str(&past.line).unwrap_or_default();
    if let Some(fields) = record.as_object_mut().filter(|_| past.refusals > 0) {
        fields.insert("times".to_owned(), past.refusals.into());
    }
    record
}

/// Nothing stands there until the first report was made.
fn store(kind: &str, standing: Option<StoreStatus>) -> Value {
    match standing {
        Some(StoreStatus { takes, since, unsynced, .. }) => {
            json!({"kind": kind, "takes": takes, "since": since, "unsynced": unsynced})
        }
        None => json!({ "kind": kind }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::session::Limits;
    use crate::store::MemoryStore;

    const LIMITS: Limits = Limits { timeout: 60, lifetime: None, retention: 60 };

    fn events() -> Arc<Events> {
        let clock = Clock::simulated(Arc::default());
        let store = MemoryStore::new(LIMITS, clock.clone(), 0);
        let registry = Registry::new(Box::new(store), clock.clone(), LIMITS, 10);
        Arc::new(Events::new(Arc::new(registry)))
    }

    async fn next(body: &mut Body) -> Option<Bytes> {
        Some(body.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_by_itself_well_within_the_life_of_its_connection() {
        let mut body = events().stream();
        let shown = async {
            let mut count = 0;
            while let Some(event) = next(&mut body).await {
                assert!(event.starts_with(b"data: {") && event.ends_with(b"}\n\n"), "{event:?}");
                count += 1;
            }
            count
        };
        let life = crate::admin::api::LIMITS.life;
        assert_eq!(tokio::time::timeout(life / 2 + life / 4, shown).await, Ok(SNAPSHOTS));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_page_makes_room_and_a_closed_page_frees_its_seat() {
        let events = events();
        let mut bodies: Vec<_> = (0..SEATS).map(|_| events.stream()).collect();
        for body in &mut bodies {
            assert!(next(body).await.unwrap().starts_with(b"data: "));
        }
        bodies.remove(3);
        bodies.push(events.stream());
        assert!(next(&mut bodies[0]).await.unwrap().starts_with(b"data: "), "there was a seat");
        bodies.push(events.stream());
        assert_eq!(next(&mut bodies[0]).await.unwrap(), REPLACED);
        assert_eq!(next(&mut bodies[0]).await, None);
        for body in &mut bodies[1..] {
            assert!(next(body).await.unwrap().starts_with(b"data: "));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_made_on_demand_and_shared() {
        let events = events();
        let (mut one, mut other) = (events.stream(), events.stream());
        assert!(events.snapshot.lock().await.is_none());
        let (seen, too) = (next(&mut one).await.unwrap(), next(&mut other).await.unwrap());
        assert_eq!(seen.as_ptr(), too.as_ptr());
        drop((one, other));
        tokio::time::sleep(EVERY * 5).await;
        let last = events.snapshot.lock().await.clone();
        assert_eq!(last.unwrap().1.as_ptr(), seen.as_ptr());
    }
}
