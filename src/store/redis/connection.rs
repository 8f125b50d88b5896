//! The connections to the server: one for commands, one for notifications. The server may forget scripts at any time;
//! the command is then built again with the script's text.

use super::RedisSettings;
use super::connect::{RESPONSE_TIMEOUT, Target, connect};
use super::message::notification;
use crate::metrics::StoreMetrics;
use crate::store::{Notification, StoreError};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{Cmd, ConnectionAddr, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind, Value};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior};

/// How long to wait before subscribing again.
const PAUSE: Duration = Duration::from_millis(500);

/// How often to check that the server is still there, and still accepts writes: a dead host closes no connection, and a
/// master that was cut off from its Sentinels continues as before.
const CHECKED_EVERY: Duration = Duration::from_secs(2);

/// The script of the exchange.
pub(crate) const EXCHANGE: &str = concat!(
    include_str!("clock.lua"),
    include_str!("marks.lua"),
    include_str!("../../session/rule.lua"),
    include_str!("session.lua"),
    include_str!("exchange.lua"),
);

/// The script that sets the fleet's mode.
pub(super) const SWITCH: &str = include_str!("switch.lua");

/// How a script is named in a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// By its hash, which the server may have forgotten.
    Hash,
    /// By its full text, which the server then keeps.
    Text,
}

/// A script that runs in the server.
pub(super) struct Lua {
    text: &'static str,
    hash: String,
}

impl Lua {
    fn new(text: &'static str) -> Self {
        Self { text, hash: Script::new(text).get_hash().to_owned() }
    }

    /// The beginning of a command that runs the script. The caller appends `keys` keys and the arguments.
    pub(super) fn command(&self, naming: Naming, keys: usize) -> Cmd {
        let mut command = match naming {
            Naming::Hash => redis::cmd("EVALSHA"),
            Naming::Text => redis::cmd("EVAL"),
        };
        command.arg(if naming == Naming::Hash { &self.hash } else { self.text }).arg(keys);
        command
    }
}

/// A simulated server in place of the connections.
#[cfg(test)]
pub(crate) trait Link: fmt::Debug + Send + Sync {
    /// Sends commands in one message, and returns the reply to each.
    fn send(&self, commands: Vec<Cmd>) -> BoxFuture<'_, RedisResult<Vec<RedisResult<Value>>>>;

    /// The next published message; `None` where some may have been missed.
    fn next_message(&self) -> BoxFuture<'_, Option<String>>;
}

pub(super) struct Connections {
    #[cfg(test)]
    pub(super) link: Option<Arc<dyn Link>>,
    target: Arc<Target>,
    commands: parking_lot::Mutex<Commands>,
    subscription: Mutex<Option<Subscription>>,
    pub(super) exchange: Lua,
    pub(super) switch: Lua,
    channel: String,
    pub(super) metrics: StoreMetrics,
}

/// The connection for commands, made at first use. It has a number and is never repaired silently: the server behind
/// the next one may have lost what was sent on this one.
#[derive(Clone)]
struct Commands {
    number: u64,
    made: Shared<BoxFuture<'static, RedisResult<(MultiplexedConnection, ConnectionAddr)>>>,
}

pub(super) struct Subscription {
    subscribed: PubSub,
    server: ConnectionAddr,
    check: Interval,
}

impl Commands {
    fn new(target: &Arc<Target>, number: u64) -> Self {
        let target = Arc::clone(target);
        let making = async move {
            let server = target.server().await?;
            Ok((connect(&server).await?, server.get_connection_info().addr().clone()))
        };
        Self { number, made: making.boxed().shared() }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The target contains the password.
        f.debug_struct("Connections").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let target = Arc::new(Target::new(settings)?);
        // Keys belong to a database, but channels to the whole server. So the channel name contains the database: a
        // fleet must not receive the messages of another one.
        let channel = match target.database() {
            0 => format!("{}:ended", settings.prefix),
            database => format!("{}:ended:{database}", settings.prefix),
        };
        Ok(Self {
            #[cfg(test)]
            link: None,
            commands: parking_lot::Mutex::new(Commands::new(&target, 1)),
            target,
            subscription: Mutex::default(),
            exchange: Lua::new(EXCHANGE),
            switch: Lua::new(SWITCH),
            channel,
            metrics: StoreMetrics::default(),
        })
    }

    /// The number of the connection that the next command uses.
    pub(super) fn number(&self) -> u64 {
        self.commands.lock().number
    }

    /// Drops the connection, and finds the server again: the old one may no longer accept writes. Commands do not pile
    /// up on a connection to a server that hangs, and a refused password is tried again.
    pub(super) fn renew(&self) {
        self.renew_after(self.number());
    }

    fn renew_after(&self, number: u64) {
        let mut commands = self.commands.lock();
        if commands.number == number {
            *commands = Commands::new(&self.target, number + 1);
        }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Runs something on the connection, and drops the connection if it proves dead.
    async fn on_connection<T>(&self, act: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>) -> RedisResult<T> {
        let Commands { number, made } = self.commands.lock().clone();
        let acting = async {
            let (connection, _) = made.await?;
            act(connection).await
        };
        let done = self.measured(acting).await;
        if done.as_ref().is_err_and(RedisError::is_unrecoverable_error) {
            self.renew_after(number);
        }
        done
    }

    /// Runs the command that `command` builds.
    pub(super) async fn run(&self, command: impl Fn(Naming) -> Cmd) -> RedisResult<Value> {
        match self.query(command(Naming::Hash)).await {
            Err(error) if is_forgotten(&error) => self.query(command(Naming::Text)).await,
            answer => answer,
        }
    }

    /// Runs one command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: Cmd) -> RedisResult<T> {
        let timed_out = |_| Err(RedisError::from((ErrorKind::Io, "no answer in time")));
        tokio::time::timeout(RESPONSE_TIMEOUT, self.query(command)).await.unwrap_or_else(timed_out)
    }

