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

/// Time between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);

/// Snapshots per response. The page then asks again, so a response ends well within the lifetime of its connection, and
/// not in the middle of an event.
const SNAPSHOTS: usize = 20;

/// How many pages can subscribe at once.
const MAX_SUBSCRIBERS: usize = 8;

/// How many sessions are shown: those with the least time left.
const SESSIONS: usize = 200;

/// For how many milliseconds a snapshot is shared with other subscribers.
const SNAPSHOT_TTL: u64 = 500;

/// Sent to a subscriber that is replaced. Its page does not reconnect by itself.
const REPLACED: &[u8] = b"event: replaced\ndata: {}\n\n";

/// The current subscribers. A new one replaces the oldest if there are too many, so forgotten open pages cannot lock an
/// operator out.
#[derive(Debug)]
pub(super) struct Events {
    registry: Arc<Registry>,
    subscribers: Mutex<VecDeque<Weak<Notify>>>,
    snapshot: tokio::sync::Mutex<Option<(Moment, Bytes)>>,
}

impl Events {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, subscribers: Mutex::default(), snapshot: tokio::sync::Mutex::default() }
    }

    /// The body of a response: a stream of snapshots.
    pub(super) fn stream(self: &Arc<Self>) -> Body {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let subscriber = Subscriber { events: Arc::clone(self), replaced: self.subscribe(), tick, left: SNAPSHOTS };
        let events = stream::unfold(subscriber, async |mut subscriber| {
            let event = subscriber.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(event)), subscriber))
        });
        StreamBody::new(events).map_err(|never| match never {}).boxed_unsync()
    }

    /// Adds a subscriber. Dropping the returned handle removes it; the handle is notified when it is replaced.
    fn subscribe(&self) -> Arc<Notify> {
        let replaced = Arc::new(Notify::new());
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        if subscribers.len() >= MAX_SUBSCRIBERS
            && let Some(oldest) = subscribers.pop_front().and_then(|subscriber| subscriber.upgrade())
        {
            oldest.notify_one();
        }
        subscribers.push_back(Arc::downgrade(&replaced));
        replaced
    }
}

/// A page that receives snapshots.
struct Subscriber {
    events: Arc<Events>,
    replaced: Arc<Notify>,
    tick: Interval,
    left: usize,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Bytes> {
        self.left = self.left.checked_sub(1)?;
        tokio::select! {
            biased;
            () = self.replaced.notified() => {
                self.left = 0;
                Some(Bytes::from_static(REPLACED))
            }
            _ = self.tick.tick() => Some(self.events.event().await),
        }
    }
}

impl Events {
    /// The current event. Concurrent subscribers share one snapshot, which is made once.
    async fn event(&self) -> Bytes {
        let mut last = self.snapshot.lock().await;
        let now = self.registry.clock().now();
        match &*last {
            Some((then, event)) if now.since(*then) < SNAPSHOT_TTL => event.clone(),
            _ => {
                let event = Bytes::from(format!("data: {}\n\n", self.read().await));
                *last = Some((self.registry.clock().now(), event.clone()));
                event
            }
        }
    }

    async fn read(&self) -> Value {
        let registry = &self.registry;
        // One more than shown, to know whether there are more.
        let FleetReply { found: mut views, silent } = registry.inspect.views(0, SESSIONS + 1).await;
        let by = registry.inspect.timing();
        views.sort_by_key(|view| view.left(&by).0);
        let are_more = views.len() > SESSIONS;
        views.truncate(SESSIONS);
        let overdue_anywhere = views.iter().filter(|view| view.state == State::Overdue).count();
        let Overview { live, overdue } = registry.inspect.overview();
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
            recent: registry.decisions.recent().iter().map(record).collect(),
            store: store(registry.store_kind(), registry.store.status()),
        })
    }
}

/// Everything the page shows.
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
    /// How many replicas did not respond: their sessions are missing.
    silent: u64,
    sessions: Vec<OneSession>,
    are_more: bool,
    recent: Vec<Value>,
    store: Value,
}

/// An audit event. `times` is how many equal refusals it stands for.
fn record(past: &Past) -> Value {
    let mut record: Value = serde_json::from_str(&past.line).unwrap_or_default();
    if let Some(fields) = record.as_object_mut().filter(|_| past.refusals > 0) {
        fields.insert("times".to_owned(), past.refusals.into());
    }
    record
}

/// The store's state. Before the first report only its kind is known.
fn store(kind: &str, status: Option<StoreStatus>) -> Value {
    match status {
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
    use crate::registry::Services;
    use crate::session::Limits;
    use crate::store::MemoryStore;

    const LIMITS: Limits = Limits { timeout: 60, lifetime: None, retention: 60 };

    fn events() -> Arc<Events> {
        let clock = Clock::simulated(Arc::default());
        let store = MemoryStore::new(LIMITS, clock.clone(), 0);
        let registry = Registry::new(Services::new(Box::new(store), clock.clone(), LIMITS), 10);
        Arc::new(Events::new(Arc::new(registry)))
    }

    async fn next(body: &mut Body) -> Option<Bytes> {
        Some(body.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_ends_well_within_the_lifetime_of_its_connection() {
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
    async fn a_new_subscriber_replaces_the_oldest_only_if_no_place_is_free() {
        let events = events();
        let mut bodies: Vec<_> = (0..MAX_SUBSCRIBERS).map(|_| events.stream()).collect();
        for body in &mut bodies {
            assert!(next(body).await.unwrap().starts_with(b"data: "));
        }
        bodies.remove(3);
        bodies.push(events.stream());
        assert!(next(&mut bodies[0]).await.unwrap().starts_with(b"data: "), "a place was free");
        bodies.push(events.stream());
        assert_eq!(next(&mut bodies[0]).await.unwrap(), REPLACED);
        assert_eq!(next(&mut bodies[0]).await, None);
        for body in &mut bodies[1..] {
            assert!(next(body).await.unwrap().starts_with(b"data: "));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_is_made_only_on_demand_and_shared_by_subscribers() {
        let events = events();
        let (mut one, mut other) = (events.stream(), events.stream());
        assert!(events.snapshot.lock().await.is_none());
        let (seen, too) = (next(&mut one).await.unwrap(), next(&mut other).await.unwrap());
        assert_eq!(seen.as_ptr(), too.as_ptr());
        drop((one, other));
        tokio::time::sleep(INTERVAL * 5).await;
        let last = events.snapshot.lock().await.clone();
        assert_eq!(last.unwrap().1.as_ptr(), seen.as_ptr());
    }
}
