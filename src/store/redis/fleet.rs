//! Messages between replicas through the server: the fleet's mode, and questions from one replica to all.

use super::call::Server;
use super::message::{ASKED, NUMBER_DIGITS, fleet_of_text, fleet_value};
use crate::store::{Answers, Fleet, Question};
use ::redis::{ErrorKind, RedisResult, Value};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many milliseconds after it was sent a change of mode is still carried out. Its sender gives up a little later
/// ([`RESPONSE_TIMEOUT`](super::connect::RESPONSE_TIMEOUT)). Only a lower bound of the server's time is known.
const CARRIED_OUT_WITHIN: u64 = 900;

/// The server's reply to a change of mode that arrives too late.
const LATE: i64 = -1;

/// How long the replicas may take to answer a question.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How often to check for their answers.
const LOOKED_EVERY: Duration = Duration::from_millis(20);

/// How long the answers are kept for the replica that asked, in seconds.
const ANSWERS_KEPT: u64 = 10;

impl Server {
    /// The key of the fleet's mode.
    pub(super) fn fleet_key(&self) -> String {
        format!("{}:mode", self.settings.prefix)
    }

    /// Sets the fleet's mode, for the replicas that run and those that start later. With `lost`, it is only written
    /// back, and a mode set meanwhile stays.
    pub(super) async fn switch(&self, fleet: Fleet, lost: bool) -> RedisResult<()> {
        let set = |naming| {
            let view = *self.view.lock();
            let not_after = view.server_now(self.clock.now()).map_or(0, |now| now + CARRIED_OUT_WITHIN);
            let mut command = self.connections.switch.command(naming, 1);
            command.arg(self.fleet_key()).arg(fleet_value(fleet)).arg(self.connections.channel());
            command.arg(if lost { "lost" } else { "" }).arg(not_after);
            command
        };
        match self.connections.run(set).await? {
            Value::Int(LATE) => Err((ErrorKind::Io, "it arrived too late and was not carried out").into()),
            _ => Ok(()),
        }
    }

    /// Parses the fleet's mode. An invalid value counts as none, and is logged once.
    pub(super) fn fleet_of(&self, text: &[u8]) -> Option<Fleet> {
        let text = String::from_utf8_lossy(text);
        let fleet = fleet_of_text(&text);
        let is_junk = fleet.is_none() && !text.is_empty();
        if is_junk && !self.fleet_is_junk.swap(is_junk, Ordering::Relaxed) {
            let key = self.fleet_key();
            tracing::warn!(%key, found = ?text, "the fleet's mode in the store is not valid; the last valid one \
            stays in force");
        } else if !is_junk {
            self.fleet_is_junk.store(false, Ordering::Relaxed);
        }
        fleet
    }

    /// The key of the answers to a question.
    fn answers_key(&self, number: u64) -> String {
        format!("{}:answers:{number:0NUMBER_DIGITS$x}", self.settings.prefix)
    }

    /// Asks every running replica, this one included, and returns the answers that came in time. If the server does not
    /// answer, no other replica has.
    pub(super) async fn ask_all(&self, question: &str) -> Answers {
        let others = self.view.lock().others;
        match self.ask_replicas(question, others.saturating_add(1)).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::debug!(%error, "the other replicas could not be asked");
                Answers { texts: Vec::new(), silent: others }
            }
        }
    }

    async fn ask_replicas(&self, question: &str, replicas: u64) -> RedisResult<Answers> {
        let number = rand::random::<u64>();
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(self.connections.channel()).arg(format!("{ASKED}{number:0NUMBER_DIGITS$x} {question}"));
        let _: u64 = self.connections.ask(publish).await?;
        let started = self.clock.now();
        loop {
            let mut look = ::redis::cmd("LRANGE");
            look.arg(self.answers_key(number)).arg(0).arg(-1);
            let answered: Vec<Vec<u8>> = self.connections.ask(look).await?;
            let waited = Duration::from_millis(self.clock.now().since(started));
            let silent = replicas.saturating_sub(answered.len() as u64);
            if silent == 0 || waited > ANSWERED_WITHIN {
                let texts = answered.iter().map(|answer| String::from_utf8_lossy(answer).into_owned()).collect();
                return Ok(Answers { texts, silent });
            }
            tokio::time::sleep(LOOKED_EVERY).await;
        }
    }

    /// Answers a question of some replica.
    pub(super) async fn answer(&self, question: &Question, answer: &str) -> RedisResult<()> {
        let answers = self.answers_key(question.number);
        let (mut push, mut expire) = (::redis::cmd("RPUSH"), ::redis::cmd("EXPIRE"));
        push.arg(&answers).arg(answer);
        expire.arg(&answers).arg(ANSWERS_KEPT);
        // Sent together: without EXPIRE the key would stay for ever.
        self.connections.transact(&[push, expire]).await.map(drop)
    }
}
