//! Connections to the app.

use crate::config::{Current, Upstream};
use http::HeaderValue;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

/// A socket, of either family.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the app.
    ///
    /// # Errors
    /// The system's, or `TimedOut` after `timeout`.
    pub(crate) async fn connect(upstream: &Upstream, timeout: Duration) -> io::Result<Self> {
        let connecting = async {
            match upstream {
                Upstream::Tcp(authority) => {
                    let stream = TcpStream::connect(authority.as_str()).await?;
                    // A frame is sent when it is there; waiting for more to fill a packet helps nobody here.
                    stream.set_nodelay(true)?;
                    Ok(Self::Tcp(stream))
                }
                Upstream::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            }
        };
        tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::Tcp(stream) => stream.ready(interest).await,
            Self::Unix(stream) => stream.ready(interest).await,
        }
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Says that nothing more will be written, without waiting for anything.
    pub(super) fn finish(&self) {
        let how = rustix::net::Shutdown::Write;
        // A peer that has gone already needs no goodbye.
        let _ = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, how),
            Self::Unix(stream) => rustix::net::shutdown(stream, how),
        };
    }
}

/// The `Host` of a request that has none.
pub(super) fn host(upstream: &Upstream) -> HeaderValue {
    const LOCAL: HeaderValue = HeaderValue::from_static("localhost");
    match upstream {
        Upstream::Tcp(authority) => HeaderValue::from_str(authority).unwrap_or(LOCAL),
        Upstream::Unix(_) => LOCAL,
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

/// Whether a pooled connection has answered a request before. One that has may have been closed by the app in the
/// meantime; one that has not was refused by the app itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(Arc<AtomicBool>);

impl Used {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A connection in the pool.
#[derive(Debug)]
pub(super) struct Pooled {
    stream: TokioIo<Stream>,
    used: Used,
}

/// An app that refuses an upload answers, and closes without reading on. Then its answer is there to be read, but
/// writing fails; and hyper, which may meet the failure first, would let it go before the answer. So what cannot be
/// written is dropped, and reading tells how the connection ended.
fn written(polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
    match polled {
        Poll::Ready(Err(error)) if is_of_the_app(&error) => Poll::Ready(Ok(length)),
        polled => polled,
    }
}

fn is_of_the_app(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.used.clone())
    }
}

impl hyper::rt::Read for Pooled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Pooled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        written(Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes), bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        written(Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices), length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Makes connections for the pool. The request's URI has no say in where to.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) upstream: Upstream,
    pub(super) current: Current,
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = Pooled;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Pooled>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { upstream, current } = self.clone();
        Box::pin(async move {
            let stream = TokioIo::new(Stream::connect(&upstream, current.load().connect_timeout).await?);
            Ok(Pooled { stream, used: Used::default() })
        })
    }
}
