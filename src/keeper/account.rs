//! What is known of sessions, for those who ask: here, and on all replicas together.

use super::{Keeper, Session};
use crate::clock::{Moment, epoch_milliseconds};
use crate::session::{EpochSeconds, Reason, SessionId, Source};
use crate::store::{Ended, Known, Live, Question, StoreError, Touch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many sessions one replica tells of at most. A page that lists more is read by nobody, and an answer has to end.
pub const TOLD_AT_MOST: usize = 1_000;

/// How a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not over.
    Live,
    /// It is over, and lives on since the mode cuts nobody.
    Lapsed,
    /// It has ended, and its token is dead.
    Ended,
}

/// What is known of one session. All times are epoch seconds by the store's clock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Account {
    /// The session id.
    pub session: String,
    /// How it stands.
    pub state: State,
    /// When it began.
    pub created: EpochSeconds,
    /// Its last activity.
    pub last_activity: EpochSeconds,
    /// What that was.
    pub source: String,
    /// The last activity of each source that any replica has seen.
    pub activity: BTreeMap<String, EpochSeconds>,
    /// How many connections it has, by replica.
    pub connections: BTreeMap<String, usize>,
    /// When and why it ended, where it has; or would have, where it has lapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// An end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub at: EpochSeconds,
    /// Why.
    pub reason: String,
}

impl Account {
    /// For how many seconds it has been idle at `now`; an ended one for as long as until its end.
    #[must_use]
    pub fn idle(&self, now: EpochSeconds) -> u64 {
        let until = if self.state == State::Ended { self.end.as_ref().map_or(now, |end| end.at) } else { now };
        until.saturating_sub(self.last_activity)
    }

    /// Why it lives or does not, in a sentence: the arithmetic, and what keeps it alive.
    #[must_use]
    pub fn says(&self, now: EpochSeconds, limit: EpochSeconds) -> String {
        let Self { last_activity, source, .. } = self;
        let (idle, time) = (self.idle(now), clock_time(*last_activity));
        let last = format!("last activity {last_activity} ({time}) by {source}");
        match (&self.end, self.state) {
            (Some(End { at, reason }), State::Ended) if reason == "idle" => {
                format!("ended {at} ({}): idle {idle} s > {limit} s, {last}", clock_time(*at))
            }
            (Some(End { at, reason }), State::Ended) => format!("ended {at} ({}) by {reason}; {last}", clock_time(*at)),
            (Some(End { at, reason }), _) => {
                format!(
                    "over since {at} ({}) by {reason}, and not cut, since the mode does not cut; {last}",
                    clock_time(*at)
                )
            }
            (None, _) => {
                let others = self.activity.iter().filter(|(other, _)| *other != source).max_by_key(|(_, at)| **at);
                let alone = others.map_or(String::new(), |(other, at)| {
                    format!("; before that, by anything else, {at} ({}) by {other}", clock_time(*at))
                });
                format!("alive: idle {idle} s of {limit} s, {last}{alone}")
            }
        }
    }

    /// Takes in what another replica, or the store, knows of the same session.
    fn merge(&mut self, other: Self) {
        if other.last_activity > self.last_activity {
            (self.last_activity, self.source) = (other.last_activity, other.source);
        }
        self.created = self.created.min(other.created);
        for (source, at) in other.activity {
            let known = self.activity.entry(source).or_insert(at);
            *known = (*known).max(at);
        }
        self.connections.extend(other.connections);
        if (other.state as u8) > (self.state as u8) {
            (self.state, self.end) = (other.state, other.end);
        }
    }
}

/// The last second that can be written with a year of four digits. Another replica may say anything.
const LAST_SECOND: EpochSeconds = 253_402_300_799;

/// A second as people write it.
pub(crate) fn clock_time(second: EpochSeconds) -> humantime::Rfc3339Timestamp {
    let since = std::time::Duration::from_secs(second.min(LAST_SECOND));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since)
}

/// What one replica asks all of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ask {
    /// About one session.
    Session(String),
    /// About all live sessions that have been idle for longer than so many seconds.
    Idle(u64),
}