    async fn query<T: FromRedisValue>(&self, command: Cmd) -> RedisResult<T> {
        #[cfg(test)]
        if let Some(link) = &self.link {
            let number = self.number();
            let sent = link.send(vec![command]).await;
            if sent.as_ref().is_err_and(RedisError::is_unrecoverable_error) {
                self.renew_after(number);
            }
            return T::from_redis_value(sent?.remove(0)?).map_err(RedisError::from);
        }
        self.on_connection(async move |mut connection| command.query_async(&mut connection).await).await
    }

    /// Runs all of `commands` in one transaction and one round trip, in order, with nothing in between.
    ///
    /// # Errors
    /// One of them failed. The others have still run; but a server without memory for writes, or one that is not a
    /// master, refuses all of them.
    pub(super) async fn transact(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        #[cfg(test)]
        if let Some(link) = &self.link {
            return link.send(commands.to_vec()).await?.into_iter().collect();
        }
        let mut transaction = redis::pipe();
        // Not `atomic()`: redis 1.8 miscounts where MULTI itself is refused, as it is for want of a password.
        transaction.cmd("MULTI");
        for command in commands {
            transaction.add_command(command.clone());
        }
        transaction.cmd("EXEC");
        let mut answers: Vec<Value> =
            self.on_connection(async |mut connection| transaction.query_async(&mut connection).await).await?;
        match answers.pop() {
            Some(Value::Array(answers)) => Ok(answers),
            _ => Err((ErrorKind::UnexpectedReturnType, "no transaction was executed").into()),
        }
    }

    /// One round trip.
    async fn measured<T>(&self, query: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let mut trip = self.metrics.round_trip();
        let answer = query.await;
        if answer.as_ref().err().is_none_or(is_forgotten) {
            trip.answered();
        }
        answer
    }

    /// The next notification of some replica; a hint where messages may have been missed.
    pub(super) async fn next_notification(&self) -> Notification {
        #[cfg(test)]
        if let Some(link) = &self.link {
            loop {
                match link.next_message().await {
                    None => return Notification::Hint,
                    Some(message) => {
                        if let Some(received) = notification(&message) {
                            return received;
                        }
                    }
                }
            }
        }
        let mut subscription = self.subscription.lock().await;
        loop {
            let Some(Subscription { subscribed, server, check }) = subscription.as_mut() else {
                match self.subscribe().await {
                    Ok(subscribed) => {
                        *subscription = Some(subscribed);
                        return Notification::Hint;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot subscribe to notifications; ends are found by the next report");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                }
            };
            let message = {
                let mut messages = subscribed.on_message();
                tokio::select! {
                    message = messages.next() => Some(message),
                    _ = check.tick() => None,
                }
            };
            let message = match message {
                Some(message) => message,
                None if self.is_still(server).await && is_there(subscribed).await => continue,
                None => None,
            };
            let Some(message) = message else {
                *subscription = None;
                continue;
            };
            if let Some(received) = message.get_payload::<String>().ok().and_then(|text| notification(&text)) {
                return received;
            }
        }
    }

    pub(super) async fn subscribe(&self) -> RedisResult<Subscription> {
        let client = self.target.server().await?;
        let subscribing = async {
            let mut subscribed = client.get_async_pubsub().await?;
            subscribed.subscribe(&self.channel).await?;
            let mut check = tokio::time::interval(CHECKED_EVERY);
            check.set_missed_tick_behavior(MissedTickBehavior::Delay);
            check.reset();
            Ok(Subscription { subscribed, server: client.get_connection_info().addr().clone(), check })
        };
        let timed_out = |_| Err(RedisError::from((ErrorKind::Io, "no answer in time")));
        tokio::time::timeout(RESPONSE_TIMEOUT, subscribing).await.unwrap_or_else(timed_out)
    }

    /// Whether `server` is still the one that accepts writes, according to those that can be asked. If not, the
    /// connection for commands is dropped as well, unless it already leads to the right server.
    async fn is_still(&self, server: &ConnectionAddr) -> bool {
        if matches!(*self.target, Target::Server(_)) {
            return true;
        }
        let Ok(client) = self.target.server().await else { return true };
        let now = client.get_connection_info().addr();
        let Commands { number, made } = self.commands.lock().clone();
        if made.peek().is_some_and(|made| made.as_ref().is_ok_and(|(_, server)| server != now)) {
            self.renew_after(number);
        }
        server == now
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }
}

async fn is_there(subscribed: &mut PubSub) -> bool {
    let asked = tokio::time::timeout(RESPONSE_TIMEOUT, subscribed.ping::<Value>()).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

fn is_forgotten(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Whether a connection was lost. A server that refuses connections or does not answer in time is another matter; errors of
/// ours, such as a server not found in time, have no source.
pub(super) fn is_dropped(error: &RedisError) -> bool {
    error.is_connection_dropped() && !error.is_connection_refusal() && std::error::Error::source(error).is_some()
}

pub(super) fn is_short_of_memory(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "OOM"))
}
