//! Operator queries over all sessions and all replicas, and operator actions on one session.

use super::decisions::Decisions;
use super::modes::Modes;
use super::services::Services;
use super::session_view::{End, LastClose, LastIgnored, LastRequest, SessionView, State, Timing};
use super::table::Table;
use super::{Switch, TrackedSession};
use crate::clock::Moment;
use crate::session::{Mode, Reason, SessionId, Source};
use crate::store::{Answers, Ended, Known, Live, Question, StoreError, Touch};
use crate::websocket::Side;
use futures_util::future::join_all;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

/// The maximum number of sessions that one replica lists, so that a reply stays readable and bounded.
pub const MAX_LISTED: usize = 1_000;

/// The maximum number of concurrent lookups.
const MAX_CONCURRENT_LOOKUPS: usize = 64;

/// The combined replies of all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FleetReply<T> {
    /// The merged result.
    pub found: T,
    /// How many replicas did not answer. The result lacks what only they know.
    pub silent: u64,
}

/// Where an operator's action has taken effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Nowhere: the session does not exist, or has already ended.
    None,
    /// On this replica only: the store does not answer. The other replicas follow once it does.
    Here,
    /// On all replicas.
    All,
}

/// The number of sessions on one replica, by state.
#[derive(Clone, Debug)]
pub struct Overview {
    /// How many are live.
    pub live: usize,
    /// How many of these are overdue, and would be cut if the mode enforced.
    pub overdue: usize,
}

/// The maximum number of session ids listed for one prefix.
const MAX_MATCHING_IDS: usize = 8;

/// A question from one replica to all of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// One session.
    Session(String),
    /// The live sessions that have been idle for `idle_over` seconds or more: the `max` with the least time left.
    Live { idle_over: u64, max: usize },
    /// The session ids that begin with these digits.
    Beginning(String),
    /// The sessions that would be cut if the fleet's switch were set to `enforce`.
    WouldBeCut,
}

/// Answers what operators ask, and acts for them.
#[derive(Debug)]
pub struct Inspect {
    services: Arc<Services>,
    decisions: Arc<Decisions>,
    table: Arc<Table>,
    modes: Arc<Modes>,
}

impl Inspect {
    pub(super) fn new(
        services: Arc<Services>,
        decisions: Arc<Decisions>,
        table: Arc<Table>,
        modes: Arc<Modes>,
    ) -> Self {
        Self { services, decisions, table, modes }
    }

    /// What all replicas and the store know of one session; `None` if they all do not know it.
    ///
    /// # Errors
    /// If the store does not answer and this replica does not know the session either.
    pub async fn view(&self, id: SessionId) -> Result<FleetReply<Option<SessionView>>, StoreError> {
        let here = self.table.known(id).map(|session| self.view_of(&session));
        let in_store = match self.services.store.lookup(id).await {
            Ok(known) => self.view_in_store(id, known),
            Err(_) if here.is_some() => None,
            Err(error) => return Err(error),
        };
        let FleetReply { found, silent } = self.ask::<SessionView>(&Ask::Session(id.to_string())).await;
        let views = found.into_iter().chain(here).chain(in_store);
        let found = views.reduce(|mut all, one| {
            all.merge(one);
            all
        });
        Ok(FleetReply { found, silent })
    }

    /// The live sessions on all replicas that have been idle for `idle_over` seconds or more. Each replica lists up to
    /// `max` of them, those with the least time left.
    pub async fn views(&self, idle_over: u64, max: usize) -> FleetReply<Vec<SessionView>> {
        let mut all: BTreeMap<String, SessionView> = BTreeMap::new();
        let FleetReply { found, silent } = self.ask::<SessionView>(&Ask::Live { idle_over, max }).await;
        for view in found.into_iter().chain(self.live_here(idle_over, max)) {
            match all.get_mut(&view.session) {
                Some(known) => known.merge(view),
                None => drop(all.insert(view.session.clone(), view)),
            }
        }
        // A session that is idle on one replica but active on another is not idle.
        let by = self.timing();
        let mut all: Vec<_> = all.into_values().filter(|view| view.idle(&by) >= idle_over).collect();
        all.sort_by_key(|view| view.last_activity);
        FleetReply { found: all, silent }
    }

