//! The reply to a call of the exchange script.

use super::reading::Reading;
use crate::clock::Moment;
use crate::session::EpochSeconds;
use ::redis::{FromRedisValue, RedisError, RedisResult, Value};

/// The reply to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reading: Reading,
    /// The oldest mark of the live replicas, in epoch milliseconds.
    pub(super) oldest: u64,
    pub(super) counting: EpochSeconds,
    /// The last step of the server's clock, if it was less than one idle timeout ago; else 0.
    pub(super) stepped: EpochSeconds,
    pub(super) generation: u64,
    /// Whether the mark of this call counts: the server has everything that this replica has reported.
    pub(super) known: bool,
    /// The call came too late, and nothing of it is accepted.
    pub(super) late: bool,
    /// Whether every live replica has written back what the server may have lost.
    pub(super) complete: bool,
    /// The number of this replica's last call that the server knows of.
    pub(super) call: u64,
    pub(super) others: u64,
    /// The last end that this reply tells, and whether there are more, or some can no longer be told.
    pub(super) read: u64,
    pub(super) more: bool,
    pub(super) missed: bool,
    /// Replicas that were removed because they were silent.
    pub(super) struck: Vec<String>,
    /// The number of fields that idlegate did not write, and the first of them.
    pub(super) removed: u64,
    pub(super) junk: Vec<Vec<u8>>,
    /// The fleet's mode, as stored.
    pub(super) fleet: Vec<u8>,
    /// Since when every token is known that was used or handed out.
    pub(super) known_since: EpochSeconds,
    /// One for each step.
    pub(super) sessions: Vec<Value>,
    /// Ends on any replica: an id and its session in turn.
    pub(super) news: Vec<Value>,
    /// The replicas that were struck off within the last timeout, and when.
    pub(super) gone: Vec<(EpochSeconds, String)>,
}

impl Answer {
    #[cfg(test)]
    pub(super) fn empty(reading: Reading) -> Self {
        let numbers = vec![Value::Int(0); 13];
        let nil = || Value::Nil;
        let lists = [nil(), Value::Int(0), nil(), nil(), nil(), nil(), Value::Int(0), nil()];
        let reply = Value::Array(numbers.into_iter().chain(lists).collect());
        let answer = Self::of(reply, reading.sent, reading.received, reading.connection).unwrap();
        Self { reading, ..answer }
    }

    pub(super) fn of(reply: Value, sent: Moment, received: Moment, connection: u64) -> RedisResult<Self> {
        let Value::Array(parts) = reply else { return Err(unexpected("the script's reply is no list")) };
        let number = |at: usize| parts.get(at).map_or(Ok(0), u64::from_redis_value_ref);
        let flag = |at| number(at).map(|value| value == 1);
        let list = |at: usize| parts.get(at).unwrap_or(&Value::Nil);
        let reading = Reading { server: number(0)?, sent, received, connection };
        Ok(Self {
            reading,
            oldest: number(1)?,
            counting: number(2)?,
            stepped: number(3)?,
            generation: number(4)?,
            known: flag(5)?,
            late: flag(6)?,
            complete: flag(7)?,
            call: number(8)?,
            others: number(9)?,
            read: number(10)?,
            more: flag(11)?,
            missed: flag(12)?,
            struck: Vec::from_redis_value_ref(list(13))?,
            removed: number(14)?,
            junk: Vec::from_redis_value_ref(list(15))?,
            fleet: Vec::from_redis_value_ref(list(16))?,
            sessions: Vec::from_redis_value_ref(list(17))?,
            news: Vec::from_redis_value_ref(list(18))?,
            known_since: number(19)?,
            gone: Vec::<String>::from_redis_value_ref(list(20))?.iter().filter_map(|text| gone(text)).collect(),
        })
    }
}

/// "1759435201 web-1-0000abcd": when a replica was struck off, and its name.
fn gone(text: &str) -> Option<(EpochSeconds, String)> {
    let (second, name) = text.split_once(' ')?;
    Some((second.parse().ok()?, name.to_owned()))
}

fn unexpected(what: &'static str) -> RedisError {
    (::redis::ErrorKind::UnexpectedReturnType, what).into()
}
