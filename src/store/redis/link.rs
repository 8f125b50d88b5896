//! The connections to the server: one for commands, one that hears of ends. Scripts may be forgotten by the server at
//! any time; what was to be run is made anew then, and sent with the script's text.

use super::RedisSettings;
use super::fleet::heard;
use crate::metrics::StoreMetrics;
use crate::store::{Heard, StoreError};
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisError, RedisResult, Script, ServerErrorKind,
    TlsCertificates, Value,
};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long the server may take to answer, or to accept a connection. A flush a second has to fit in.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long hearing pauses before it tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// How a script is named in a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Naming {
    /// By its hash, which the server may have forgotten.
    Hash,
    /// By all of its text, which the server keeps from then on.
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

    /// The beginning of a command that runs it: so many keys and the arguments are to follow.
    pub(super) fn command(&self, naming: Naming, keys: usize) -> Cmd {
        let mut command = match naming {
            Naming::Hash => redis::cmd("EVALSHA"),
            Naming::Text => redis::cmd("EVAL"),
        };
        command.arg(if naming == Naming::Hash { &self.hash } else { self.text }).arg(keys);
        command
    }
}

pub(super) struct Link {
    client: Client,
    commands: parking_lot::Mutex<ConnectionManager>,
    hearing: Mutex<Option<PubSub>>,
    pub(super) session: Lua,
    pub(super) replicas: Lua,
    channel: String,
    pub(super) metrics: StoreMetrics,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the password.
        f.debug_struct("Link").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let client = client(settings)?;
        let commands = lazy(&client).map_err(|error| cannot(&error))?;
        Ok(Self {
            client,
            commands: parking_lot::Mutex::new(commands),
            hearing: Mutex::default(),
            session: Lua::new(include_str!("session.lua")),
            replicas: Lua::new(include_str!("replicas.lua")),
            channel: format!("{}:ended", settings.prefix),
            metrics: StoreMetrics::default(),
        })
    }

    fn connection(&self) -> ConnectionManager {
        self.commands.lock().clone()
    }

    /// Gives the connection up. What it still carries to a server that hangs does not pile up there, and a password
    /// that was refused is tried again.
    pub(super) fn renew(&self) {
        match lazy(&self.client) {
            Ok(fresh) => *self.commands.lock() = fresh,
            Err(error) => tracing::debug!(%error, "the connection to the store stays as it is"),
        }
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// Runs what `command` makes.
    pub(super) async fn run(&self, command: impl Fn(Naming) -> Cmd) -> RedisResult<Value> {
        let mut connection = self.connection();
        match self.measured(command(Naming::Hash).query_async(&mut connection)).await {
            Err(error) if is_forgotten(&error) => {
                self.measured(command(Naming::Text).query_async(&mut connection)).await
            }
            answer => answer,
        }
    }

    /// Runs one command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: Cmd) -> RedisResult<T> {
        let asked = async move { self.measured(command.query_async(&mut self.connection())).await };
        let timed_out = |_| Err(RedisError::from((ErrorKind::Io, "no answer in time")));
        tokio::time::timeout(RESPONSE_TIMEOUT, asked).await.unwrap_or_else(timed_out)
    }

    /// Runs all of `commands` in one transaction and one round trip, in their order and with nothing in between.
    ///
    /// # Errors
    /// Where one of them failed. The others have been run all the same; but a server that has no memory for a write, or
    /// is no master, refuses all of them alike.
    pub(super) async fn transact(&self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let mut transaction = redis::pipe();
        // Not `atomic()`: redis 1.8 miscounts where MULTI itself is refused, as it is for want of a password.
        transaction.cmd("MULTI");
        for command in commands {
            transaction.add_command(command.clone());
        }
        transaction.cmd("EXEC");
        let mut connection = self.connection();
        let mut answers: Vec<Value> = self.measured(transaction.query_async(&mut connection)).await?;
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

    /// The next end that some replica has decided; or that messages may have been missed.
    pub(super) async fn heard(&self) -> Heard {
        let mut hearing = self.hearing.lock().await;
        loop {
            let Some(subscribed) = hearing.as_mut() else {
                match self.subscribe().await {
                    Ok(subscribed) => {
                        *hearing = Some(subscribed);
                        return Heard::Gap;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "ends on other replicas cannot be heard");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                }
            };
            let Some(message) = subscribed.on_message().next().await else {
                *hearing = None;
                continue;
            };
            if let Some(heard) = message.get_payload::<String>().ok().and_then(|text| heard(&text)) {
                return heard;
            }
        }
    }

    pub(super) async fn subscribe(&self) -> RedisResult<PubSub> {
        let subscribing = async {
            let mut subscribed = self.client.get_async_pubsub().await?;
            subscribed.subscribe(&self.channel).await?;
            Ok(subscribed)
        };
        let timed_out = |_| Err(RedisError::from((ErrorKind::Io, "no answer in time")));
        tokio::time::timeout(RESPONSE_TIMEOUT, subscribing).await.unwrap_or_else(timed_out)
    }
}

/// The client of the server that the settings name, by the password and certificates they name.
fn client(settings: &RedisSettings) -> Result<Client, StoreError> {
    // Only the first call has an effect; with any provider it is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut info = settings.url.reveal().into_connection_info().map_err(|error| cannot(&error))?;
    if let Some(path) = &settings.password_file {
        let password = read(path)?;
        let redis = info.redis_settings().clone().set_password(String::from_utf8_lossy(&password).trim_end());
        info = info.set_redis_settings(redis);
    }
    let Some(path) = &settings.ca_file else { return Client::open(info).map_err(|error| cannot(&error)) };
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(read(path)?) };
    Client::build_with_tls(info, certificates).map_err(|error| cannot(&error))
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|error| StoreError::Settings(format!("{} cannot be read: {error}", path.display())))
}

fn cannot(error: &RedisError) -> StoreError {
    StoreError::Settings(error.to_string())
}

/// A connection that is made when it is first used.
fn lazy(client: &Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

fn is_forgotten(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
