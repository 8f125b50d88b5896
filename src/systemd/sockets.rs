//! Sockets passed by the service manager (`LISTEN_FDS`): they stay open while idlegate restarts, and new connections
//! wait in them.

use listenfd::ListenFd;
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::socket_acceptconn;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::{fmt, io};

/// Any other socket is `listen`, whether its name is `idlegate` or, as systemd's default, that of its unit.
const HEALTH: &str = "health";
const ADMIN: &str = "admin";

/// The sockets that were handed over.
#[derive(Debug, Default)]
pub struct HandedOver {
    /// For clients.
    pub(crate) listen: Option<TcpListener>,
    /// For health and metrics.
    pub(crate) health: Option<Socket>,
    /// For operators.
    pub(crate) admin: Option<Socket>,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A descriptor that was handed over cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// Its number.
    descriptor: usize,
    /// Its name; empty where it has none.
    name: String,
    fault: SocketError,
}

#[derive(Debug)]
enum SocketError {
    /// It is not a listening socket of this kind.
    Kind(&'static str),
    /// Nothing is left for it to be.
    Surplus,
    /// It cannot be set up.
    System(io::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptor, name, fault } = self;
        write!(f, "descriptor {descriptor} (\"{name}\"), which was passed by the service manager, ")?;
        match fault {
            SocketError::Kind(kind) => write!(
                f,
                "is not a listening {kind} socket; in the socket unit write ListenStream= with an address and a port, and \
                 Accept=no"
            ),
            SocketError::Surplus => f.write_str(
                "is one too many; pass one socket for clients, and where wanted one each with \
                 FileDescriptorName=health and FileDescriptorName=admin",
            ),
            SocketError::System(error) => write!(f, "cannot be used: {error}; start idlegate without it"),
        }
    }
}

impl std::error::Error for Unusable {}

/// The first of them is at 3 (`sd_listen_fds(3)`).
const FIRST: usize = 3;

impl HandedOver {
    /// Takes what was handed over to this process; once, and before any thread is started, since the variables are removed.
    ///
    /// # Errors
    /// Which descriptor cannot be used, and why.
    pub fn take() -> Result<Self, Unusable> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut descriptors = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            let used = taken.give(&mut descriptors, index, &name);
            used.map_err(|fault| Unusable { descriptor: FIRST + index, name, fault })?;
        }
        Ok(taken)
    }

    fn give(&mut self, descriptors: &mut ListenFd, index: usize, name: &str) -> Result<(), SocketError> {
        let place = match name {
            HEALTH => &mut self.health,
            ADMIN => &mut self.admin,
            _ => return keep(&mut self.listen, tcp(descriptors, index)?),
        };
        let socket =
            tcp(descriptors, index).map(Socket::Tcp).or_else(|_| unix(descriptors, index).map(Socket::Unix))?;
        keep(place, socket)
    }
}

fn keep<S>(place: &mut Option<S>, socket: S) -> Result<(), SocketError> {
    if place.replace(socket).is_some() { Err(SocketError::Surplus) } else { Ok(()) }
}

fn tcp(descriptors: &mut ListenFd, index: usize) -> Result<TcpListener, SocketError> {
    listening(descriptors.take_tcp_listener(index), SocketError::Kind("TCP"))
}

fn unix(descriptors: &mut ListenFd, index: usize) -> Result<UnixListener, SocketError> {
    listening(descriptors.take_unix_listener(index), SocketError::Kind("TCP or Unix"))
}

/// Ready to be accepted from without blocking. A connection that inetd's way (`Accept=yes`) hands over is a socket of the
/// same kind, and not one to accept from.
fn listening<L: AsFd>(taken: io::Result<Option<L>>, kind: SocketError) -> Result<L, SocketError> {
    let Ok(Some(listener)) = taken else { return Err(kind) };
    ioctl_fionbio(&listener, true).map_err(|error| SocketError::System(error.into()))?;
    if socket_acceptconn(&listener).map_err(|error| SocketError::System(error.into()))? {
        Ok(listener)
    } else {
        Err(kind)
    }
}
