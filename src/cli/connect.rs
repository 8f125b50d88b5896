//! Finds the address of the `[admin]` listener and its token.

use super::error::CliError;
use crate::address::{AdminListen, Listen, Upstream};
use crate::admin::read_token;
use crate::config::{ForOperators, upstream};
use crate::secret::Secret;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Which idlegate to ask, and how to print the response.
#[derive(Debug, clap::Args)]
pub struct At {
    /// The configuration file of the running idlegate [default: `IDLEGATE_CONFIG`, or proxy.toml].
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The address of its admin API, instead of the configuration's `admin.listen`: `http://127.0.0.1:9090` or
    /// `unix:/run/idlegate/admin.sock`.
    #[arg(long, value_name = "URL")]
    pub(super) admin: Option<String>,
    /// The file with the admin token, instead of the configuration's `admin.token_file`.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Print the response as JSON, unchanged.
    #[arg(long)]
    pub(super) json: bool,
}

/// The address of a listener, and its token.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: Upstream,
    pub(super) token: Option<Secret>,
}

/// Finds the listener from the arguments and the configuration.
pub(super) fn find(at: &At, config: &ForOperators) -> Result<Endpoint, CliError> {
    let admin = config.admin();
    let named = at.admin.as_deref().map(|text| upstream(text).map_err(|_| CliError::NoAddress)).transpose()?;
    let (address, configured) = match (named, admin) {
        // With `--admin`, the configuration may be missing or wrong.
        (Some(address), admin) => (address, admin.ok().flatten().and_then(|admin| admin.token_file.as_deref())),
        (None, Ok(Some(admin))) => (target_of(&admin.listen)?, admin.token_file.as_deref()),
        (None, Ok(None)) => return Err(CliError::NoListener),
        (None, Err(problems)) => return Err(CliError::Config(problems)),
    };
    let token = at.token_file.as_deref().or(configured).map(token).transpose()?;
    Ok(Endpoint { address, token })
}

/// The listener that this section of the configuration names.
pub(super) fn endpoint(admin: &AdminListen) -> Result<Endpoint, CliError> {
    let token = admin.token_file.as_deref().map(token).transpose()?;
    Ok(Endpoint { address: target_of(&admin.listen)?, token })
}

fn token(file: &Path) -> Result<Secret, CliError> {
    read_token(file).map_err(CliError::NoToken)
}

/// The address to connect to for a listen address.
fn target_of(listen: &Listen) -> Result<Upstream, CliError> {
    match listen {
        Listen::Unix(path) => Ok(Upstream::Unix(path.clone())),
        Listen::Tcp(address) if address.port() == 0 => Err(CliError::AnyPort),
        Listen::Tcp(address) => {
            // A listener on all interfaces is reachable on loopback.
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
    fn a_listener_on_all_interfaces_is_reached_on_loopback() {
        for (listen, target) in [
            ("127.0.0.1:9090", "127.0.0.1:9090"),
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:9090", "[::1]:9090"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
        ] {
            let address = target_of(&Listen::Tcp(listen.parse().unwrap())).unwrap();
            assert_eq!(address, Upstream::Tcp(target.to_owned()), "{listen}");
        }
        assert!(matches!(target_of(&Listen::Tcp("127.0.0.1:0".parse().unwrap())), Err(CliError::AnyPort)));
    }
}
