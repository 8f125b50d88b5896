//! Finds the server that accepts writes. A single server needs no search; Sentinels, or the nodes of a cluster, are
//! asked again for every connection, so that a promoted server is found.

use super::RedisSettings;
use super::address::Address;
use crate::secret::Secret;
use crate::small_file;
use crate::store::StoreError;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, Role,
    TlsCertificates, Value,
};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

/// How long the server may take to answer, or to accept a connection. The report that is sent every second must fit in.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How many redirects between cluster nodes are followed. A node's view of the cluster is only slightly out of date.
const MAX_REDIRECTS: usize = 3;

/// How long to wait for replies before taking the server that most have named, if not more than half have named it.
const WAITED_FOR: Duration = Duration::from_millis(300);

pub(super) enum Target {
    Server(Client),
    Sentinels(Vec<Sentinel>),
    /// All keys are in one slot, so the node that owns it is the store. It has one clock, and one stream of writes to
    /// its replicas, in which a mark never overtakes the activity it covers. If sessions had slots of their own, a node
    /// could lose sessions while their mark survives on another node.
    Cluster {
        nodes: Vec<Client>,
        key: String,
    },
}

/// A Redis Sentinel. Not the crate's own client, which uses `SENTINEL MASTERS`: there, the leader of a failover names
/// the old master until the last replica follows the new one.
pub(super) struct Sentinel {
    client: Client,
    service: String,
    /// The connection settings of the server, without its address.
    server: Client,
}

impl Target {
    /// The server's address for display, never with a password.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Server(client) => client.get_connection_info().addr().to_string(),
            Self::Sentinels(sentinels) => {
                let names: Vec<_> = sentinels.iter().map(|one| one.service.as_str()).take(1).collect();
                format!("the master {} that the Sentinels name", names.concat())
            }
            Self::Cluster { .. } => "the node of the cluster that has its slot".to_owned(),
        }
    }

    /// Reads the password and certificate files that the settings name.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        // Only the first call has an effect. Any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let password = settings.password_file.as_deref().map(password).transpose()?;
        let with_password = |info: ConnectionInfo| match &password {
            Some(password) => {
                let redis = info.redis_settings().clone().set_password(password.reveal());
                info.set_redis_settings(redis)
            }
            None => info,
        };
        let root_cert = settings.ca_file.as_deref().map(certificates).transpose()?;
        let certificates = root_cert.map(|root_cert| TlsCertificates { client_tls: None, root_cert: Some(root_cert) });
        let server = |info| match &certificates {
            Some(certificates) => Client::build_with_tls(with_password(info), certificates.clone()),
            None => Client::open(with_password(info)),
        };
        match Address::of(settings.url.reveal()).map_err(|error| StoreError::Settings(format!("url: {error}")))? {
            Address::Server(info) => server(info).map(Self::Server).map_err(|error| cannot(&error)),
            Address::Sentinel { sentinels, service, server: like } => {
                let of_sentinels = settings.sentinel_password_file.as_deref().map(self::password).transpose()?;
                let like = server(like).map_err(|error| cannot(&error))?;
                let sentinel = |mut info: ConnectionInfo| {
                    if let Some(password) = &of_sentinels {
                        let redis = info.redis_settings().clone().set_password(password.reveal());
                        info = info.set_redis_settings(redis);
                    }
                    Ok(Sentinel { client: Client::open(info)?, service: service.clone(), server: like.clone() })
                };
                let sentinels = sentinels.into_iter().map(sentinel).collect::<RedisResult<_>>();
                sentinels.map(Self::Sentinels).map_err(|error| cannot(&error))
            }
            Address::Cluster(nodes) => {
                let nodes = nodes.into_iter().map(server).collect::<RedisResult<_>>();
                let nodes = nodes.map_err(|error| cannot(&error))?;
                Ok(Self::Cluster { nodes, key: format!("{}:replicas", settings.prefix) })
            }
        }
    }

    /// The number of the database that the keys are in.
    pub(super) fn database(&self) -> i64 {
        match self {
            Self::Server(server) => server.get_connection_info().redis_settings().db(),
            Self::Sentinels(sentinels) => {
                sentinels.first().map_or(0, |sentinel| sentinel.server.get_connection_info().redis_settings().db())
            }
            // A cluster has only database 0.
            Self::Cluster { .. } => 0,
        }
    }

    /// The server that accepts writes now.
    pub(super) async fn server(&self) -> RedisResult<Client> {
        let finding = async {
            match self {
                Self::Server(client) => Ok(client.clone()),
                Self::Sentinels(sentinels) => most_named(sentinels.iter().map(Sentinel::master)).await,
                Self::Cluster { nodes, key } => most_named(nodes.iter().map(|node| owner(node, key))).await,
            }
        };
        let timed_out = |_| Err(RedisError::from((ErrorKind::Io, "no server that may write was found in time")));
        tokio::time::timeout(RESPONSE_TIMEOUT, finding).await.unwrap_or_else(timed_out)
    }

    /// Asks every Sentinel or node, and returns the server that each one names.
    pub(super) async fn witnesses(&self) -> Vec<(String, RedisResult<String>)> {
        let address =
            |client: RedisResult<Client>| client.map(|client| client.get_connection_info().addr().to_string());
        let mut witnesses = Vec::new();
        match self {
            Self::Server(_) => {}
            Self::Sentinels(sentinels) => {
                for sentinel in sentinels {
                    let name = format!("Sentinel {}", sentinel.client.get_connection_info().addr());
                    witnesses.push((name, address(sentinel.master().await)));
                }
            }
            Self::Cluster { nodes, key } => {
                for node in nodes {
                    let name = format!("node {}", node.get_connection_info().addr());
                    witnesses.push((name, address(owner(node, key).await)));
                }
            }
        }
        witnesses
    }
}

