//! Sockets opened by the service manager (`LISTEN_FDS`). They stay open during a restart, so new connections wait in
//! their backlog.

use listenfd::ListenFd;
use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::socket_acceptconn;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::{fmt, io};

/// A socket with any other name is `listen`. By default systemd names a socket after its unit.
const HEALTH: &str = "health";
const ADMIN: &str = "admin";

/// The sockets passed in.
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

/// A passed-in file descriptor cannot be used.
#[derive(Debug)]
pub struct UnusableSocket {
    /// Its number.
    descriptor: usize,
    /// Its name, or empty.
    name: String,
    fault: SocketError,
}

#[derive(Debug)]
enum SocketError {
    /// It is not a listening socket of this kind.
    Kind(&'static str),
    /// There already is a socket for this purpose.
    Surplus,
    /// It cannot be set up.
    System(io::Error),
}

impl fmt::Display for UnusableSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptor, name, fault } = self;
        write!(f, "socket activation: descriptor {descriptor} (\"{name}\") ")?;
        match fault {
            SocketError::Kind(kind) => write!(
                f,
                "is not a listening {kind} socket; in the socket unit, set ListenStream= to an address and a port, and \
                 Accept=no"
            ),
            SocketError::Surplus => f.write_str(
                "is one too many; pass one socket for clients, and optionally one each with \
                 FileDescriptorName=health and FileDescriptorName=admin",
            ),
            SocketError::System(error) => write!(f, "cannot be used: {error}; start idlegate without it"),
        }
    }
}

impl std::error::Error for UnusableSocket {}

/// The first passed-in descriptor (`sd_listen_fds(3)`).
const FIRST: usize = 3;

impl HandedOver {
    /// Takes the sockets passed to this process. Call it once, before any thread starts, because it removes the
    /// variables from the environment.
    ///
    /// # Errors
    /// Which descriptor cannot be used, and why.
    pub fn take() -> Result<Self, UnusableSocket> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut descriptors = ListenFd::from_env();
        let mut taken = Self::default();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            let used = taken.give(&mut descriptors, index, &name);
            used.map_err(|fault| UnusableSocket { descriptor: FIRST + index, name, fault })?;
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

/// Makes the socket non-blocking and checks that it listens. With `Accept=yes` (inetd style) the descriptor is a
/// connection of the same socket type.
fn listening<L: AsFd>(taken: io::Result<Option<L>>, kind: SocketError) -> Result<L, SocketError> {
    let Ok(Some(listener)) = taken else { return Err(kind) };
    ioctl_fionbio(&listener, true).map_err(|error| SocketError::System(error.into()))?;
    if socket_acceptconn(&listener).map_err(|error| SocketError::System(error.into()))? {
        Ok(listener)
    } else {
        Err(kind)
    }
}
