//! The checks of `idlegate doctor` for a Redis server.

use super::RedisStore;
use super::call::Server;
use super::connect::{Target, connect, elsewhere};
use super::denial::{Denial, denial};
use super::rate::{rate, read_clock};
use crate::clock::epoch_milliseconds;
use crate::finding::Finding;
use crate::session::{Mode, Reason, SessionId, Source};
use crate::store::{Known, Report, Store, Touch};
use redis::{Cmd, RedisResult, ReplicaInfo, Role};
use std::collections::{BTreeMap, HashMap};

/// How many round trips are measured.
const ROUND_TRIPS: usize = 5;

/// A round trip longer than this, in microseconds, delays the report that is sent every second and the lookups between.
const SLOW: u64 = 50_000;

/// What an end takes of the server's memory, as measured with Redis 7.0.
const BYTES_OF_AN_END: u64 = 146;

/// The largest difference between this host's clock and the server's, in milliseconds, at which logs are easy to
/// compare.
const APART: u64 = 2_000;

/// The largest difference between the clocks of a master and its replica, in milliseconds. More makes each failover a
/// step of the store's clock.
const STAND_IN_APART: u64 = 50;

/// Examines a server by a store that uses it.
pub(super) struct Examiner<'s>(pub(super) &'s RedisStore);

