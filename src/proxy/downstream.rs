//! A client's connection, as HTTP reads and writes it: what hyper does not notice of a client is noticed here.

use super::body::{Body, Error, held};
use crate::config::Current;
use crate::stream::{MAX_READ, Stream};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

/// How long an answer, or its next piece, may take once the client has ended its sending direction. A client that has
/// left looks the same, until something is written to it.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// How many bytes of an answer wait here to be written, before more is asked for. hyper alone would hold as many as a head
/// may have, and one more piece.
const MAX_UNSENT: usize = 16 * 1024;

/// State shared by a connection and its exchanges.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// An answer would seem complete if the connection were closed now.
    reset: AtomicBool,
    /// More has arrived than the head of the request.
    more: AtomicBool,
    arrived: Notify,
    /// So many bytes of an answer wait to be written.
    unsent: AtomicUsize,
    /// The rest of an answer is not asked for until they are.
    held_back: AtomicBool,
}

impl ConnectionState {
    /// Resolves when the client has sent more than the head of its request.
    pub(super) async fn more(&self) {
        let arrived = self.arrived.notified();
        if !self.more.load(Ordering::Acquire) {
            arrived.await;
        }
    }

    fn set_more(&self, more: bool) {
        if !self.more.swap(more, Ordering::AcqRel) && more {
            self.arrived.notify_waiters();
        }
    }

    /// When the connection ends, it is reset instead of closed.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// The body of a response, read no faster than the client takes it. If it ends `with_connection` and breaks off,
    /// the connection is reset, so that the client can tell that something is missing.
    ///
    /// Holds `what` until it is over.
    pub(crate) fn answer(
        self: Arc<Self>,
        body: Body,
        with_connection: bool,
        what: impl Send + Unpin + 'static,
    ) -> Body {
        if body.is_end_stream() {
            return held(body, what);
        }
        self.unsent.store(0, Ordering::Relaxed);
        self.reset.store(with_connection, Ordering::Release);
        Answer { body, line: self, _what: what }.boxed_unsync()
    }

    /// So much has been written, or all of it.
    fn written(&self, length: Option<usize>, cx: &Context<'_>) {
        let before = self.unsent.load(Ordering::Relaxed);
        let left = length.map_or(0, |length| before.saturating_sub(length));
        self.unsent.store(left, Ordering::Relaxed);
        // The same task writes and asks the body for more, but it may have asked already.
        if left < MAX_UNSENT && self.held_back.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
        }
    }
}

struct Answer<W> {
    body: Body,
    line: Arc<ConnectionState>,
    _what: W,
}

impl<W: Unpin> http_body::Body for Answer<W> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.line.unsent.load(Ordering::Relaxed) >= MAX_UNSENT {
            self.line.held_back.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = polled.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.line.unsent.fetch_add(data.len(), Ordering::Relaxed);
        }
        if polled.is_none() || matches!(polled, Some(Ok(_))) && self.body.is_end_stream() {
            self.line.reset.store(false, Ordering::Release);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's connection. Its timers run only while the client takes nothing, or has ended its sending direction.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// `None` once it has been taken for a tunnel.
    stream: Option<Take<TcpStream>>,
    current: Current,
    line: Arc<ConnectionState>,
    stuck: Option<Pin<Box<Sleep>>>,
    half_closed: Option<Pin<Box<Sleep>>>,
    /// The end of a head is still to be read.
    in_head: bool,
}

impl Downstream {
    pub(crate) fn new(stream: TcpStream, current: Current, line: Arc<ConnectionState>) -> Self {
        Self { stream: Some(stream.take(MAX_READ)), current, line, stuck: None, half_closed: None, in_head: true }
    }

    /// The connection itself.
    pub(super) fn into_stream(mut self) -> Option<Stream> {
        self.stream.take().map(|stream| Stream::Tcp(stream.into_inner()))
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let stream = self.stream.as_mut().map(|stream| Pin::new(stream.get_mut()));
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Looks for more bytes, or the end of them, while hyper reads nothing because an answer is awaited.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [0];
        let Poll::Ready(peeked) = self.stream()?.poll_peek(cx, &mut ReadBuf::new(&mut byte)) else { return Ok(()) };
        if peeked? > 0 {
            self.line.set_more(true);
            return Ok(());
        }
        let patience = self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED)));
        match patience.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client has left")),
            Poll::Pending => Ok(()),
        }
    }

    /// The client has taken so much, or nothing.
    fn taken(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = &polled {
            self.line.written(written.as_ref().ok().copied(), cx);
            (self.stuck, self.half_closed, self.in_head) = (None, None, true);
            self.line.set_more(false);
            return polled;
        }
        let current = &self.current;
        let patience = self.stuck.get_or_insert_with(|| Box::pin(sleep(current.load().write_timeout)));
        ready!(patience.as_mut().poll(cx));
        self.line.reset();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client took nothing for as long as write_timeout",
        )))
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take_if(|_| self.line.reset.load(Ordering::Acquire)) {
            // What has not been sent yet is dropped with the connection, and takes no memory of the system.
            let _ = stream.get_ref().set_zero_linger();
        }
    }
}

impl AsyncRead for Downstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let Some(stream) = &mut this.stream else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        stream.set_limit(MAX_READ);
        let polled = Pin::new(stream).poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if this.in_head
            && let Some(end) = memchr::memmem::find(read, b"\r\n\r\n")
        {
            this.in_head = false;
            this.line.set_more(read.len() > end + 4);
        }
        polled
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.stream()?.poll_write(cx, bytes);
        this.taken(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.stream()?.poll_write_vectored(cx, slices);
        this.taken(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.line.written(None, cx);
        this.watch(cx)?;
        this.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}