impl Keeper {
    /// Now, in epoch milliseconds: by the store's clock, as far as it is known.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.store.now().unwrap_or_else(epoch_milliseconds)
    }

    /// The epoch second of a moment.
    fn second_of(&self, at: Moment) -> EpochSeconds {
        self.now().saturating_sub(self.clock.now().since(at)) / 1000
    }

    /// What is known of one session, on all replicas and in the store; nothing where it is unknown to all.
    ///
    /// # Errors
    /// Where the store does not answer and this replica does not know the session either.
    pub async fn account(&self, id: SessionId) -> Result<Option<Account>, StoreError> {
        let here = self.known(id).map(|session| self.account_of(&session));
        let in_store = match self.store.look_up(id).await {
            Ok(known) => self.account_in_store(id, known),
            Err(_) if here.is_some() => None,
            Err(error) => return Err(error),
        };
        let mut accounts = self.ask(&Ask::Session(id.to_string())).await;
        accounts.extend(here.into_iter().chain(in_store));
        Ok(accounts.into_iter().reduce(|mut all, one| {
            all.merge(one);
            all
        }))
    }

    /// All live sessions that have been idle for longer than so many seconds, on all replicas; of each replica those
    /// that have the least time left.
    pub async fn accounts(&self, idle_over: u64) -> Vec<Account> {
        let mut all: BTreeMap<String, Account> = BTreeMap::new();
        for account in self.ask(&Ask::Idle(idle_over)).await.into_iter().chain(self.idle_here(idle_over)) {
            match all.get_mut(&account.session) {
                Some(known) => known.merge(account),
                None => drop(all.insert(account.session.clone(), account)),
            }
        }
        // Idle on one replica and active on another is not idle.
        let now = self.now() / 1000;
        let mut all: Vec<_> = all.into_values().filter(|account| account.idle(now) >= idle_over).collect();
        all.sort_by_key(|account| account.last_activity);
        all
    }

    /// Asks all replicas. Where they cannot be asked, this one still knows what it knows.
    async fn ask(&self, ask: &Ask) -> Vec<Account> {
        let Ok(question) = serde_json::to_string(ask) else { return Vec::new() };
        match self.store.ask_all(&question).await {
            Ok(answers) => answers
                .iter()
                .flat_map(|answer| serde_json::from_str::<Vec<Account>>(answer).unwrap_or_default())
                .collect(),
            Err(error) => {
                tracing::debug!(%error, "the other replicas could not be asked");
                Vec::new()
            }
        }
    }

    /// Answers what some replica asks all.
    pub(super) async fn answer(&self, question: &Question) {
        let accounts = match serde_json::from_str(&question.text) {
            Ok(Ask::Session(id)) => {
                let session = SessionId::from_hex(&id).and_then(|id| self.known(id));
                session.map(|session| self.account_of(&session)).into_iter().collect()
            }
            Ok(Ask::Idle(seconds)) => self.idle_here(seconds),
            // Of a later version. Saying nothing would make who asked wait.
            Err(_) => Vec::new(),
        };
        let answer = serde_json::to_string(&accounts).unwrap_or_default();
        if let Err(error) = self.store.answer(question, &answer).await {
            tracing::debug!(%error, "a question of another replica could not be answered");
        }
    }

    fn idle_here(&self, idle_over: u64) -> Vec<Account> {
        let now = self.now() / 1000;
        let live = self.all().into_iter().filter(|session| session.ended().is_none());
        let mut accounts: Vec<_> = live.map(|session| self.account_of(&session)).collect();
        accounts.retain(|account| account.idle(now) >= idle_over);
        accounts.sort_by_key(|account| account.last_activity);
        accounts.truncate(TOLD_AT_MOST);
        accounts
    }

    fn account_of(&self, session: &Session) -> Account {
        let last = session.pulse().last();
        let end = |record: Ended| End { at: record.ended, reason: record.reason.name().to_owned() };
        let (state, end) = match (session.ended(), session.lapsed()) {
            (Some(record), _) => (State::Ended, Some(end(*record))),
            (None, Some(record)) => (State::Lapsed, Some(end(record))),
            (None, None) => (State::Live, None),
        };
        Account {
            session: session.id().to_string(),
            state,
            created: self.second_of(session.created()),
            last_activity: self.second_of(last.at),
            source: last.source.name().to_owned(),
            activity: session
                .pulse()
                .by_source()
                .map(|beat| (beat.source.name().to_owned(), self.second_of(beat.at)))
                .collect(),
            connections: BTreeMap::from([(self.replica().to_owned(), session.connections())]),
            end,
        }
    }

    fn account_in_store(&self, id: SessionId, known: Known) -> Option<Account> {
        let of = |state, created, last_activity, source: Source, end| Account {
            session: id.to_string(),
            state,
            created,
            last_activity,
            source: source.name().to_owned(),
            activity: BTreeMap::from([(source.name().to_owned(), last_activity)]),
            connections: BTreeMap::new(),
            end,
        };
        match known {
            Known::Unknown => None,
            Known::Live(live) | Known::Lapsed(live, _) => {
                let ago = |age: u64| self.now().saturating_sub(age) / 1000;
                Some(of(State::Live, ago(live.created_age), ago(live.age), live.source, None))
            }
            Known::Ended(ended) => {
                let end = End { at: ended.ended, reason: ended.reason.name().to_owned() };
                Some(of(State::Ended, ended.created, ended.last_activity, ended.source, Some(end)))
            }
        }
    }

    /// Ends a session on all replicas, by an operator's will. Returns whether there was one to end.
    ///
    /// # Errors
    /// Where the store does not answer and this replica does not know the session either.
    pub async fn end_by_operator(&self, id: SessionId) -> Result<bool, StoreError> {
        if let Some(session) = self.known(id) {
            let live = session.ended().is_none();
            if live {
                self.end(&session, Reason::Operator).await;
            }
            return Ok(live);
        }
        let live = matches!(self.store.look_up(id).await?, Known::Live(_) | Known::Lapsed(..));
        // Those who know it hear of it; it may be that none of them is left.
        if live && let Known::Ended(ended) = self.store.end(id, Reason::Operator).await? {
            self.record_verdict(id, &ended, None, true);
        }
        Ok(live)
    }

    /// Refreshes a session as if it had been active now. Returns whether there was one to refresh.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn extend(&self, id: SessionId) -> Result<bool, StoreError> {
        let (Known::Live(Live { created_age, .. }) | Known::Lapsed(Live { created_age, .. }, _)) =
            self.store.look_up(id).await?
        else {
            return Ok(false);
        };
        self.metrics.active(Source::Operator);
        if let Some(session) = self.known(id) {
            session.touch(self.clock.now(), Source::Operator);
        }
        let extended = self.store.begin(Touch { id, age: 0, source: Source::Operator, created_age }).await?;
        Ok(!matches!(extended, Known::Ended(_)))
    }

    /// How many live sessions are over, on all replicas, and would be cut if they all enforced.
    pub async fn lapsed_anywhere(&self) -> usize {
        self.accounts(0).await.iter().filter(|account| account.state == State::Lapsed).count()
    }
}