impl Examiner<'_> {
    pub(super) fn server(&self) -> &Server {
        &self.0.server
    }

    /// Checks the server: the connection, its clock, its settings, and our permissions.
    pub(super) async fn examine(&self) -> Vec<Finding> {
        let mut findings = match self.round_trip().await {
            Ok(microseconds) if microseconds > SLOW => vec![Finding::wrong(
                format!("Redis answers after {} ms", microseconds / 1000),
                "move it closer, or find out what keeps it busy (SLOWLOG GET)",
            )],
            Ok(microseconds) => vec![Finding::Good(format!("Redis answers after {microseconds} µs"))],
            Err(error) => {
                let server = self.server().connections.target().shown();
                return vec![match denial(&error) {
                    Some(Denial { what, fix }) => {
                        Finding::wrong(format!("Redis at {server} refuses: {what} ({error})"), fix)
                    }
                    None => Finding::wrong(
                        format!("Redis at {server} does not answer ({error})"),
                        "check that it runs and that `store.url` is right",
                    ),
                }];
            }
        };
        // Where the time cannot be read, `clocks` says so.
        let clock = read_clock(self.server()).await;
        findings.extend(self.witnesses().await);
        findings.push(self.clocks().await);
        findings.extend(self.stand_ins().await);
        findings.push(self.steps().await);
        findings.push(self.subscription().await);
        findings.extend(self.settings().await);
        findings.extend(self.memory().await);
        findings.extend(self.earlier_version().await);
        if let Ok(read) = clock {
            findings.extend(rate(self.server(), read).await);
        }
        findings
    }

    /// Whether all Sentinels or nodes lead to the same server.
    async fn witnesses(&self) -> Vec<Finding> {
        let (mut findings, mut named) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for (who, server) in self.server().connections.target().witnesses().await {
            match server {
                Ok(server) => named.entry(server).or_default().push(who),
                Err(error) => {
                    let fix = "start it, or remove it from `store.url`: idlegate may depend on it if another one fails";
                    findings.push(Finding::wrong(format!("{who} leads to no server that may write ({error})"), fix));
                }
            }
        }
        match named.len() {
            0 => {}
            1 => findings.extend(named.into_iter().map(|(server, by)| {
                Finding::Good(format!("the server that may write is {server}, by {}", by.join(", ")))
            })),
            _ => findings.push(Finding::wrong(
                format!("more than one server may write: {named:?}"),
                "check that they can reach each other",
            )),
        }
        findings
    }

    /// The server that would take over, and its clock.
    async fn stand_ins(&self) -> Vec<Finding> {
        if matches!(self.server().connections.target(), Target::Server(_)) {
            return Vec::new();
        }
        let role = self
            .server()
            .connections
            .run(|_| redis::cmd("ROLE"))
            .await
            .and_then(|role| Ok(redis::from_redis_value(role)?));
        let replicas = match role {
            Ok(Role::Primary { replicas, .. }) => replicas,
            Ok(role) => return vec![Finding::wrong(format!("the server is no master but {role:?}"), "promote it")],
            Err(error) => {
                return vec![Finding::Note(format!("the replicas that could take over cannot be listed ({error})"))];
            }
        };
        if replicas.is_empty() {
            let fix = "give it a replica (REPLICAOF)";
            return vec![Finding::wrong("no server would take over if this one died: it has no replica", fix)];
        }
        let mut findings = Vec::new();
        for ReplicaInfo { ip, port, .. } in replicas {
            findings.push(match self.apart(&ip, port).await {
                Ok(apart) if apart <= STAND_IN_APART => {
                    Finding::Good(format!("{ip}:{port} would take over; its clock is {apart} ms from the server's"))
                }
                Ok(apart) => Finding::wrong(
                    format!("the clock of {ip}:{port}, which would take over, is {apart} ms from the server's"),
                    "check NTP on both: each failover is a step of the store's clock",
                ),
                Err(error) => Finding::Note(format!("the clock of {ip}:{port} cannot be read ({error})")),
            });
        }
        findings
    }

    /// The difference between another server's clock and the server's, in milliseconds, without the network delay.
    async fn apart(&self, host: &str, port: u16) -> RedisResult<u64> {
        let server = self.server().connections.target().server().await?;
        let mut connections = [connect(&server).await?, connect(&elsewhere(&server, host, port)?).await?];
        let begun = crate::clock::microseconds();
        let mut times = Vec::new();
        for connection in &mut connections {
            let (seconds, microseconds): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
            times.push(seconds * 1_000_000 + microseconds);
        }
        let target = crate::clock::microseconds().saturating_sub(begun);
        Ok(times[0].abs_diff(times[1]).saturating_sub(target) / 1000)
    }

    /// The median of [`ROUND_TRIPS`], in microseconds.
    async fn round_trip(&self) -> RedisResult<u64> {
        let mut taken = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let begun = crate::clock::microseconds();
            self.server().connections.run(|_| redis::cmd("PING")).await?;
            taken.push(crate::clock::microseconds().saturating_sub(begun));
        }
        taken.sort_unstable();
        Ok(taken.get(ROUND_TRIPS / 2).copied().unwrap_or_default())
    }

    async fn clocks(&self) -> Finding {
        let asked = self
            .server()
            .connections
            .run(|_| redis::cmd("TIME"))
            .await
            .and_then(|time| Ok(redis::from_redis_value(time)?));
        let (seconds, microseconds): (u64, u64) = match asked {
            Ok(time) => time,
            Err(error) => return Finding::wrong(format!("the server's time cannot be read ({error})"), allow("TIME")),
        };
        let apart = epoch_milliseconds().abs_diff(seconds * 1000 + microseconds / 1000);
        if apart <= APART {
            return Finding::Good(format!("this host's clock and the store's are {apart} ms apart"));
        }
        // This matters only for people who read logs: no decision compares the two clocks.
        Finding::Note(format!(
            "this host's clock and the store's are {} s apart: no session is cut wrongly by it, but times in the log \
             will not match those in the store; check NTP on both",
            apart / 1000
        ))
    }

    /// Begins, reports and ends a session, with an id that belongs to no token.
    async fn steps(&self) -> Finding {
        let id = SessionId::of_token(&rand::random::<[u8; 32]>());
        let touch = Touch { id, age: 0, source: Source::Request, created_age: 0, begins: true };
        let report = Report {
            activity: &[touch],
            ends: &[],
            due: &[],
            synced_to: self.server().clock.now(),
            mode: Mode::Enforce,
        };
        let life = async {
            self.0.begin(touch).await?;
            if let Some(error) = self.0.exchange(&report).await.failed {
                return Err(error);
            }
            self.0.end(id, Reason::Logout).await
        };
        let lived = life.await;
        // Otherwise the replicas would wait for the next report of this one.
        let left = self.0.leave().await;
        let key = self.server().key(id);
        let forgotten = self.server().connections.run(|_| delete(&key)).await;
        let forgotten = match forgotten {
            Ok(_) => self.server().connections.run(|_| remove(&self.server().ends_key(), &id.to_string())).await,
            error => error,
        };
        match (lived, left.and(forgotten)) {
            (Ok(Known::Ended(_)), Ok(_)) => Finding::Good("a session can be begun, reported and ended".to_owned()),
            (Ok(Known::Ended(_)), Err(error)) => {
                Finding::Note(format!("the session of this test could not be deleted ({error}); it will expire"))
            }
            (Ok(known), _) => Finding::wrong(format!("a session that was ended is {known:?}"), "please report this"),
            (Err(error), _) => Finding::wrong(
                format!("no session can be kept ({error})"),
                allow(
                    "EVALSHA, EVAL, TIME, GET, SET, EXPIRE, PUBLISH, HGET, HMGET, HSET, HGETALL, HDEL, HSCAN, ZADD, \
                     ZRANGEBYSCORE, ZREMRANGEBYRANK",
                ),
            ),
        }
    }

    async fn subscription(&self) -> Finding {
        match self.server().connections.subscribe().await {
            Ok(_) => Finding::Good("notifications of ends on other replicas are received".to_owned()),
            Err(error) => Finding::wrong(
                format!("cannot subscribe to notifications; ends elsewhere are learnt up to a second later ({error})"),
                format!("{}, on the channel {}", allow("SUBSCRIBE"), self.server().connections.channel()),
            ),
        }
    }

    async fn settings(&self) -> Vec<Finding> {
        let asked = self.server().connections.run(|_| {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg("maxmemory-policy").arg("maxmemory").arg("appendonly").arg("save");
            command
        });
        let settings: HashMap<String, String> = match asked.await.and_then(|value| Ok(redis::from_redis_value(value)?))
        {
            Ok(settings) => settings,
            Err(error) => {
                return vec![Finding::Note(format!(
                    "its settings cannot be read ({error}): see yourself that maxmemory-policy is noeviction and that \
                     it writes to a disk"
                ))];
            }
        };
        let of = |name: &str| settings.get(name).map_or("", String::as_str);
        vec![eviction(of("maxmemory-policy"), of("maxmemory")), persistence(of("appendonly"), of("save"))]
    }
}

