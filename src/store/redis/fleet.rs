//! What replicas say to each other through the server: how the switch of all of them stands, and what one asks all.

use super::RedisStore;
use crate::session::{Mode, SessionId};
use crate::store::{Fleet, Heard, Question};
use ::redis::{Cmd, FromRedisValue, RedisResult, Value};
use std::time::Duration;

/// What a message begins with that tells of the switch of the whole fleet.
const SWITCHED: &str = "mode ";

/// What a message begins with that asks all replicas; then come the key for the answers and the question.
const ASKED: &str = "ask ";

/// How long all replicas may take to answer a question.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked whether they have.
const LOOKED_EVERY: Duration = Duration::from_millis(20);

/// For how many seconds answers are kept for who asked.
const ANSWERS_KEPT: u64 = 10;

/// What a message on the channel means; nothing, where it is of another version.
pub(super) fn heard(message: &str) -> Option<Heard> {
    if let Some(value) = message.strip_prefix(SWITCHED) {
        return fleet_of_text(value).map(Heard::Switched);
    }
    if let Some(asked) = message.strip_prefix(ASKED) {
        let (answers, text) = asked.split_once(' ')?;
        return Some(Heard::Asked(Question { answers: answers.to_owned(), text: text.to_owned() }));
    }
    SessionId::from_hex(message).map(Heard::Ended)
}

impl RedisStore {
    /// What asks how the switch of the whole fleet stands.
    pub(super) fn fleet_mode(&self) -> Cmd {
        let mut command = ::redis::cmd("GET");
        command.arg(format!("{}:mode", self.settings.prefix));
        command
    }

    /// Sets the switch of the whole fleet: for those who come later, and for those who are there, at once. Not where it
    /// stands like that already, so that a replica that writes back what it knows does not wake all others.
    pub(super) async fn switch(&self, fleet: Fleet) -> RedisResult<()> {
        let (key, value) = (format!("{}:mode", self.settings.prefix), fleet_value(fleet));
        let mut set = ::redis::cmd("SET");
        set.arg(key).arg(&value).arg("GET");
        let before: Option<String> = self.link.ask(set).await?;
        if before.as_ref() != Some(&value) {
            let mut publish = ::redis::cmd("PUBLISH");
            publish.arg(self.link.channel()).arg(format!("{SWITCHED}{value}"));
            let _: u64 = self.link.ask(publish).await?;
        }
        Ok(())
    }

    /// Asks every replica that is there, this one included. Returns what was answered in time.
    pub(super) async fn ask_all(&self, question: &str) -> RedisResult<Vec<String>> {
        let answers = format!("{}:answers:{:016x}", self.settings.prefix, rand::random::<u64>());
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(self.link.channel()).arg(format!("{ASKED}{answers} {question}"));
        let _: u64 = self.link.ask(publish).await?;
        let everybody = usize::try_from(self.view.lock().others).unwrap_or(usize::MAX).saturating_add(1);
        let started = self.clock.now();
        loop {
            let mut look = ::redis::cmd("LRANGE");
            look.arg(&answers).arg(0).arg(-1);
            let answered: Vec<String> = self.link.ask(look).await?;
            let waited = Duration::from_millis(self.clock.now().since(started));
            if answered.len() >= everybody || waited > ANSWERED_WITHIN {
                return Ok(answered);
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    /// Answers a question of some replica.
    pub(super) async fn answer(&self, question: &Question, answer: &str) -> RedisResult<()> {
        let mut push = ::redis::cmd("RPUSH");
        push.arg(&question.answers).arg(answer);
        let _: u64 = self.link.ask(push).await?;
        let mut expire = ::redis::cmd("EXPIRE");
        expire.arg(&question.answers).arg(ANSWERS_KEPT);
        let _: u64 = self.link.ask(expire).await?;
        Ok(())
    }
}

/// How the switch of the fleet is written down: `off`, or `off 1759431600 enforce`: until then, and then that.
fn fleet_value(fleet: Fleet) -> String {
    match fleet.until {
        Some((until, then)) => format!("{} {until} {then}", fleet.mode),
        None => fleet.mode.to_string(),
    }
}

/// Reads what [`fleet_value`] wrote, or a person by hand.
fn fleet_of_text(text: &str) -> Option<Fleet> {
    let mut words = text.split_whitespace();
    let mode = words.next().and_then(Mode::from_name)?;
    let until = words.next().and_then(|until| until.parse().ok());
    let then = words.next().and_then(Mode::from_name).unwrap_or(Mode::Enforce);
    Some(Fleet { mode, until: until.map(|until| (until, then)) })
}

pub(super) fn fleet_of(answer: &Value) -> Option<Fleet> {
    let text = Option::<String>::from_redis_value_ref(answer).ok().flatten()?;
    let fleet = fleet_of_text(&text);
    if fleet.is_none() {
        tracing::debug!(%text, "the mode of the fleet is none");
    }
    fleet
}
