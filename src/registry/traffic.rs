//! What was seen of a session's requests and messages: the last that counted, and those that an `[[ignore]]` rule kept from
//! counting. Never their content.

use crate::audit::Caller;
use crate::clock::Moment;
use crate::counted::counted;
use crate::websocket::Side;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The lengths of the last data frame of the client and of the app that counted, in bytes.
#[derive(Debug, Default)]
pub(super) struct FrameLengths([AtomicU32; 2]);

impl FrameLengths {
    /// The hot path: one atomic operation.
    pub(super) fn set(&self, side: Side, length: u64) {
        self.0[side as usize].store(u32::try_from(length).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(super) fn get(&self, side: Side) -> u32 {
        self.0[side as usize].load(Ordering::Relaxed)
    }
}

/// A request or a message.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// A request, by its path without the query.
    Request {
        /// Its method.
        method: String,
        /// Its path, as audit events show it.
        path: String,
    },
    /// A data frame of a WebSocket.
    Message {
        /// Who sent it.
        from: Side,
        /// Its length in bytes.
        size: u64,
    },
}

impl From<&Caller> for Traffic {
    fn from(caller: &Caller) -> Self {
        Self::Request { method: caller.method().to_owned(), path: caller.route().to_owned() }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { method, path } => write!(f, "{method} {path}"),
            Self::Message { from, size } => {
                let side = if *from == Side::Client { "client" } else { "app" };
                write!(f, "a message of the {side}, {}", counted(size, "byte"))
            }
        }
    }
}

/// What was ignored of one session.
#[derive(Debug)]
pub(super) struct IgnoredTraffic {
    /// When something was ignored last, and the position of its rule in the lower bits.
    last: AtomicU64,
    count: AtomicU64,
    /// The length of the message that was ignored last, and its side in the lowest bit; [`REQUEST`] if it was a request.
    message: AtomicU64,
    request: Mutex<Option<Caller>>,
}

/// The last that was ignored was a request.
const REQUEST: u64 = u64::MAX;

/// How many bits a rule's position has.
const RULE_BITS: u32 = 8;

/// What was ignored last, and how much.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LastIgnoredTraffic {
    pub(super) at: Moment,
    /// The position of the rule.
    pub(super) rule: usize,
    /// How many requests and messages were ignored since the session began here.
    pub(super) count: u64,
    pub(super) what: Traffic,
}

impl IgnoredTraffic {
    pub(super) fn new() -> Self {
        Self {
            last: AtomicU64::new(0),
            count: AtomicU64::new(0),
            message: AtomicU64::new(REQUEST),
            request: Mutex::new(None),
        }
    }

    pub(super) fn request(&self, at: Moment, rule: usize, caller: &Caller) {
        *self.request.lock() = Some(caller.clone());
        self.message.store(REQUEST, Ordering::Relaxed);
        self.note(at, rule, 1);
    }

    pub(super) fn messages(&self, at: Moment, rule: usize, (side, length, count): (Side, u64, u64)) {
        self.message.store(length.min(REQUEST >> 2) << 1 | side as u64, Ordering::Relaxed);
        self.note(at, rule, count);
    }

    fn note(&self, at: Moment, rule: usize, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
        let rule = (rule as u64).min((1 << RULE_BITS) - 1);
        self.last.store(at.0 << RULE_BITS | rule, Ordering::Release);
    }

    pub(super) fn last(&self) -> Option<LastIgnoredTraffic> {
        let last = self.last.load(Ordering::Acquire);
        let what = match self.message.load(Ordering::Relaxed) {
            REQUEST => Traffic::from(self.request.lock().as_ref()?),
            message if message & 1 == Side::Client as u64 => {
                Traffic::Message { from: Side::Client, size: message >> 1 }
            }
            message => Traffic::Message { from: Side::Server, size: message >> 1 },
        };
        let rule = usize::try_from(last & ((1 << RULE_BITS) - 1)).ok()?;
        Some(LastIgnoredTraffic {
            at: Moment(last >> RULE_BITS),
            rule,
            count: self.count.load(Ordering::Relaxed),
            what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use std::net::IpAddr;

    #[test]
    fn the_last_that_was_ignored_is_told_with_its_rule_and_how_many_there_were() {
        let ignored = IgnoredTraffic::new();
        assert_eq!(ignored.last(), None);
        let caller = Caller::new(IpAddr::from([192, 0, 2, 7]), &Method::GET, b"/poll");
        ignored.request(Moment(5), 3, &caller);
        let last = ignored.last().unwrap();
        assert_eq!((last.at, last.rule, last.count, last.what), (Moment(5), 3, 1, Traffic::from(&caller)));
        for (side, rule) in [(Side::Client, 7), (Side::Server, 255)] {
            ignored.messages(Moment(9), rule, (side, 13, 2));
            let last = ignored.last().unwrap();
            assert_eq!((last.at, last.rule, last.what), (Moment(9), rule, Traffic::Message { from: side, size: 13 }));
        }
        assert_eq!(ignored.last().unwrap().count, 5);
    }
}
