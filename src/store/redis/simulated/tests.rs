//! The simulated Redis and a real server reply alike, and hold the same keys.

use super::super::connection::{EXCHANGE, SWITCH};
use super::{Simulated, words_of};
use crate::store::redis::tests::Server;
use ::redis::{Cmd, Connection, Script, Value};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SCRIPTS: [&str; 2] = [EXCHANGE, SWITCH];

/// The keys of the script of the exchange, before those of the sessions.
const KEYS: [&str; 5] = ["r", "m", "e", "n", "i"];

/// Epoch milliseconds around which ages and marks are made up.
const NOON: u64 = 1_759_431_600_000;

/// A real server, and the simulated one beside it.
struct Pair {
    real: Connection,
    simulated: Simulated,
    _server: Server,
}

impl Pair {
    fn start() -> Self {
        let server = Server::start();
        let real = ::redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        Self { real, simulated: Simulated { now: now_seconds() * 1000, ..Simulated::default() }, _server: server }
    }

    /// Runs a command on both. The simulated clock follows the real one, which `now` reads from the real reply.
    fn run(&mut self, words: &[String], now: impl Fn(&Value) -> Option<u64>) {
        let mut command = Cmd::new();
        command.arg(words);
        let real = command.query::<Value>(&mut self.real).map_err(|error| error.to_string());
        if let Some(now) = real.as_ref().ok().and_then(now) {
            self.simulated.now = now;
        }
        let simulated = self.simulated.run(&words_of(&command));
        match (real, simulated) {
            (Ok(real), Ok(simulated)) => assert_eq!(plain(real), plain(simulated), "{words:?}"),
            // The wording of errors is the server's own; their code is not.
            (Err(real), Err(simulated)) => {
                let code = simulated.split(' ').next().unwrap_or_default();
                let code = if code == "NOSCRIPT" { "NoScript" } else { code };
                assert!(real.contains(code) || code == "ERR", "{words:?}: {real} and {simulated}");
            }
            (real, simulated) => panic!("{words:?}: {real:?} and {simulated:?}"),
        }
    }

    fn script(&mut self, which: usize, keys: &[&str], arguments: &[String]) {
        // The reply has the exact time, unless it is an error.
        let (seconds, microseconds): (u64, u64) = ::redis::cmd("TIME").query(&mut self.real).unwrap();
        self.simulated.now = seconds * 1000 + microseconds / 1000;
        let script = SCRIPTS[which];
        let mut words = vec!["EVAL".to_owned(), script.to_owned(), keys.len().to_string()];
        words.extend(keys.iter().map(|key| (*key).to_owned()));
        words.extend_from_slice(arguments);
        self.run(&words, |reply| match reply {
            Value::Array(parts) => match parts.first() {
                Some(Value::Int(now)) => u64::try_from(*now).ok(),
                _ => None,
            },
            _ => None,
        });
    }

    /// Compares all keys, with the whole seconds that they have left.
    fn hold_the_same(&mut self) {
        let names: Vec<String> = ::redis::cmd("KEYS").arg("*").query(&mut self.real).unwrap();
        let known: Vec<_> = self.simulated.names().into_iter().collect();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>(), known.iter().collect());
        for name in names {
            let kind: String = ::redis::cmd("TYPE").arg(&name).query(&mut self.real).unwrap();
            if kind == "hash" {
                let real: BTreeMap<String, String> = ::redis::cmd("HGETALL").arg(&name).query(&mut self.real).unwrap();
                assert_eq!(real, self.simulated.hash(&name).into_iter().collect(), "{name}");
            }
            let left: i64 = ::redis::cmd("TTL").arg(&name).query(&mut self.real).unwrap();
            let expires = self.simulated.keys[name.as_bytes()].expires;
            let simulated = expires.map_or(-1, |at| i64::try_from((at - self.simulated.now) / 1000).unwrap());
            assert!((left - simulated).abs() <= 2, "{name}: {left} s and {simulated} s");
        }
    }
}

