//! Every metric of `/metrics`, with its name and help text.
//!
//! Label values are fixed words or come from the configuration. Nothing that a client sends becomes a label value, so
//! clients can neither add time series nor leak data into them. Counting is a relaxed atomic addition. Histograms take
//! a short lock and are used for requests, cuts and round trips, never for the frames of a tunnel.

use crate::clock::microseconds;
use crate::session::{EpochSeconds, Mode, Reason, SessionId, Source};
use crate::token::{Carrier, TokenRule};
use crate::token_changes::TokenChanges;
use crate::unmatched::Unmatched;
use crate::version::{REVISION, VERSION};
use crate::websocket::Side;
use http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::{Atomic, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Time from a request's head to the response's head, in seconds.
const REQUEST_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Store round trips, in seconds. A round trip is abandoned after one second.
const STORE_BUCKETS: [f64; 10] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0];

/// How late a cut is, in seconds. A session ends when it was idle for *more* than the timeout, so 1 is on time. Up to 2
/// is promised.
const LATENESS_BUCKETS: [f64; 8] = [1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Durations = Family<Labels<2>, Histogram, fn() -> Histogram>;

/// Why the app gave no proper response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UpstreamFailure {
    Unreachable = 0,
    ConnectTimeout = 1,
    BadAnswer = 2,
    ResponseTimeout = 3,
}

/// In the order of [`UpstreamFailure`].
const UPSTREAM_FAILURES: [&str; 4] = ["unreachable", "connect-timeout", "bad-answer", "response-timeout"];

/// Why a token was removed from a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dropped {
    BesideLive = 0,
    TooMany = 1,
}

/// In the order of [`Dropped`].
const DROPPED: [&str; 2] = ["beside-live", "too-many"];

/// Why a request or a tunnel was refused because of its tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// A token is dead.
    Ended = 0,
    /// There is none, and a rule requires one.
    Missing = 1,
    /// It is unknown, and only those that the app was seen to hand out pass.
    Unknown = 2,
}

impl Refused {
    const ALL: [Self; 3] = [Self::Ended, Self::Missing, Self::Unknown];

