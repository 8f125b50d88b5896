//! Listening: for clients, and beside them for health and for operators; on sockets of its own or such as were handed over.

use crate::address::{AdminListen, Listen};
use crate::admin::{Access, Listener};
use crate::config::Config;
use crate::stream::notice_the_gone;
use crate::systemd::Socket;
use std::{fmt, io};
use tokio::net::TcpListener;

/// Why a server does not start.
#[derive(Debug)]
pub enum StartError {
    /// It cannot listen there.
    Listen {
        /// The configuration key of the address.
        key: &'static str,
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// The token for operators cannot be read, or is missing.
    Token(io::Error),
    /// The store cannot be opened.
    Store(Box<dyn std::error::Error + Send + Sync>),
}

impl StartError {
    /// The same error, for an address that did not come from the configuration.
    #[must_use]
    pub fn asked_by(self, key: &'static str) -> Self {
        match self {
            Self::Listen { address, error, .. } => Self::Listen { key, address, error },
            other => other,
        }
    }

    pub(crate) fn store(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Store(error.into())
    }

    fn listen(key: &'static str, address: impl ToString) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Listen { key, address: address.to_string(), error }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, address, error) = match self {
            Self::Listen { key, address, error } => (key, address, error),
            Self::Store(error) => return error.fmt(f),
            Self::Token(error) => return write!(f, "`admin.token_file`: {error}"),
        };
        write!(f, "cannot listen on {address}: {error}; ")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(f, "another program listens there: end it, or change {key}"),
            io::ErrorKind::AddrNotAvailable => write!(f, "this host has no such address: change {key}"),
            io::ErrorKind::PermissionDenied => {
                write!(f, "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or change {key}")
            }
            _ => write!(f, "change {key}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Opens the listener of clients.
pub(crate) async fn clients(
    config: &Config,
    handed_over: Option<std::net::TcpListener>,
) -> Result<TcpListener, StartError> {
    let listening = match handed_over {
        None => TcpListener::bind(config.listen).await,
        Some(listener) => {
            let listener = TcpListener::from_std(listener);
            listener.inspect(|listener| {
                let configured = config.listen;
                tracing::info!(
                    "`listen` was passed by the service manager: {}; the configured {configured} is ignored",
                    shown(listener.local_addr())
                );
            })
        }
    };
    listening
        .and_then(|listener| notice_the_gone(&listener).map(|()| listener))
        .map_err(StartError::listen("`listen`", config.listen))
}

/// Opens a listener beside the public one, if one is configured.
pub(crate) async fn beside(
    key: &'static str,
    configured: Option<&Listen>,
    handed_over: Option<Socket>,
) -> Result<Option<Listener>, StartError> {
    let place = configured.map_or_else(|| "the passed socket".to_owned(), Listen::to_string);
    let listening = match (handed_over, configured) {
        (Some(socket), _) => {
            let listener = Listener::handed_over(socket);
            listener.inspect(|listener| {
                tracing::info!("{key} was passed by the service manager: {}", shown(listener.address()));
            })
        }
        (None, Some(listen)) => Listener::bind(listen).await,
        (None, None) => return Ok(None),
    };
    listening.map(Some).map_err(StartError::listen(key, place))
}

fn shown(address: io::Result<impl ToString>) -> String {
    address.map_or_else(|error| error.to_string(), |address| address.to_string())
}

/// Opens the listener of operators, and its door.
pub(crate) async fn operators(
    configured: Option<&AdminListen>,
    handed_over: Option<Socket>,
) -> Result<Option<(Listener, Access)>, StartError> {
    let token_file = configured.and_then(|admin| admin.token_file.as_deref());
    let Some(listener) = beside("`admin.listen`", configured.map(|admin| &admin.listen), handed_over).await? else {
        return Ok(None);
    };
    let address = listener.address().map_err(StartError::listen("`admin.listen`", "the passed socket"))?;
    let is_open = matches!(address, Listen::Tcp(address) if !address.ip().is_loopback());
    if is_open && token_file.is_none() {
        let what = format!("{address} is beyond this host, and needs it; or hand over a socket on loopback");
        return Err(StartError::Token(io::Error::new(io::ErrorKind::PermissionDenied, what)));
    }
    let access = Access::new(token_file).map_err(StartError::Token)?;
    Ok(Some((listener, access)))
}
