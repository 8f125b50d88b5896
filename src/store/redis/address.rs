//! The server's address, from `[store] url`. No error repeats any part of it: URLs contain passwords.

use redis::{ConnectionInfo, IntoConnectionInfo, RedisResult};
use std::fmt;

/// The default port of Sentinels.
const SENTINEL_PORT: u16 = 26379;

/// How to find the server that accepts writes.
pub(super) enum Address {
    /// A single server.
    Server(ConnectionInfo),
    /// The Sentinels know it by the name of the service. `server` has its connection settings without the address.
    Sentinel { sentinels: Vec<ConnectionInfo>, service: String, server: ConnectionInfo },
    /// The cluster node that owns the slot of our keys. Every node knows the owner.
    Cluster(Vec<ConnectionInfo>),
}

/// Why a URL is not a valid server address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// It cannot be parsed as a Redis URL.
    NotRedis,
    /// Sentinels, but no service name.
    NoService,
    /// A cluster, but a database other than 0.
    ClusterDatabase,
}

impl AddressError {
    /// What to write instead.
    #[must_use]
    pub fn fix(self) -> &'static str {
        match self {
            Self::NotRedis => {
                "write \"redis://user:password@host:6379/0\", special characters in the password as %40; rediss:// for TLS"
            }
            Self::NoService => "write \"redis+sentinel://host:26379,host:26379/service-name/0\"",
            Self::ClusterDatabase => "write \"redis+cluster://host:6379,host:6379\"",
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRedis => "it is no address of a Redis server",
            Self::NoService => "it does not say by which name the Sentinels know the server",
            Self::ClusterDatabase => "a cluster has no numbered databases",
        })
    }
}

impl std::error::Error for AddressError {}

impl Address {
    pub(super) fn of(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").ok_or(AddressError::NotRedis)?;
        let (scheme, form) = match scheme {
            "redis+sentinel" | "rediss+sentinel" | "redis+cluster" | "rediss+cluster" => {
                scheme.split_once('+').ok_or(AddressError::NotRedis)?
            }
            _ => return url.into_connection_info().map(Self::Server).map_err(|_| AddressError::NotRedis),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let at = |host: &str, database: &str| match login {
            "" => format!("{scheme}://{host}/{database}").into_connection_info(),
            login => format!("{scheme}://{login}@{host}/{database}").into_connection_info(),
        };
        let all = |read: RedisResult<Vec<_>>| read.map_err(|_| AddressError::NotRedis);
        let hosts = hosts.split(',');
        if form == "cluster" {
            if !["", "0"].contains(&path) {
                return Err(AddressError::ClusterDatabase);
            }
            return all(hosts.map(|host| at(host, "")).collect()).map(Self::Cluster);
        }
        let (service, database) = path.split_once('/').unwrap_or((path, ""));
        if service.is_empty() {
            return Err(AddressError::NoService);
        }
        let server = at("server", database).map_err(|_| AddressError::NotRedis)?;
        let sentinels = all(hosts.map(|host| with_port(host).into_connection_info()).collect())?;
        Ok(Self::Sentinel { sentinels, service: service.to_owned(), server })
    }
}

fn with_port(host: &str) -> String {
    // The last colon of an IPv6 address without a port lies within its brackets.
    let has_one = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_one { format!("redis://{host}") } else { format!("redis://{host}:{SENTINEL_PORT}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::ConnectionAddr;

    #[test]
    fn a_url_can_name_several_sentinels_with_their_own_default_port() {
        let url = "rediss+sentinel://ada:p%40ss@one:7000,two,[::1]/main/3";
        let Ok(Address::Sentinel { sentinels, service, server }) = Address::of(url) else { panic!("not read") };
        let addresses: Vec<_> = sentinels.iter().map(|sentinel| sentinel.addr().to_string()).collect();
        assert_eq!(addresses, ["one:7000", "two:26379", "::1:26379"]);
        assert_eq!(service, "main");
        let settings = server.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("ada"), Some("p@ss"), 3));
        assert!(matches!(server.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
    }

    #[test]
    fn a_url_can_name_several_nodes_of_a_cluster() {
        let Ok(Address::Cluster(nodes)) = Address::of("redis+cluster://:secret@one,two:7001") else {
            panic!("not read")
        };
        let nodes: Vec<_> =
            nodes.iter().map(|node| (node.addr().to_string(), node.redis_settings().password())).collect();
        assert_eq!(nodes, [("one:6379".to_owned(), Some("secret")), ("two:7001".to_owned(), Some("secret"))]);
    }

    #[test]
    fn invalid_urls_are_refused_with_the_cause() {
        let error = |url| Address::of(url).err();
        for url in ["redis+sentinel://one,two", "redis+sentinel://one/", "redis+sentinel://one//0"] {
            assert_eq!(error(url), Some(AddressError::NoService), "{url}");
        }
        assert_eq!(error("redis+cluster://one/1"), Some(AddressError::ClusterDatabase));
        for url in
            ["redis", "http://one", "redis+cluster://", "redis+cluster://one,,two", "redis+sentinel://one/main/x"]
        {
            assert_eq!(error(url), Some(AddressError::NotRedis), "{url}");
        }
    }
}