    /// The name in metrics and audit events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// A counter that every frame increments. It has its own cache lines, to avoid false sharing with other counters.
type HotCounter = Counter<u64, OwnLine>;

#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine(AtomicU64);

impl Atomic<u64> for OwnLine {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    fn inc_by(&self, more: u64) -> u64 {
        self.0.fetch_add(more, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// By [`Mode`].
    mode: [Gauge; Mode::ALL.len()],
    pub(crate) draining: Gauge,
    /// Metrics of the store connection.
    pub(crate) store: StoreMetrics,
    pub(crate) sessions: Gauge,
    pub(crate) remembered_ends: Gauge,
    pub(crate) sessions_max: Gauge,
    pub(crate) tracked: Counter,
    pub(crate) untracked: Counter,
    /// Both by [`Reason`].
    ended: [Counter; Reason::ALL.len()],
    would_cut: [Counter; Reason::ALL.len()],
    refusals: Refusals,
    would_refuse: Refusals,
    pub(crate) unrecognised: Counter,
    pub(crate) keepalives: Counter,
    pub(crate) headers_dropped: Counter,
    /// By rule.
    rule_matches: Family<Vec<(&'static str, String)>, Counter>,
    matches: OnceLock<Box<[Counter]>>,
    rule_changes: Family<Vec<(&'static str, String)>, Counter>,
    changes: OnceLock<Box<[Counter]>>,
    /// By name of the `[[ignore]]` rule.
    ignored_by_rule: Family<Vec<(&'static str, String)>, Counter>,
    /// The same by position.
    ignored: OnceLock<Vec<Counter>>,
    /// By rule; 0 for those that admit unknown tokens anyway.
    unissued: Family<Vec<(&'static str, String)>, Gauge>,
    /// Detects that no token rule matches any request.
    pub(crate) unmatched: Unmatched,
    /// Whether the app changes a token while its user stays logged in.
    pub(crate) token_changes: TokenChanges,
    /// By [`Dropped`].
    dropped: [Counter; DROPPED.len()],
    cut_lateness: Histogram,
    /// By [`Source`].
    activity: [HotCounter; Source::ALL.len()],
    connections: Gauge,
    connections_accepted: Counter,
    tunnels: Gauge,
    tunnels_opened: Counter,
    /// Both by direction: up, down.
    frames: [HotCounter; 2],
    bytes: [HotCounter; 2],
    requests: Durations,
    /// By [`UpstreamFailure`].
    upstream_errors: [Counter; UPSTREAM_FAILURES.len()],
}

impl Default for Metrics {
    #[expect(clippy::too_many_lines, reason = "one entry for each metric")]
    fn default() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        build_info(r);
        let modes = Family::<Labels<1>, Gauge>::default();
        register(r, "idlegate_mode", "1 for the mode in force, 0 for the others", modes.clone());
        let mut metrics = Self {
            mode: Mode::ALL.map(|mode| modes.get_or_create_owned(&[("mode", mode.name())])),
            draining: register(r, "idlegate_draining", "1 once a drain has begun", Gauge::default()),
            store: StoreMetrics::new(r),
            sessions: register(r, "idlegate_sessions", "Live sessions tracked by this replica", Gauge::default()),
            remembered_ends: register(
                r,
                "idlegate_remembered_ends",
                "Ended sessions whose tokens this replica refuses from memory",
                Gauge::default(),
            ),
            sessions_max: register(
                r,
                "idlegate_sessions_max",
                "The limit max_sessions on tracked sessions",
                Gauge::default(),
            ),
            tracked: register(
                r,
                "idlegate_sessions_tracked",
                "Sessions that began here or were loaded from the store",
                Counter::default(),
            ),
            untracked: register(
                r,
                "idlegate_sessions_untracked",
                "Tokens that the app accepted but that are not tracked, because max_sessions was reached",
                Counter::default(),
            ),
            ended: each(
                r,
                "idlegate_sessions_ended",
                "Sessions known to this replica that ended, by this or another replica; idle and lifetime mean cut",
                ("reason", Reason::ALL.map(Reason::name)),
            ),
            would_cut: each(
                r,
                "idlegate_would_cuts",
                "Sessions that would have ended in mode enforce",
                ("reason", Reason::ALL.map(Reason::name)),
            ),
            refusals: refusals(
                r,
                "idlegate_refusals",
                "Requests, and tokens in messages, refused because of their tokens",
                &Refused::ALL,
            ),
            would_refuse: refusals(
                r,
                "idlegate_would_refusals",
                "Requests, tunnels, and tokens in messages that would have been refused in mode enforce",
                &[Refused::Missing, Refused::Unknown],
            ),
            rule_matches: register(r, "idlegate_rule_matches", "Tokens found by each rule", Family::default()),
            matches: OnceLock::new(),
            unmatched: Unmatched::default(),
            token_changes: TokenChanges::default(),
            changes: OnceLock::new(),
            rule_changes: register(
                r,
                "idlegate_rule_token_changes",
                "Responses that replaced the token of a live session, by rule",
                Family::default(),
            ),
            ignored_by_rule: register(
                r,
                "idlegate_ignored",
                "Requests and messages that were not counted as activity, by rule of [[ignore]]",
                Family::default(),
            ),
            ignored: OnceLock::new(),
            unissued: register(
                r,
                "idlegate_rule_unissued",
                "1 if a rule cannot refuse unknown tokens, because the app was not seen to hand out most of its latest ones",
                Family::default(),
            ),
            headers_dropped: register(
                r,
                "idlegate_headers_dropped",
                "Header fields not forwarded, because an app may read their names as those of other fields",
                Counter::default(),
            ),
            dropped: each(r, "idlegate_tokens_dropped", "Tokens that were taken out of requests", ("reason", DROPPED)),
            keepalives: register(
                r,
                "idlegate_keepalives_sent",
                "Keepalive messages sent to the app",
                Counter::default(),
            ),
            unrecognised: register(
                r,
                "idlegate_tunnels_unrecognised",
                "Tunnels refused because no rule found their token",
                Counter::default(),
            ),
            cut_lateness: register(
                r,
                "idlegate_cut_lateness_seconds",
                "Seconds from the last allowed second to the cut; 1 is on time",
                Histogram::new(LATENESS_BUCKETS),
            ),
            activity: each(
                r,
                "idlegate_activity",
                "Activity that refreshed a session; all frames of one read count once",
                ("source", Source::ALL.map(Source::name)),
            ),
            connections: register(
                r,
                "idlegate_connections",
                "Open client connections that speak HTTP",
                Gauge::default(),
            ),
            connections_accepted: register(
                r,
                "idlegate_connections_accepted",
                "Client connections accepted",
                Counter::default(),
            ),
            tunnels: register(r, "idlegate_tunnels", "Open tunnels", Gauge::default()),
            tunnels_opened: register(r, "idlegate_tunnels_opened", "Tunnels opened", Counter::default()),
            frames: each(
                r,
                "idlegate_tunnel_frames",
                "Frames received on tunnels, including control frames",
                DIRECTIONS,
            ),
            bytes: each(r, "idlegate_tunnel_bytes", "Bytes received on tunnels, including frame headers", DIRECTIONS),
            requests: register(
                r,
                "idlegate_request_duration_seconds",
                "Time from a request's head to its response's head",
                Durations::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            ),
            upstream_errors: each(
                r,
                "idlegate_upstream_errors",
                "Requests without a proper response from the app",
                ("cause", UPSTREAM_FAILURES),
            ),
            registry: Registry::default(),
        };
        metrics.registry = registry;
        metrics.mode(Mode::Enforce);
        metrics
    }
}

fn build_info(r: &mut Registry) {
    let build = Family::<Labels<2>, Gauge>::default();
    build.get_or_create(&[("version", VERSION), ("revision", REVISION)]).set(1);
    register(r, "idlegate_build_info", "Always 1, with the version and revision as labels", build);
}

const DIRECTIONS: (&str, [&str; 2]) = ("direction", ["up", "down"]);

fn register<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: EncodeMetric + TypedMetric + Clone + Debug + Send + Sync + 'static,
{
    registry.register(name, help, metric.clone());
    metric
}

/// A counter for each value of a label. All exist from the start: they are found by index, without a lookup, and export
/// 0 before the first event. Otherwise a rate would miss that event.
fn each<A, const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    (label, values): (&'static str, [&'static str; N]),
) -> [Counter<u64, A>; N]
where
    A: Atomic<u64> + Debug + Default + Send + Sync + 'static,
{
    let family = register(registry, name, help, Family::<Labels<1>, Counter<u64, A>>::default());
    values.map(|value| family.get_or_create_owned(&[(label, value)]))
}

/// Counters by [`Refused`] and [`Carrier`].
type Refusals = Vec<[Counter; Carrier::ALL.len()]>;

/// Registers a counter for each of these reasons and each carrier. All exist from the start, as those of [`each`].
fn refusals(registry: &mut Registry, name: &str, help: &str, reasons: &[Refused]) -> Refusals {
    let family = register(registry, name, help, Family::<Labels<2>, Counter>::default());
    let exported = |reason: Refused, carrier: Carrier| {
        let labels = [("carrier", carrier.name()), ("reason", reason.name())];
        if reasons.contains(&reason) { family.get_or_create_owned(&labels) } else { Counter::default() }
    };
    Refused::ALL.iter().map(|reason| Carrier::ALL.map(|carrier| exported(*reason, carrier))).collect()
}

impl Metrics {
    /// All metrics, in the text format of `OpenMetrics` 1.0.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            // Writing to a `String` does not fail.
            text.clear();
        }
        text
    }

