//! Bodies on their way: read for a token and replayed, followed while they move, cut when their session is.

use super::CLOSE_TIMEOUT;
use super::reach::ClientReach;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::registry::{Attachment, TrackedSession};
use crate::session::Source;
use crate::sock_diag::SockDiag;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// For how long an unwanted upload is read.
const DISCARDING: Duration = Duration::from_secs(30);

/// Any body that passes through here.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;

/// Why a body broke off.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A body that is all there.
pub(crate) fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that holds something until its end: when it is over, that is dropped.
pub(super) fn held(body: Body, what: impl Send + Unpin + 'static) -> Body {
    Held { body, _what: what }.boxed_unsync()
}

struct Held<W> {
    body: Body,
    _what: W,
}

impl<W: Unpin> http_body::Body for Held<W> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The beginning of a body, read to be examined.
pub(super) struct BufferedBody {
    frames: VecDeque<Frame<Bytes>>,
    /// What was not read; `None` where the body is complete.
    rest: Option<Body>,
}

impl BufferedBody {
    /// Reads until the body ends or has more than `most` bytes.
    pub(super) async fn read(mut body: Body, most: usize) -> Result<Self, Error> {
        // In one piece: as many as it came in, down to a byte each, they could take a hundred times its length.
        let mut data = Vec::new();
        let mut frames = VecDeque::new();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(trailers) => frames.push_back(trailers),
            }
            if data.len() > most {
                frames.push_front(Frame::data(data.into()));
                return Ok(Self { frames, rest: Some(body) });
            }
        }
        if !data.is_empty() {
            frames.push_front(Frame::data(data.into()));
        }
        Ok(Self { frames, rest: None })
    }

    /// All bytes, where the body is complete.
    pub(super) fn whole(&self) -> Option<Vec<u8>> {
        self.rest.is_none().then(|| self.frames.iter().filter_map(Frame::data_ref).flatten().copied().collect())
    }

    /// The body as it came.
    pub(super) fn replay(self) -> Body {
        Replay(self).boxed_unsync()
    }
}

/// A body whose start was read already.
struct Replay(BufferedBody);

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(frame) = self.0.frames.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.0.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.frames.is_empty() && self.0.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

/// The sessions that the movement of a body refreshes.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sessions: Vec<Arc<TrackedSession>>,
}

impl Refresh {
    pub(super) fn touch(&self, source: Source) {
        self.metrics.active(source);
        let now = self.clock.now();
        self.sessions.iter().for_each(|session| session.touch(now, source));
    }
}

/// How far the sending of a request has come: whose turn it is, and since when.
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    moved: AtomicU64,
    client_owes: AtomicBool,
    broke: AtomicBool,
}

impl Progress {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let moved = AtomicU64::new(clock.now().0);
        Arc::new(Self { clock, moved, client_owes: AtomicBool::new(false), broke: AtomicBool::new(false) })
    }

    fn note(&self, client_owes: bool, moved: bool) {
        self.client_owes.store(client_owes, Ordering::Release);
        if moved {
            self.moved.store(self.clock.now().0, Ordering::Release);
        }
    }

    /// Milliseconds since something moved.
    pub(super) fn still_for(&self) -> u64 {
        self.clock.now().0.saturating_sub(self.moved.load(Ordering::Acquire))
    }

    /// Whether what the client sent broke off, or was malformed.
    pub(super) fn broke(&self) -> bool {
        self.broke.load(Ordering::Acquire)
    }

    /// Whether it is the client that sends nothing, rather than the app that answers nothing.
    pub(super) fn client_owes(&self) -> bool {
        self.client_owes.load(Ordering::Acquire)
    }
}

/// Until the body may go; or, where the app has declined it, until its answer has been passed on.
pub(super) type Wait = Pin<Box<dyn Future<Output = Result<(), Declined>> + Send>>;

/// The app has answered without the body that the request had announced.
#[derive(Debug)]
pub(super) struct Declined;

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the app did not ask for the body")
    }
}

impl std::error::Error for Declined {}

/// Something to be waited for.
pub(super) type CutSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a body is put that was never asked for: its request was not sent.
pub(super) struct Unsent {
    body: Mutex<Option<Body>>,
    /// Whether the client sends nothing before it is asked to.
    waits: bool,
}

impl Unsent {
    pub(super) fn new(waits: bool) -> Arc<Self> {
        Arc::new(Self { body: Mutex::new(None), waits })
    }

    pub(super) fn take(&self) -> Option<Body> {
        self.body.lock().take()
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if let Some(body) = self.body.get_mut().take().filter(|_| !self.waits) {
            discard(body);
        }
    }
}

