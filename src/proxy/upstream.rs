//! The app, as the pool of connections that are used again sees it.

use crate::address::Upstream;
use crate::config::Current;
use crate::stream::{MAX_READ, Stream};
use http::HeaderValue;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

/// The `Host` of a request that has none.
pub(super) fn host(upstream: &Upstream) -> HeaderValue {
    const LOCAL: HeaderValue = HeaderValue::from_static("localhost");
    match upstream {
        Upstream::Tcp(authority) => HeaderValue::from_str(authority).unwrap_or(LOCAL),
        Upstream::Unix(_) => LOCAL,
    }
}

/// What is known of a connection to the app. One that has answered a request before may have been closed by the app in
/// the meantime; one that has not was refused by the app itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(Arc<Usage>);

#[derive(Debug, Default)]
struct Usage {
    /// It has answered a request.
    answered: AtomicBool,
    /// Its next write begins a request.
    between: AtomicBool,
    /// Something has come of the answer.
    was_read: AtomicBool,
}

impl Used {
    /// An answer has begun.
    pub(super) fn mark(&self) {
        self.0.answered.store(true, Ordering::Release);
        self.0.between.store(true, Ordering::Release);
    }

    /// Whether it broke as one does that the app has closed while it lay idle: it had answered before, and not a byte has
    /// come of this answer.
    pub(super) fn is_stale(&self) -> bool {
        self.0.answered.load(Ordering::Acquire) && !self.0.was_read.load(Ordering::Acquire)
    }

    fn written(&self) {
        if self.0.between.load(Ordering::Relaxed) && self.0.between.swap(false, Ordering::AcqRel) {
            self.0.was_read.store(false, Ordering::Release);
        }
    }

    fn read(&self) {
        self.0.was_read.store(true, Ordering::Release);
    }
}

/// A connection in the pool.
#[derive(Debug)]
pub(super) struct Pooled {
    stream: Take<Stream>,
    used: Used,
}

impl Pooled {
    /// An app that refuses an upload responds and closes without reading on. Its response is then there to be read, but
    /// writing fails; hyper, which may meet the failure first, would drop the response. So what cannot be written is
    /// dropped, and reading shows how the connection ended.
    fn written(&self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        self.used.written();
        match polled {
            Poll::Ready(Err(error)) if is_of_the_app(&error) => Poll::Ready(Ok(length)),
            polled => polled,
        }
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

impl AsyncRead for Pooled {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let pooled = self.get_mut();
        let before = buffer.filled().len();
        pooled.stream.set_limit(MAX_READ);
        let polled = Pin::new(&mut pooled.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            pooled.used.read();
        }
        polled
    }
}

impl AsyncWrite for Pooled {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let pooled = self.get_mut();
        let polled = Pin::new(pooled.stream.get_mut()).poll_write(cx, bytes);
        pooled.written(polled, bytes.len())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream.get_mut()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pooled = self.get_mut();
        let polled = Pin::new(pooled.stream.get_mut()).poll_write_vectored(cx, slices);
        pooled.written(polled, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// Makes connections for the pool. The request's URI does not choose the address.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) upstream: Upstream,
    pub(super) current: Current,
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = TokioIo<Pooled>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Pooled>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { upstream, current } = self.clone();
        Box::pin(async move {
            let stream = Stream::connect(&upstream, current.load().connect_timeout).await?;
            Ok(TokioIo::new(Pooled { stream: stream.take(MAX_READ), used: Used::default() }))
        })
    }
}