    /// Sets the mode in force.
    pub(crate) fn mode(&self, mode: Mode) {
        for (gauge, one) in self.mode.iter().zip(Mode::ALL) {
            gauge.set(i64::from(one == mode));
        }
    }

    /// Counts a session that would have ended in mode `enforce`.
    pub(crate) fn would_cut(&self, reason: Reason) {
        self.would_cut[reason as usize].inc();
    }

    /// How many sessions would have ended in mode `enforce`.
    pub(crate) fn would_cuts(&self) -> u64 {
        sum(&self.would_cut)
    }

    /// Counts the end of a session, once per session. `late`: for a cut, the seconds since the last allowed second.
    pub(crate) fn ended(&self, reason: Reason, late: Option<EpochSeconds>) {
        self.ended[reason as usize].inc();
        if let Some(late) = late {
            self.cut_lateness.observe(seconds(late.saturating_mul(1_000_000)));
        }
    }

    /// Counts a dead token that was refused.
    pub(crate) fn refused(&self, carrier: Carrier) {
        self.refused_for(Refused::Ended, carrier);
    }

    pub(crate) fn refused_for(&self, reason: Refused, carrier: Carrier) {
        self.refusals[reason as usize][carrier as usize].inc();
    }

    /// Counts what would have been refused in mode `enforce`.
    pub(crate) fn would_refuse(&self, reason: Refused, carrier: Carrier) {
        self.would_refuse[reason as usize][carrier as usize].inc();
    }

    /// Registers a counter for each of these `[[ignore]]` rules, starting at 0. Rules of one name share it.
    pub(crate) fn count_ignored(&self, names: &[String]) {
        let counter = |name: &String| self.ignored_by_rule.get_or_create_owned(&vec![("rule", name.clone())]);
        self.ignored.get_or_init(|| names.iter().map(counter).collect());
    }