/// A reply, but for the order of what Lua's `pairs` goes through.
fn plain(reply: Value) -> Value {
    match reply {
        Value::Array(values) => {
            let mut values: Vec<_> = values.into_iter().map(plain).collect();
            if values.iter().all(|value| matches!(value, Value::BulkString(_))) {
                values.sort_by_key(|value| format!("{value:?}"));
            }
            Value::Array(values)
        }
        Value::SimpleString(text) if text == "OK" => Value::Okay,
        other => other,
    }
}

/// One call with made-up arguments.
#[derive(Clone, Debug)]
enum Call {
    Plain(Vec<String>),
    Exchange(Header, Vec<(usize, Vec<String>)>),
    Switch(Vec<String>),
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn plain_command() -> impl Strategy<Value = Call> {
    let key = prop::sample::select(vec!["s:0", "s:1", "r", "m", "x", "e", "n", "i"]);
    let field = prop::sample::select(vec!["last_activity", "ended", "counting", "left", "a-00000001", "junk"]);
    let value =
        prop_oneof![Just("junk".to_owned()), (NOON / 1000 - 50..NOON / 1000 + 50).prop_map(|at| at.to_string())];
    (key, field, value, 0..16_u8).prop_map(|(key, field, value, which)| {
        Call::Plain(match which {
            0 => words(&["SET", key, &value]),
            1 => words(&["GET", key]),
            2 => words(&["HSET", key, field, &value]),
            3 => words(&["HDEL", key, field]),
            4 => words(&["HMGET", key, field, "created"]),
            5 => words(&["EXPIRE", key, "5000"]),
            6 => words(&["EXPIRE", key, "0"]),
            7 => words(&["RPUSH", key, &value]),
            8 => words(&["HGET", key, field]),
            9 => words(&["ZADD", key, "7", field]),
            10 => words(&["ZRANGEBYSCORE", key, "(1", "9", "WITHSCORES", "LIMIT", "0", "2"]),
            11 => words(&["ZREMRANGEBYRANK", key, "0", "-2"]),
            12 => words(&["ZSCORE", key, field]),
            13 => words(&["ZCARD", key]),
            14 => words(&["ZREMRANGEBYSCORE", key, "0", "7"]),
            _ => words(&["LRANGE", key, "0", "-1"]),
        })
    })
}

/// The arguments for one session.
fn step() -> impl Strategy<Value = (usize, Vec<String>)> {
    let op = prop::sample::select(vec!["lookup", "issue", "begin", "update", "ask", "end", "ended"]);
    (0..2_usize, op, age(), age(), age()).prop_map(|(session, op, age, created, extra)| {
        let numbers = [age, created.max(age)].map(|number| number.to_string());
        let id = format!("session {session}");
        let arguments = [id, op.to_owned()].into_iter().chain(numbers);
        (session, arguments.chain(words(&["client-pong", "logout", &extra.to_string()])).collect())
    })
}

fn age() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_000_u64, 0..200_000_u64, Just(5_000_000_000_u64)]
}

/// What the header of a call says, but for the time, which is read when the call is made.
fn header() -> impl Strategy<Value = Header> {
    let mode = prop::sample::select(vec!["enforce", "observe", "off", "left"]);
    let kind = prop::sample::select(vec!["report", "part", "aside"]);
    let generation = || prop::sample::select(vec![0_u64, 1, 2]);
    (
        (0..3_u8, mode, kind, 0..9_u64, 0..9_u64),
        (generation(), generation(), prop::option::of(age()), age()),
        (1..60_u64, prop_oneof![Just(-1_i64), 0..100_i64], any::<bool>(), 0..3_u64, -1..5_i64),
    )
        .prop_map(|((replica, mode, kind, call, confirmed), (synced, seen, base, mark), more)| Header {
            replica,
            mode,
            kind,
            calls: [call, confirmed],
            generations: [synced, seen],
            base,
            mark,
            more,
        })
}

#[derive(Clone, Debug)]
struct Header {
    replica: u8,
    mode: &'static str,
    kind: &'static str,
    calls: [u64; 2],
    /// 0: none; 1: that of the server; 2: another one.
    generations: [u64; 2],
    base: Option<u64>,
    mark: u64,
    more: (u64, i64, bool, u64, i64),
}

