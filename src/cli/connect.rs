//! Where the `[admin]` listener is, and the token for it.

use super::error::CliError;
use crate::address::{AdminListen, Listen, Upstream};
use crate::admin::read_token;
use crate::config::{ForOperators, upstream};
use crate::secret::Secret;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Which idlegate is asked, and how the answer is printed.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The configuration of the idlegate that is asked [default: proxy.toml, or what `IDLEGATE_CONFIG` names].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where it listens for operators, instead of the configuration's `admin.listen`: `http://127.0.0.1:9090` or
    /// `unix:/run/idlegate/admin.sock`.
    #[arg(long, value_name = "URL")]
    pub(super) admin: Option<String>,
    /// Holds the token for it, instead of the configuration's `admin.token_file`.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Print the answer as it came, in JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// A listener, and the token for it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: Upstream,
    pub(super) token: Option<Secret>,
}

/// Finds the listener that is meant.
pub(super) fn find(at: &At, config: &ForOperators) -> Result<Endpoint, CliError> {
    let admin = config.admin();
    let named = at.admin.as_deref().map(|text| upstream(text).map_err(|_| CliError::NoAddress)).transpose()?;
    let (address, configured) = match (named, admin) {
        // A named listener needs no configuration, nor a valid one.
        (Some(address), admin) => (address, admin.ok().flatten().and_then(|admin| admin.token_file.as_deref())),
        (None, Ok(Some(admin))) => (reached(&admin.listen)?, admin.token_file.as_deref()),
        (None, Ok(None)) => return Err(CliError::NoListener),
        (None, Err(problems)) => return Err(CliError::Config(problems)),
    };
    let token = at.token_file.as_deref().or(configured).map(token).transpose()?;
    Ok(Endpoint { address, token })
}

/// The listener that this section of the configuration names.
pub(super) fn endpoint(admin: &AdminListen) -> Result<Endpoint, CliError> {
    let token = admin.token_file.as_deref().map(token).transpose()?;
    Ok(Endpoint { address: reached(&admin.listen)?, token })
}

fn token(file: &Path) -> Result<Secret, CliError> {
    read_token(file).map_err(CliError::NoToken)
}

/// Where to connect to reach who listens there.
fn reached(listen: &Listen) -> Result<Upstream, CliError> {
    match listen {
        Listen::Unix(path) => Ok(Upstream::Unix(path.clone())),
        Listen::Tcp(address) if address.port() == 0 => Err(CliError::AnyPort),
        Listen::Tcp(address) => {
            // Who listens on every network is on loopback too.
            let ip = match address.ip() {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            Ok(Upstream::Tcp(SocketAddr::new(ip, address.port()).to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_every_network_is_asked_on_loopback() {
        for (listen, reached_at) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
        ] {
            let address = reached(&Listen::Tcp(listen.parse().unwrap())).unwrap();
            assert_eq!(address, Upstream::Tcp(reached_at.to_owned()), "{listen}");
        }
        assert!(matches!(reached(&Listen::Tcp("127.0.0.1:0".parse().unwrap())), Err(CliError::AnyPort)));
    }
}