impl Examiner<'_> {
    /// How much of its memory the server uses, and for how many ended sessions.
    async fn memory(&self) -> Option<Finding> {
        let info: String = self.server().connections.ask(command("INFO", "memory")).await.ok()?;
        let number = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|number| number.trim().parse::<u64>().ok())
        };
        let ended: u64 = self.server().connections.ask(command("HLEN", &self.server().ends_key())).await.unwrap_or(0);
        Some(memory(number("used_memory")?, number("maxmemory").unwrap_or(0), ended.saturating_sub(1)))
    }

    /// Data that version 0.1.0 left.
    async fn earlier_version(&self) -> Option<Finding> {
        let key = format!("{}:counting", self.server().settings.prefix);
        let is_there: bool = self.server().connections.ask(command("EXISTS", &key)).await.ok()?;
        is_there.then(|| {
            Finding::Note(format!(
                "version 0.1.0 has used this Redis: its sessions and its mode are taken over; no replica of it may run \
                 beside this version; {key} can be deleted then"
            ))
        })
    }
}

fn memory(used: u64, most: u64, ended: u64) -> Finding {
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let ends = format!("{ended} ended sessions are remembered, in about {} MB", megabytes(ended * BYTES_OF_AN_END));
    if most == 0 {
        return Finding::Good(format!("Redis uses {} MB, without a limit; {ends}", megabytes(used)));
    }
    let uses = format!("Redis uses {} of {} MB; {ends}", megabytes(used), megabytes(most));
    if used > most / 5 * 4 {
        let fix = "raise maxmemory, or shorten idle.retention: when the memory is full, it accepts no writes and no \
                   session ends";
        return Finding::wrong(uses, fix);
    }
    Finding::Good(uses)
}

fn eviction(policy: &str, most: &str) -> Finding {
    if policy == "noeviction" || most == "0" {
        return Finding::Good("no session is evicted from its memory".to_owned());
    }
    // The records of sessions expire; the key of all ends and that of the replicas do not.
    let lost = if policy.starts_with("volatile") {
        "the records of sessions are lost, and their idle time starts again"
    } else {
        "sessions are lost and start again, and all ended ones may be accepted again at once, until a replica writes \
         their ends back"
    };
    Finding::wrong(
        format!("maxmemory-policy is {policy}: when memory is short, {lost}"),
        "CONFIG SET maxmemory-policy noeviction, or give idlegate a server of its own",
    )
}

fn persistence(append_only: &str, save: &str) -> Finding {
    if append_only == "yes" || !save.is_empty() {
        return Finding::Good("it writes to a disk".to_owned());
    }
    Finding::wrong(
        "it writes nothing to a disk: after it restarts, only replicas that saw a session end still refuse its token",
        "set appendonly yes",
    )
}

fn command(name: &str, argument: &str) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(argument);
    command
}

fn delete(key: &str) -> Cmd {
    command("DEL", key)
}

fn remove(key: &str, field: &str) -> Cmd {
    let mut command = command("HDEL", key);
    command.arg(field);
    command
}

fn allow(commands: &str) -> String {
    format!("allow idlegate's user {commands}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lose_sessions_is_wrong() {
        assert!(eviction("allkeys-lru", "1000").is_wrong());
        assert!(eviction("volatile-ttl", "1000").is_wrong(), "the records of sessions expire");
        assert!(memory(81_000_000, 100_000_000, 9).is_wrong());
        assert!(!memory(70_000_000, 100_000_000, 9).is_wrong() && !memory(81_000_000, 0, 9).is_wrong());
        assert!(!eviction("allkeys-lru", "0").is_wrong());
        assert!(!eviction("noeviction", "1000").is_wrong());
        assert!(persistence("no", "").is_wrong());
        assert!(!persistence("yes", "").is_wrong() && !persistence("no", "3600 1").is_wrong());
    }
}