impl Header {
    /// Its arguments, where the server has this generation.
    fn arguments(&self, generation: u64) -> Vec<String> {
        let now = now_seconds() * 1000;
        let base = self.base.map_or(-1, |age| i64::try_from(now - age.min(now)).unwrap());
        let (timeout, lifetime, was_off, others, cursor) = self.more;
        let [synced, seen] = self.generations.map(|which| generation * u64::from(which > 0) + u64::from(which > 1));
        let mut arguments = words(&[&format!("a-{:08x}", self.replica), self.mode, self.kind]);
        let first = [self.calls[0], self.calls[1], synced, seen].map(|number| number.to_string());
        let second = [self.mark, self.mark + 10, 5_000, 0, 0, 30_000, 60_000, timeout].map(|number| number.to_string());
        arguments.extend(first);
        arguments.push(base.to_string());
        arguments.extend(second);
        arguments.push(lifetime.to_string());
        arguments.extend(words(&["1000", &(timeout + 3600).to_string(), if was_off { "1" } else { "0" }]));
        arguments.extend([(now / 1000 - 100).to_string(), others.to_string(), cursor.to_string()]);
        arguments.extend(words(&["channel", "2", "7", "1"]));
        arguments
    }
}

fn call() -> impl Strategy<Value = Call> {
    let exchange =
        (header(), prop::collection::vec(step(), 0..4)).prop_map(|(header, steps)| Call::Exchange(header, steps));
    let fleet = prop::sample::select(vec!["enforce", "off 1759431600 enforce", "junk"]);
    let lost = prop::sample::select(vec!["", "lost"]);
    let switch = (fleet, lost, prop::sample::select(vec!["0", "1", "9999999999999"]))
        .prop_map(|(fleet, lost, not_after)| Call::Switch(words(&[fleet, "channel", lost, not_after])));
    prop_oneof![3 => plain_command(), 10 => exchange, 1 => switch]
}

#[expect(clippy::disallowed_methods, reason = "the real server has this clock")]
fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_replies_as_a_real_server_and_holds_the_same_keys(calls in prop::collection::vec(call(), 1..60)) {
        let mut pair = Pair::start();
        for call in calls {
            match call {
                Call::Plain(words) => pair.run(&words, |_| None),
                Call::Exchange(header, steps) => {
                    let facts = pair.simulated.hash("r");
                    let generation = facts.get("generation").and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0);
                    let sessions = steps.iter().map(|(session, _)| ["s:0", "s:1"][*session]);
                    let keys: Vec<_> = KEYS.into_iter().chain(sessions).collect();
                    let steps = steps.iter().flat_map(|(_, arguments)| arguments.clone());
                    let arguments: Vec<_> = header.arguments(generation).into_iter().chain(steps).collect();
                    pair.script(0, &keys, &arguments);
                }
                Call::Switch(arguments) => pair.script(1, &["m"], &arguments),
            }
        }
        pair.hold_the_same();
    }
}

#[test]
fn a_script_that_was_never_sent_is_unknown_by_its_hash() {
    let mut pair = Pair::start();
    let hash = Script::new(SCRIPTS[1]).get_hash().to_owned();
    pair.run(&words(&["EVALSHA", &hash, "1", "m", "off", "channel", "", "0"]), |_| None);
    pair.script(1, &["m"], &words(&["off", "channel", "", "0"]));
    pair.run(&words(&["EVALSHA", &hash, "1", "m", "observe", "channel", "", "0"]), |_| None);
    assert_eq!(pair.simulated.take_published(), ["mode off", "mode observe"]);
    pair.hold_the_same();
}

#[test]
fn keys_are_gone_when_their_time_is_over() {
    let mut server = Simulated { now: NOON, ..Simulated::default() };
    for command in [vec!["HSET", "k", "a", "1"], vec!["EXPIRE", "k", "5"]] {
        server.run(&words_of(Cmd::new().arg(command))).unwrap();
    }
    server.now += 4_999;
    assert_eq!(server.hash("k").len(), 1);
    server.now += 1;
    assert!(server.hash("k").is_empty() && server.names().is_empty());
}
