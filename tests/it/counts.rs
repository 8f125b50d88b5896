//! Each way in which the store can fail, while sessions are in use: the dropped, those cut early and the activity that
//! was lost are counted, and are none.

use crate::harness::{App, Idlegate, Redis, Traffic, Way, eventually, replica};
use std::time::Duration;
use tokio::time::sleep;

const QUIET: &[&str] = &["--ping", "600"];
const LIMIT: u64 = 3;
const SESSIONS: usize = 4;

/// Longer than the limit: a verdict falls due on the replica that has seen nothing.
const LASTS: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    GoneAtStart,
    Killed,
    KilledAndEmpty,
    Hangs,
    Slow,
    CutOff,
    ReadOnly,
    OutOfMemory,
    AnotherPassword,
    Forgets,
    /// Its clock is stepped by so many seconds.
    Stepped(i64),
}

struct DecisionContext {
    redis: Redis,
    way: Way,
    replicas: [Idlegate; 2],
}

impl Fault {
    async fn scene(self, app: &App) -> DecisionContext {
        let redis = match self {
            Self::GoneAtStart => Redis::absent(),
            Self::Killed => Redis::start_with(&["--appendonly", "yes", "--appendfsync", "no"]),
            Self::Stepped(_) => Redis::with_clock(),
            _ => Redis::start(),
        };
        let delay = if self == Self::Slow { Duration::from_millis(150) } else { Duration::ZERO };
        let way = Way::to(&redis, delay).await;
        let limit = format!("{LIMIT}s");
        let replicas = std::array::from_fn(|_| replica(app, &way.url(), &limit, &[]));
        DecisionContext { redis, way, replicas }
    }

    async fn begin(self, DecisionContext { redis, way, .. }: &mut DecisionContext) {
        match self {
            Self::GoneAtStart | Self::Slow => {}
            Self::Killed | Self::KilledAndEmpty => redis.kill(),
            Self::Hangs => redis.freeze(),
            Self::CutOff => way.cut_off(),
            Self::ReadOnly => redis.ask("REPLICAOF 127.0.0.1 1").await,
            Self::OutOfMemory => redis.ask("CONFIG SET maxmemory 1").await,
            Self::AnotherPassword => redis.change_password("other").await,
            Self::Forgets => redis.ask("FLUSHALL").await,
            Self::Stepped(seconds) => redis.step_clock(seconds),
        }
    }

    async fn end(self, DecisionContext { redis, way, .. }: &mut DecisionContext) {
        match self {
            Self::GoneAtStart | Self::Killed | Self::KilledAndEmpty => redis.start_again(),
            Self::Hangs => redis.thaw(),
            Self::CutOff => way.mend(),
            Self::ReadOnly => redis.ask("REPLICAOF NO ONE").await,
            Self::OutOfMemory => redis.ask("CONFIG SET maxmemory 0").await,
            Self::AnotherPassword => redis.change_password("").await,
            Self::Slow | Self::Forgets | Self::Stepped(_) => {}
        }
    }

    /// What both replicas say of it, once it has begun.
    fn is_noticed_by(self, replica: &Idlegate) -> bool {
        match self {
            Self::Slow => true,
            Self::Forgets => !replica.logged("known sessions are reported again").is_empty(),
            Self::Stepped(_) => !replica.logged("the store's clock was stepped").is_empty(),
            _ => !replica.logged("until it is back").is_empty(),
        }
    }
}

async fn costs_nothing(app: &App, fault: Fault) {
    let what = format!("{fault:?}");
    let mut scene = fault.scene(app).await;
    let traffic = Traffic::start(scene.replicas.each_ref(), SESSIONS).await;
    if fault != Fault::GoneAtStart {
        let redis = &scene.redis;
        eventually("sessions to be reported", async || redis.session("used-0").await.contains_key("last_activity"))
            .await;
        // And a whole limit, or counting would only have begun.
        sleep(Duration::from_secs(LIMIT)).await;
    }
    fault.begin(&mut scene).await;
    for replica in &scene.replicas {
        eventually("the fault to be noticed", async || fault.is_noticed_by(replica)).await;
    }
    sleep(LASTS).await;
    fault.end(&mut scene).await;
    let lasting = matches!(fault, Fault::Slow | Fault::Forgets | Fault::Stepped(_));
    for replica in scene.replicas.iter().filter(|_| !lasting) {
        eventually("the store", async || !replica.logged("the store is back").is_empty()).await;
    }
    for replica in &scene.replicas {
        assert!(replica.logged("session ended").is_empty(), "{what}: {}", replica.whole_log());
    }
    traffic.ends_in_silence(&what, &scene.redis, LIMIT).await;
    for replica in &scene.replicas {
        // On a busy machine there may be another outage, which is said as well.
        let told = |line| replica.logged(line).len();
        let (outages, ends) = (told("until it is back"), told("the store is back"));
        assert!(outages == ends && outages >= usize::from(!lasting), "{what}: {}", replica.whole_log());
        // A report may come late once on a busy machine, but never by the grace.
        let (struck_off, silent) = (told("struck off"), told("a replica is silent"));
        assert!(struck_off == 0 && silent <= 1, "{what}: {}", replica.whole_log());
    }
}

async fn cost_nothing<const N: usize>(faults: [Fault; N]) {
    let app = App::start(QUIET);
    futures_util::future::join_all(faults.map(|fault| costs_nothing(&app, fault))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_reached_or_refuses_or_forgets_costs_nothing() {
    use Fault::*;
    let unreachable = [GoneAtStart, Killed, KilledAndEmpty, Hangs, CutOff];
    let others = [ReadOnly, OutOfMemory, AnotherPassword, Forgets, Slow];
    tokio::join!(cost_nothing(unreachable), cost_nothing(others));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_clock_is_stepped_costs_nothing() {
    cost_nothing([3, -3, 4, -4, 5, -5, 7200, -7200].map(Fault::Stepped)).await;
}