    /// Counts requests or messages that the rule at this position keeps from counting as activity.
    pub(crate) fn ignored(&self, rule: usize, count: u64) {
        if let Some(counter) = self.ignored.get().and_then(|ignored| ignored.get(rule)) {
            counter.inc_by(count);
        }
    }

    /// Registers a match counter for each of these token rules, starting at 0.
    pub(crate) fn count_rules(&self, rules: &[TokenRule]) {
        let labels = |rule: &TokenRule| vec![("rule", rule.number.to_string()), ("from", rule.kind().to_owned())];
        let counters =
            |family: &Family<_, Counter>| rules.iter().map(|rule| family.get_or_create_owned(&labels(rule))).collect();
        self.matches.get_or_init(|| counters(&self.rule_matches));
        self.changes.get_or_init(|| counters(&self.rule_changes));
        for rule in rules {
            self.unissued.get_or_create_owned(&labels(rule)).set(0);
        }
        self.unmatched.look_for(rules.iter().map(TokenRule::label).collect());
    }

    /// Notes whether a rule cannot refuse unknown tokens.
    pub(crate) fn unissued(&self, rule: usize, from: &'static str, is_blind: bool) {
        let labels = vec![("rule", rule.to_string()), ("from", from.to_owned())];
        self.unissued.get_or_create_owned(&labels).set(i64::from(is_blind));
    }

    /// Counts a token found by this rule.
    pub(crate) fn matched(&self, rule: usize) {
        self.unmatched.matched();
        if let Some(counter) = self.matches.get().and_then(|matches| matches.get(rule)) {
            counter.inc();
        }
    }

    /// The app has replaced the token of a live session.
    pub(crate) fn token_changed(&self, rule: &TokenRule, from: SessionId, to: SessionId) {
        if let Some(counter) = self.changes.get().and_then(|changes| changes.get(rule.number)) {
            counter.inc();
        }
        self.token_changes.changed(rule.number, || rule.label(), from, to);
    }

    pub(crate) fn dropped(&self, reason: Dropped) {
        self.dropped[reason as usize].inc();
    }

    pub(crate) fn active(&self, source: Source) {
        self.activity[source as usize].inc();
    }

    /// Counts bytes received from this side of a tunnel.
    pub(crate) fn bytes(&self, from: Side, count: usize) {
        self.bytes[from as usize].inc_by(count as u64);
    }

    /// Counts frames that began on this side of a tunnel.
    pub(crate) fn frames(&self, from: Side, count: u64) {
        self.frames[from as usize].inc_by(count);
    }

    /// Counts a response. Its request began at `begun` (see [`microseconds`]).
    pub(crate) fn answered(&self, method: &Method, status: StatusCode, begun: u64) {
        let labels = [("method", name_of(method)), ("status", class_of(status))];
        self.requests.get_or_create(&labels).observe(seconds(microseconds().saturating_sub(begun)));
    }

    pub(crate) fn upstream_failed(&self, failure: UpstreamFailure) {
        self.upstream_errors[failure as usize].inc();
    }

    /// Counts a client connection until the returned guard is dropped.
    pub(crate) fn connection(&self) -> CountedGuard {
        self.connections_accepted.inc();
        CountedGuard::new(&self.connections)
    }

    /// Counts a tunnel until the returned guard is dropped.
    pub(crate) fn tunnel(&self) -> CountedGuard {
        self.tunnels_opened.inc();
        CountedGuard::new(&self.tunnels)
    }

    /// How many tunnels are open.
    pub(crate) fn open_tunnels(&self) -> i64 {
        self.tunnels.get()
    }