impl Sentinel {
    /// The master that the Sentinel names, confirmed by the server itself: for some seconds there may be none.
    async fn master(&self) -> RedisResult<Client> {
        let mut sentinel = connect(&self.client).await?;
        let mut asked = redis::cmd("SENTINEL");
        asked.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let Some((host, port)) = asked.query_async::<Option<(String, u16)>>(&mut sentinel).await? else {
            return Err((ErrorKind::InvalidClientConfig, "the Sentinel knows no master of this name").into());
        };
        let server = elsewhere(&self.server, &host, port)?;
        match redis::cmd("ROLE").query_async(&mut connect(&server).await?).await? {
            Role::Primary { .. } => Ok(server),
            _ => Err((ErrorKind::Client, "the server that the Sentinel names is no master now").into()),
        }
    }
}

/// The server that most of the asked lead to: one that is cut off from the others may have missed a promotion. More
/// than half of them are enough, and the wait for the rest is short.
async fn most_named(asked: impl Iterator<Item = impl Future<Output = RedisResult<Client>>>) -> RedisResult<Client> {
    let mut asked: FuturesUnordered<_> = asked.collect();
    let all = asked.len();
    let (mut named, mut failed) = (Vec::<(usize, Client)>::new(), None);
    let mut waited = pin!(tokio::time::sleep(WAITED_FOR));
    loop {
        let answer = tokio::select! {
            answer = asked.next() => answer,
            () = &mut waited, if !named.is_empty() => None,
        };
        let client = match answer {
            Some(Ok(client)) => client,
            Some(Err(error)) => {
                failed = Some(error);
                continue;
            }
            None => break,
        };
        let address = |client: &Client| client.get_connection_info().addr().clone();
        match named.iter_mut().find(|(_, other)| address(other) == address(&client)) {
            Some((times, _)) => *times += 1,
            None => named.push((1, client)),
        }
        if named.iter().any(|(times, _)| 2 * times > all) {
            break;
        }
    }
    let most = named.into_iter().max_by_key(|(times, _)| *times);
    let nothing = || failed.unwrap_or_else(|| RedisError::from((ErrorKind::Client, "there is no server to ask")));
    most.map(|(_, client)| client).ok_or_else(nothing)
}

/// The node that owns the slot of `key`, according to `node`.
async fn owner(node: &Client, key: &str) -> RedisResult<Client> {
    let (mut node, mut sent_on) = (node.clone(), 0);
    loop {
        let mut connection = connect(&node).await?;
        let asked: RedisResult<Value> = redis::cmd("HMGET").arg(key).arg("counting").query_async(&mut connection).await;
        let Err(error) = asked else { return Ok(node) };
        // The node owns the slot, and the key holds another type.
        if error.code() == Some("WRONGTYPE") {
            return Ok(node);
        }
        match error.redirect_node().and_then(|(address, _)| address.rsplit_once(':')) {
            Some((host, port)) if sent_on < MAX_REDIRECTS => {
                let port = port.parse().map_err(|_| RedisError::from((ErrorKind::Parse, "a node has no port")))?;
                node = elsewhere(&node, host, port)?;
                sent_on += 1;
            }
            _ => return Err(error),
        }
    }
}

/// A client with the same connection settings for another address. A node that does not know its name sends an empty
/// `host`, which means its own host.
pub(super) fn elsewhere(server: &Client, host: &str, port: u16) -> RedisResult<Client> {
    let info = server.get_connection_info();
    let host = |own: &str| if host.is_empty() { own.to_owned() } else { host.to_owned() };
    let address = match info.addr() {
        ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host(own), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host(own), port),
        other => other.clone(),
    };
    Client::open(info.clone().set_addr(address))
}

pub(super) async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(RESPONSE_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    client.get_multiplexed_async_connection_with_config(&config).await
}

fn password(path: &Path) -> Result<Secret, StoreError> {
    Secret::in_file(path).map_err(|error| unreadable(path, &error))
}

fn certificates(path: &Path) -> Result<Vec<u8>, StoreError> {
    small_file::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Settings(format!("{} cannot be read: {error}", path.display()))
}

fn cannot(error: &RedisError) -> StoreError {
    StoreError::Settings(error.to_string())
}
