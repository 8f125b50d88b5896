//! Addresses: where idlegate listens, and where the app does.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the app listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// `http://host:port`, kept as `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where something is served beside the public listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// An address and a port; 0 lets the system choose.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[admin]`: where operators ask and switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminListen {
    /// `listen`: loopback, a Unix socket, or with `token_file` anywhere.
    pub listen: Listen,
    /// `token_file`: the file with the token that clients of this listener must send.
    pub token_file: Option<PathBuf>,
}