    /// Asks all replicas. Each replies with a list.
    async fn ask<T: DeserializeOwned>(&self, ask: &Ask) -> FleetReply<Vec<T>> {
        let question = json!(ask).to_string();
        let Answers { texts: answers, mut silent } = self.services.store.ask_all(&question).await.unwrap_or_default();
        let mut found = Vec::new();
        for answer in answers {
            match serde_json::from_str::<Vec<T>>(&answer) {
                Ok(some) => found.extend(some),
                // The reply of another version of idlegate, which this one cannot parse.
                Err(_) => silent += 1,
            }
        }
        FleetReply { found, silent }
    }

    /// Answers a question that a replica asked all replicas.
    pub(super) async fn answer(&self, question: &Question) {
        let answer = match serde_json::from_str(&question.text) {
            Ok(Ask::Session(id)) => {
                let session = SessionId::from_hex(&id).and_then(|id| self.table.known(id));
                json!(session.map(|session| self.view_of(&session)).as_slice())
            }
            Ok(Ask::Live { idle_over, max }) => json!(self.live_here(idle_over, max)),
            Ok(Ask::Beginning(digits)) => json!(self.beginning_here(&digits)),
            Ok(Ask::WouldBeCut) => {
                json!(self.overdue_under(Switch::Fleet).iter().map(SessionId::to_string).collect::<Vec<_>>())
            }
            // A question of a later version. Reply anyway: without a reply the asking replica would wait.
            Err(_) => json!(null),
        };
        let answer = answer.to_string();
        if let Err(error) = self.services.store.answer(question, &answer).await {
            tracing::debug!(%error, "could not answer a question of another replica");
        }
    }

    /// The session ids that begin with these digits: of sessions that any replica knows, and of recent decisions here.
    /// Lists only a few if there are many.
    pub async fn ids_beginning(&self, digits: &str) -> Vec<String> {
        let mut ids: BTreeSet<_> = self.beginning_here(digits).into_iter().collect();
        ids.extend(self.ask::<String>(&Ask::Beginning(digits.to_owned())).await.found);
        ids.into_iter().take(MAX_MATCHING_IDS).collect()
    }

    fn beginning_here(&self, digits: &str) -> Vec<String> {
        let decided = self.decisions.recent().into_iter().filter_map(|past| past.session);
        let known = self.table.sessions.pick(|session| Some(session.id()));
        let ids = known.into_iter().chain(decided).map(|id| id.to_string());
        ids.filter(|id| id.starts_with(digits)).collect::<BTreeSet<_>>().into_iter().take(MAX_MATCHING_IDS).collect()
    }

