//! A socket of either family: to a client, to the app, or beside the two.

use crate::address::Upstream;
use crate::descriptors::{is_kept_back, none_left};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// How much the system buffers for a peer beyond what is in flight, in bytes. Without a bound this grows to megabytes,
/// and for that long a peer that takes nothing looks like a slow one.
const MAX_UNSENT: u32 = 64 * 1024;

/// How much HTTP reads at once, in bytes. Pieces of it wait while the other side is slow. One less than a power of two, since
/// hyper doubles its buffer when a read fills it.
pub(crate) const MAX_READ: u64 = 16 * 1024 - 1;

/// Sets the options that every TCP connection here has.
///
/// # Errors
/// The system's.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // A frame is sent when it is there; waiting for more to fill a packet delays it.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(MAX_UNSENT)
}

/// How long nothing comes before the system asks whether the peer is still there; and how long it may then stay silent, or
/// take nothing.
const QUIET: Duration = Duration::from_secs(60);
const GONE: Duration = Duration::from_secs(120);

/// Lets the system notice clients that have gone without a word, on every connection that `listener` accepts.
///
/// # Errors
/// The system's.
pub(crate) fn notice_the_gone(listener: &TcpListener) -> io::Result<()> {
    let listener = SockRef::from(listener);
    listener.set_tcp_keepalive(&TcpKeepalive::new().with_time(QUIET).with_interval(QUIET / 4).with_retries(4))?;
    listener.set_tcp_user_timeout(Some(GONE))
}

/// A socket, of either family.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the address.
    ///
    /// # Errors
    /// The system's, or `TimedOut` after `timeout`; also where only reserved descriptors are left.
    pub(crate) async fn connect(upstream: &Upstream, timeout: Duration) -> io::Result<Self> {
        let connecting = async {
            match upstream {
                Upstream::Tcp(authority) => {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    prepare(&stream)?;
                    Ok(Self::Tcp(stream))
                }
                Upstream::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            }
        };
        let connected = tokio::time::timeout(timeout, connecting).await;
        let stream: Self = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        if is_kept_back(&stream) { Err(none_left()) } else { Ok(stream) }
    }

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// The addresses of both ends, where it is TCP.
    pub(crate) fn ends(&self) -> Option<[SocketAddr; 2]> {
        let Self::Tcp(stream) = self else { return None };
        Some([stream.local_addr().ok()?, stream.peer_addr().ok()?])
    }

    /// Ends the sending direction, without waiting.
    pub(crate) fn finish(&self) {
        let how = rustix::net::Shutdown::Write;
        // A peer that has already gone needs no such notice.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how),
            Self::Unix(stream) => rustix::net::shutdown(stream, how),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Unix(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