/// The body of a request, forwarded to the app.
pub(super) struct Upload {
    pub(super) inner: Body,
    /// Where it goes if it is never asked for.
    pub(super) unsent: Weak<Unsent>,
    /// If the client waits for `100 Continue`: the body is not read before the app asks for it.
    pub(super) wait: Option<Wait>,
    pub(super) progress: Arc<Progress>,
    pub(super) refresh: Option<Refresh>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.unsent = Weak::new();
        if let Some(wait) = &mut self.wait {
            if let Err(declined) = ready!(wait.as_mut().poll(cx)) {
                return Poll::Ready(Some(Err(Box::new(declined))));
            }
            self.wait = None;
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.note(polled.is_pending(), polled.is_ready());
        if let (Poll::Ready(Some(Ok(_))), Some(refresh)) = (&polled, &self.refresh) {
            refresh.touch(Source::Transfer);
        }
        if let Poll::Ready(Some(Err(_))) = polled {
            self.progress.broke.store(true, Ordering::Release);
        }
        if let Poll::Ready(None | Some(Err(_))) = polled {
            // Nothing is left of it to be read.
            self.inner = full(String::new());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(unsent) = self.unsent.upgrade() {
            *unsent.body.lock() = Some(std::mem::replace(&mut self.inner, full(String::new())));
            return;
        }
        // The app did not want all of it: it has answered already, or broken off. A client that expects `100 Continue`
        // and has not got it sends nothing.
        if self.wait.is_none() {
            discard(std::mem::replace(&mut self.inner, full(String::new())));
        }
    }
}

/// The session of an answer was cut while it was being sent. Ends the connection without the body's end.
#[derive(Debug)]
struct SessionCut;

impl fmt::Display for SessionCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session of this answer was cut")
    }
}

impl std::error::Error for SessionCut {}

/// The body of a response, forwarded to the client for as long as its sessions live.
pub(super) struct Download {
    pub(super) inner: Body,
    /// Fire when a session of it is cut.
    pub(super) cuts: Vec<CutSignal>,
    /// The sessions that its bytes refresh.
    pub(super) moving: Option<Refresh>,
    /// The sessions that its end refreshes.
    pub(super) end: Option<Refresh>,
    /// The sessions that this is a connection of.
    pub(super) attached: Vec<Attachment>,
    /// Whether the client takes it.
    pub(super) reach: ClientReach,
    /// Tells what the client has acknowledged.
    pub(super) system: Arc<SockDiag>,
    /// Both ends of the client's connection: ours, and its own.
    pub(super) ends: [SocketAddr; 2],
    /// Ends the connection where a stuck client keeps this from being polled when the cut comes.
    pub(super) watch: tokio::task::AbortHandle,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.cuts.iter_mut().any(|cut| cut.as_mut().poll(cx).is_ready()) {
            self.cuts.clear();
            return Poll::Ready(Some(Err(Box::new(SessionCut))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => self.refresh(Source::Transfer),
            Poll::Ready(None) => self.finish(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        if self.inner.is_end_stream() {
            self.finish();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Download {
    /// Refreshes the sessions, where the client takes what it is sent.
    fn refresh(&mut self, source: Source) {
        let Self { moving, end, reach, system, ends: [local, peer], .. } = self;
        let refresh = if source == Source::Transfer { moving } else { end };
        if let Some(refresh) = refresh
            && reach.takes(refresh.clock.now(), || system.sent(*local, *peer))
        {
            refresh.touch(source);
        }
    }

    fn finish(&mut self) {
        self.refresh(Source::Request);
        self.end = None;
        self.cuts.clear();
        self.attached.clear();
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Reads and drops what the client still sends, while it gets its answer: a client that sends its whole body before it
/// looks for an answer would be stopped by a reset connection instead.
pub(super) fn discard(mut body: Body) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if body.is_end_stream() {
        return;
    }
    runtime.spawn(async move {
        let sending = async { while let Ok(Some(Ok(_))) = tokio::time::timeout(CLOSE_TIMEOUT, body.frame()).await {} };
        // Whether it was all read or took too long, the connection ends now.
        let _ = tokio::time::timeout(DISCARDING, sending).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(unsent: &Arc<Unsent>) -> Upload {
        let progress = Progress::new(Clock::system());
        Upload { inner: full("all of it"), unsent: Arc::downgrade(unsent), wait: None, progress, refresh: None }
    }

    #[tokio::test]
    async fn a_body_comes_back_only_where_it_was_not_asked_for() {
        let unsent = Unsent::new(false);
        drop(upload(&unsent));
        let back = unsent.take().expect("the body").collect().await.expect("all of it");
        assert_eq!(back.to_bytes(), "all of it");
        let mut summary = upload(&unsent);
        summary.frame().await;
        drop(summary);
        assert!(unsent.take().is_none());
    }
}