    /// Logs the totals in one line when idlegate stops.
    pub fn log_stopped(&self, connections_left: usize) {
        let (tracked, over_capacity) = (self.tracked.get(), self.untracked.get());
        let (ended, would_cut, refused) =
            (sum(&self.ended), self.would_cuts(), self.refusals.iter().map(|carriers| sum(carriers)).sum::<u64>());
        tracing::info!(connections_left, tracked, ended, would_cut, refused, over_capacity, "stopped");
    }
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

/// Metrics of the store. Cheap to clone; clones share their values.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    up: Gauge,
    pending_sessions: Gauge,
    pending_age: Gauge<f64, AtomicU64>,
    clock_difference: Gauge<f64, AtomicU64>,
    round_trip: Histogram,
    errors: Counter,
    pub(crate) clock_steps: Counter,
    pub(crate) clock_drift: Gauge<f64, AtomicU64>,
    pub(crate) struck_off: Counter,
    pub(crate) ends_dropped: Counter,
    pub(crate) issued_dropped: Counter,
    restarts: [Counter; 2],
}

impl Default for StoreMetrics {
    /// Metrics that are not exported.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl StoreMetrics {
    fn new(r: &mut Registry) -> Self {
        let metrics = Self {
            up: register(
                r,
                "idlegate_store_up",
                "1 if the store accepted and kept the last report, 0 if it did not respond or could not keep it",
                Gauge::default(),
            ),
            pending_sessions: register(
                r,
                "idlegate_store_pending_sessions",
                "Sessions with activity that the last report could not deliver to the store",
                Gauge::default(),
            ),
            pending_age: register(
                r,
                "idlegate_store_pending_age_seconds",
                "Age of the oldest activity that the last report could not deliver to the store",
                Gauge::default(),
            ),
            clock_difference: register(
                r,
                "idlegate_store_clock_difference_seconds",
                "Store clock minus host clock, for information only; NaN if unknown",
                Gauge::default(),
            ),
            round_trip: register(
                r,
                "idlegate_store_round_trip_seconds",
                "Duration of round trips to Redis, including abandoned ones",
                Histogram::new(STORE_BUCKETS),
            ),
            errors: register(
                r,
                "idlegate_store_errors",
                "Round trips to Redis that failed or timed out",
                Counter::default(),
            ),
            clock_steps: register(
                r,
                "idlegate_store_clock_steps",
                "Steps of the store's clock that this replica observed",
                Counter::default(),
            ),
            clock_drift: register(
                r,
                "idlegate_store_clock_drift_ratio",
                "How much faster the store's clock runs than this replica's: 0.001 is a millisecond each second",
                Gauge::default(),
            ),
            struck_off: register(
                r,
                "idlegate_replicas_struck_off",
                "Replicas struck off by this one because they were silent for longer than replica_grace",
                Counter::default(),
            ),
            ends_dropped: register(
                r,
                "idlegate_ends_dropped",
                "Ends that the store forgot before retention because there were too many",
                Counter::default(),
            ),
            issued_dropped: register(
                r,
                "idlegate_issued_dropped",
                "Tokens handed out by the app that the store did not keep until their first use, because there were too many",
                Counter::default(),
            ),
            restarts: each(
                r,
                "idlegate_store_counting_restarts",
                "Restarts of idle time for every session, by the time since the one before",
                ("since_last", ["within-timeout", "longer"]),
            ),
        };
        metrics.clock_difference.set(f64::NAN);
        metrics
    }

    /// Idle time begins again for every session. `again`: for the second time within one idle timeout.
    pub(crate) fn restarted(&self, again: bool) {
        let [within_timeout, longer] = &self.restarts;
        if again { within_timeout } else { longer }.inc();
    }

    /// Starts a round trip. It is counted when the returned guard is dropped.
    pub(crate) fn round_trip(&self) -> RoundTrip<'_> {
        RoundTrip { metrics: self, begun: microseconds(), answered: false }
    }

    /// The store accepted a report. `kept`: it could also persist it.
    pub(crate) fn synced(&self, kept: bool) {
        self.up.set(i64::from(kept));
        self.pending_sessions.set(0);
        self.pending_age.set(0.0);
    }

    /// The store accepted no report: activity of `sessions` sessions is unsynced, the oldest `age` milliseconds old.
    pub(crate) fn unsynced(&self, sessions: usize, age: u64) {
        self.up.set(0);
        self.pending_sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.pending_age.set(seconds(age.saturating_mul(1000)));
    }

    /// Whether the store accepted and kept the last report.
    pub(crate) fn is_up(&self) -> bool {
        self.up.get() == 1
    }

    /// Records the store's clock and this host's clock, in epoch milliseconds.
    pub(crate) fn clocks(&self, store: u64, host: u64) {
        let difference = seconds(store.abs_diff(host).saturating_mul(1000));
        self.clock_difference.set(if store < host { -difference } else { difference });
    }
}

/// A round trip to the store.
#[derive(Debug)]
pub(crate) struct RoundTrip<'m> {
    metrics: &'m StoreMetrics,
    begun: u64,
    answered: bool,
}

impl RoundTrip<'_> {
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

/// A round trip dropped without an answer was abandoned. It counts as an error, and its duration is still recorded.
impl Drop for RoundTrip<'_> {
    fn drop(&mut self) {
        self.metrics.round_trip.observe(seconds(microseconds().saturating_sub(self.begun)));
        if !self.answered {
            self.metrics.errors.inc();
        }
    }
}

/// A guard that counts as one on a gauge until it is dropped.
#[derive(Debug)]
pub(crate) struct CountedGuard(Gauge);

impl CountedGuard {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for CountedGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for the first 285 years")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// The name of a standard method, or `other`: a client must not choose label values.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class_of(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