    /// The clock, the limits and the start of counting from which views are computed.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            now: self.services.now() / 1000,
            counting: self.services.store.counting(),
            limits: self.services.limits,
        }
    }

    /// The number of live and overdue sessions on this replica.
    #[must_use]
    pub fn overview(&self) -> Overview {
        Overview { live: self.table.sessions.live(), overdue: self.table.overdue().len() }
    }

    /// The live sessions of this replica that have been idle for `idle_over` seconds or more: the `max` with the least
    /// time left.
    fn live_here(&self, idle_over: u64, max: usize) -> Vec<SessionView> {
        let max = max.min(MAX_LISTED);
        // The clocks are read once: there may be very many sessions.
        let (by, now, here) = (self.timing(), self.services.now(), self.services.clock.now());
        let second_of = |at: Moment| now.saturating_sub(here.since(at)) / 1000;
        // The latest deadline is on top, and is removed for an earlier one. Views are built only for the result.
        let mut earliest = BinaryHeap::with_capacity(max + 1);
        self.table.sessions.pick(|session| {
            let last = second_of(session.activity_record().last().at);
            if session.ended().is_none() && by.idle(last) >= idle_over {
                earliest.push((by.due(second_of(session.created()), last).0, session.id()));
                if earliest.len() > max {
                    earliest.pop();
                }
            }
            None::<()>
        });
        let found = earliest.into_sorted_vec().into_iter().filter_map(|(_, id)| self.table.known(id));
        found.filter(|session| session.ended().is_none()).map(|session| self.view_of(&session)).collect()
    }

    fn view_of(&self, session: &TrackedSession) -> SessionView {
        let last = session.activity_record().last();
        let by_source = session.activity_record().by_source();
        let mut view = SessionView {
            session: session.id().to_string(),
            state: State::Live,
            created: self.services.second_of(session.created()),
            last_activity: self.services.second_of(last.at),
            source: last.source.name().to_owned(),
            activity: by_source
                .map(|latest| (latest.source.name().to_owned(), self.services.second_of(latest.at)))
                .collect(),
            connections: BTreeMap::from([(self.services.replica.clone(), session.connections())]),
            end: None,
            last_request: session.caller().map(LastRequest::from),
            lengths: [(Source::ClientFrame, Side::Client), (Source::ServerFrame, Side::Server)]
                .map(|(source, side)| (source.name().to_owned(), session.frame_length(side)))
                .into_iter()
                .filter(|(_, length)| *length > 0)
                .collect(),
            last_ignored: session.last_ignored().map(|last| LastIgnored {
                at: self.services.second_of(last.at),
                rule: self.services.ignore_rule(last.rule).to_owned(),
                count: last.count,
                what: last.what.to_string(),
            }),
            last_close: session.last_close().map(|closed| {
                let (code, reason) = closed.close.map_or((None, None), |(code, reason)| (Some(code), Some(reason)));
                let reason = reason.filter(|reason| !reason.is_empty());
                LastClose { at: self.services.second_of(closed.at), by: closed.by.to_owned(), code, reason }
            }),
        };
        match (session.ended(), session.overdue()) {
            (Some(record), _) => view.close(State::Ended, record, self.struck_off_before(record)),
            (None, Some(record)) => view.close(State::Overdue, &record, Vec::new()),
            (None, None) => {}
        }
        view
    }

    /// The replicas whose clients may have been active before this end.
    fn struck_off_before(&self, ended: &Ended) -> Vec<String> {
        if ended.reason == Reason::Idle { self.services.store.struck_off(ended.ended) } else { Vec::new() }
    }

    fn view_in_store(&self, id: SessionId, known: Known) -> Option<SessionView> {
        let of = |state, created, last_activity, source: Source, end| SessionView {
            session: id.to_string(),
            state,
            created,
            last_activity,
            source: source.name().to_owned(),
            activity: BTreeMap::from([(source.name().to_owned(), last_activity)]),
            connections: BTreeMap::new(),
            end,
            last_request: None,
            lengths: BTreeMap::new(),
            last_ignored: None,
            last_close: None,
        };
        match known {
            Known::Unknown | Known::Issued => None,
            Known::Live(live) | Known::Overdue(live, _) => {
                let ago = |age: u64| self.services.now().saturating_sub(age) / 1000;
                Some(of(State::Live, ago(live.created_age), ago(live.age), live.source, None))
            }
            Known::Ended(ended) => {
                let end = End::of(&ended, self.struck_off_before(&ended));
                Some(of(State::Ended, ended.created, ended.last_activity, ended.source, Some(end)))
            }
        }
    }

    /// Ends a session on all replicas, for an operator.
    ///
    /// # Errors
    /// If the store does not answer and this replica does not know the session either.
    pub async fn end_by_operator(&self, id: SessionId) -> Result<Reach, StoreError> {
        if let Some(session) = self.table.known(id) {
            if session.ended().is_some() {
                return Ok(Reach::None);
            }
            self.table.end(&session, Reason::Operator).await;
            return Ok(if session.is_end_unsynced() { Reach::Here } else { Reach::All });
        }
        if !matches!(self.services.store.lookup(id).await?, Known::Live(_) | Known::Overdue(..)) {
            return Ok(Reach::None);
        }
        // The store notifies the other replicas that know the session. This replica records the end, since none may.
        if let Known::Ended(ended) = self.services.store.end(id, Reason::Operator).await? {
            self.decisions.verdict(id, &ended, None, true);
        }
        Ok(Reach::All)
    }

    /// Refreshes a session as if it had been active now. Returns whether there was one to refresh.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn extend(&self, id: SessionId) -> Result<bool, StoreError> {
        let (created_age, begins) = match self.services.store.lookup(id).await? {
            Known::Live(Live { created_age, .. }) | Known::Overdue(Live { created_age, .. }, _) => (created_age, false),
            // The operator admits a token that the app was not seen to hand out.
            Known::Unknown | Known::Issued => (0, true),
            Known::Ended(_) => return Ok(false),
        };
        self.services.metrics.active(Source::Operator);
        if let Some(session) = self.table.known(id) {
            session.touch(self.services.clock.now(), Source::Operator);
        }
        let extended =
            self.services.store.begin(Touch { id, age: 0, source: Source::Operator, created_age, begins }).await?;
        Ok(!matches!(extended, Known::Ended(_)))
    }

    /// How many sessions would be cut at once if this switch were set to `enforce`: on this replica, or on all replicas
    /// for the fleet's switch. 0 if another switch is less strict.
    pub async fn would_be_cut(&self, switch: Switch) -> FleetReply<usize> {
        let mut all: BTreeSet<_> = self.overdue_under(switch).into_iter().collect();
        let mut silent = 0;
        if switch == Switch::Fleet {
            let others = self.ask::<String>(&Ask::WouldBeCut).await;
            all.extend(others.found.iter().filter_map(|id| SessionId::from_hex(id)));
            silent = others.silent;
        }
        FleetReply { found: self.count_overdue_in_store(all).await, silent }
    }

    /// How many sessions of this replica are overdue: past a limit, and alive because the mode does not cut them.
    pub async fn past_the_limit(&self) -> usize {
        self.count_overdue_in_store(self.table.overdue().iter().map(|session| session.id())).await
    }

    /// The sessions of this replica that would be cut if this switch were set to `enforce`.
    fn overdue_under(&self, switch: Switch) -> Vec<SessionId> {
        let is_in_force = self.modes.mode_with(switch, Mode::Enforce) == Mode::Enforce;
        let overdue = if is_in_force { self.table.overdue() } else { Vec::new() };
        overdue.iter().map(|session| session.id()).collect()
    }

    /// How many of these sessions are overdue according to the store. A session idle on this replica may be active on
    /// another, and one logged out while the mode did not enforce may still be active. A session that the store does
    /// not know counts as overdue. So does every session after the first [`MAX_LISTED`]: those are not looked up, so
    /// that the caller gets a reply in time.
    async fn count_overdue_in_store(&self, ids: impl IntoIterator<Item = SessionId>) -> usize {
        let ids: Vec<_> = ids.into_iter().collect();
        let (asked_about, beyond) = ids.split_at(ids.len().min(MAX_LISTED));
        let mut over = beyond.len();
        for some in asked_about.chunks(MAX_CONCURRENT_LOOKUPS) {
            let known = join_all(some.iter().map(|id| self.services.store.lookup(*id))).await;
            over += known
                .iter()
                .filter(|known| !matches!(known, Ok(Known::Live(Live { due_in: 1.., .. }) | Known::Ended(_))))
                .count();
        }
        over
    }
}
