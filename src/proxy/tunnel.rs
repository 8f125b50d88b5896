//! A tunnel: two sockets, and bytes relayed between them as they are.
//!
//! One task per tunnel, woken by its sockets, by the cut, and by nothing else while nothing moves. It reads into space
//! that all tunnels of a thread share, and keeps bytes of its own only while a peer is too slow to take them.

use super::Proxy;
use super::buffer::{Buffer, with_scratch};
use super::goodbye::{self, Words, is_momentary};
use super::lane::{Examined, Lane, Seen};
use super::upstream::Stream;
use crate::clock::Moment;
use crate::keeper::{Attached, Session, Standing};
use crate::session::{SessionId, Source};
use crate::token::{ClientMessage, InBand, Offer, ServerMessage};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{Interest, Ready};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// How often a tunnel in trouble (a stuck peer, an invalid frame) is looked after.
const CHORES_EVERY: Duration = Duration::from_millis(250);

/// How long a tunnel may stay in trouble, in milliseconds: as long as a farewell.
const TROUBLE_AT_MOST: u64 = super::FAREWELL.as_millis() as u64;

/// What is wrong with a tunnel whose client, or app, sent an invalid frame (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: Words<'static> = Words { message: None, code: 1002, reason: "Protocol error" };
const GOING_AWAY: Words<'static> = Words { message: None, code: 1001, reason: "Going away" };

/// Why a tunnel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    ClientGone,
    AppGone,
    /// A session of it was cut.
    Cut,
    /// A dead token, or one that could not be recognised, was offered on it.
    Refused,
    /// An invalid frame was relayed and the app did not close.
    Invalid,
    /// idlegate stops.
    Stopping,
}

/// What becomes of a message that had to wait for somebody's word.
enum Verdict {
    /// It offers tokens that are not dead.
    Offer(Offer),
    /// It carries a dead token.
    Refuse,
    /// The app accepted: the tunnel belongs to this session from now on, to none where it is not tracked.
    Move(Option<Arc<Session>>),
}

type Waiting = Option<Pin<Box<dyn Future<Output = Verdict> + Send>>>;

/// One direction, and what it waits for.
struct Way {
    lane: Lane,
    verdict: Waiting,
    /// Was read behind a message that waits for its verdict.
    backlog: Buffer,
    /// When the sender was seen to have gone, while the receiver was stuck.
    deserted: Option<Moment>,
}

impl Way {
    fn new(lane: Lane) -> Self {
        Self { lane, verdict: None, backlog: Buffer::default(), deserted: None }
    }

    fn wants_input(&self) -> bool {
        self.lane.unsent.is_empty() && self.verdict.is_none()
    }
}

/// A session that the tunnel belongs to, and its cut.
struct Bound {
    attached: Attached,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Bound {
    fn new(attached: Attached) -> Self {
        let cut = Box::pin(attached.session().cut());
        Self { attached, cut }
    }
}

/// A tunnel being relayed.
pub(super) struct Tunnel {
    proxy: Arc<Proxy>,
    client: Stream,
    app: Stream,
    up: Way,
    down: Way,
    in_band: InBand,
    bound: Vec<Bound>,
    invalid: Option<Moment>,
    chores: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Tunnel {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        [client, app]: [Stream; 2],
        [up, down]: [Lane; 2],
        in_band: InBand,
        attached: Vec<Attached>,
    ) -> Self {
        let bound = attached.into_iter().map(Bound::new).collect();
        let (up, down) = (Way::new(up), Way::new(down));
        Self { proxy, client, app, up, down, in_band, bound, invalid: None, chores: None }
    }

    /// Relays until one side ends it, or it is ended from here. `first` is what was read of each side already.
    pub(super) async fn run(mut self, [from_client, from_app]: [bytes::Bytes; 2]) {
        let begun = self.take_up(&from_client).and_then(|()| self.take_down(&from_app));
        drop((from_client, from_app));
        let ending = match begun {
            Ok(()) => self.relay().await,
            Err(ending) => ending,
        };
        // Boxed, so that an idle tunnel does not carry the room that only its end needs.
        Box::pin(self.end(ending)).await;
    }

    async fn relay(&mut self) -> Ending {
        loop {
            let Self { proxy, client, app, up, down, bound, chores, .. } = self;
            let from_client = interest(up.wants_input(), !down.lane.unsent.is_empty());
            let from_app = interest(down.wants_input(), !up.lane.unsent.is_empty());
            let step = tokio::select! {
                biased;
                () = any_cut(bound) => return Ending::Cut,
                () = proxy.shutdown.stopping() => return Ending::Stopping,
                () = some(chores) => self.do_chores(),
                verdict = some(&mut up.verdict) => self.decided_up(verdict),
                verdict = some(&mut down.verdict) => self.decided_down(verdict),
                ready = readiness(client, from_client) => self.client_ready(ready),
                ready = readiness(app, from_app) => self.app_ready(ready),
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    fn client_ready(&mut self, ready: io::Result<Ready>) -> Result<(), Ending> {
        let ready = ready.map_err(|_| Ending::ClientGone)?;
        if ready.is_writable() {
            flush(&mut self.down.lane, &self.client).map_err(|_| Ending::ClientGone)?;
        }
        if !(ready.is_readable() || ready.is_read_closed()) || !self.up.wants_input() {
            return Ok(());
        }
        with_scratch(|scratch| match self.client.try_read(scratch) {
            Ok(0) => Err(Ending::ClientGone),
            Ok(count) => self.take_up(scratch.get(..count).unwrap_or_default()),
            Err(error) if is_momentary(&error) => Ok(()),
            Err(_) => Err(Ending::ClientGone),
        })
    }

    fn app_ready(&mut self, ready: io::Result<Ready>) -> Result<(), Ending> {
        let ready = ready.map_err(|_| Ending::AppGone)?;
        if ready.is_writable() {
            flush(&mut self.up.lane, &self.app).map_err(|_| Ending::AppGone)?;
        }
        if !(ready.is_readable() || ready.is_read_closed()) || !self.down.wants_input() {
            return Ok(());
        }
        with_scratch(|scratch| match self.app.try_read(scratch) {
            Ok(0) => Err(Ending::AppGone),
            Ok(count) => self.take_down(scratch.get(..count).unwrap_or_default()),
            Err(error) if is_momentary(&error) => Ok(()),
            Err(_) => Err(Ending::AppGone),
        })
    }

    /// Bytes of the client: followed, examined where a rule asks for it, passed on to the app.
    fn take_up(&mut self, input: &[u8]) -> Result<(), Ending> {
        let mut seen = Seen::default();
        let mut rest = input;
        while self.up.lane.examining && !rest.is_empty() && self.up.verdict.is_none() {
            let (taken, examined) = self.up.lane.examine(rest, &mut seen);
            rest = rest.get(taken..).unwrap_or_default();
            if let Some(examined) = examined {
                self.client_says(examined)?;
            }
        }
        relay_rest(&mut self.up, rest, &self.app, &mut seen).map_err(|_| Ending::AppGone)?;
        self.refresh_up(seen);
        self.look_after();
        Ok(())
    }

    /// Bytes of the app, likewise, on to the client.
    fn take_down(&mut self, input: &[u8]) -> Result<(), Ending> {
        let mut seen = Seen::default();
        let mut rest = input;
        while self.down.lane.examining && !rest.is_empty() && self.down.verdict.is_none() {
            let (taken, examined) = self.down.lane.examine(rest, &mut seen);
            rest = rest.get(taken..).unwrap_or_default();
            if let Some(examined) = examined {
                self.app_says(examined)?;
            }
        }
        relay_rest(&mut self.down, rest, &self.client, &mut seen).map_err(|_| Ending::ClientGone)?;
        if seen.data && self.proxy.config.activity.server_frames {
            self.touch(Source::ServerFrame);
        }
        self.look_after();
        Ok(())
    }

    fn refresh_up(&self, seen: Seen) {
        let activity = self.proxy.config.activity;
        if seen.data && activity.client_frames {
            self.touch(Source::ClientFrame);
        } else if seen.pong && activity.client_pongs {
            self.touch(Source::ClientPong);
        }
    }

    fn touch(&self, source: Source) {
        if self.bound.is_empty() {
            return;
        }
        let now = self.proxy.keeper.clock().now();
        self.bound.iter().for_each(|bound| bound.attached.session().touch(now, source));
    }

    fn client_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let lane = &mut self.up.lane;
        if examined == Examined::Piece {
            let offer = self.in_band.client_piece(lane.message.as_slice());
            let overlap = if lane.has_ended_long() { 0 } else { self.in_band.overlap() };
            // What was found once must not be found again in the next piece.
            lane.message.keep_last(if offer.is_some() { 0 } else { overlap });
            return offer.map_or(Ok(()), |offer| self.offer(offer));
        }
        match self.in_band.client_message(lane.message.as_slice()) {
            ClientMessage::Other => lane.release(),
            ClientMessage::Offer(offer) => {
                lane.message.clear();
                self.up.verdict = Some(Box::pin(weigh(Arc::clone(&self.proxy), offer)));
            }
        }
        Ok(())
    }

    fn app_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let lane = &mut self.down.lane;
        if examined == Examined::Piece {
            lane.message.clear();
            return Ok(());
        }
        match self.in_band.server_message(lane.message.as_slice()) {
            ServerMessage::Other => lane.release(),
            ServerMessage::Accepted(id) => {
                lane.message.clear();
                self.down.verdict = Some(Box::pin(accepted(Arc::clone(&self.proxy), id)));
            }
            ServerMessage::Unrecognised => {
                self.proxy.keeper.counts.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("the app accepted a token that no rule recognised; the tunnel is refused");
                return Err(Ending::Refused);
            }
        }
        Ok(())
    }

    fn offer(&mut self, offer: Offer) -> Result<(), Ending> {
        if self.in_band.offered(offer) {
            return Ok(());
        }
        tracing::warn!("too many tokens were offered on a tunnel before any was answered; it is refused");
        Err(Ending::Refused)
    }

    fn decided_up(&mut self, verdict: Verdict) -> Result<(), Ending> {
        self.up.verdict = None;
        match verdict {
            Verdict::Offer(offer) => self.offer(offer)?,
            Verdict::Refuse => return Err(Ending::Refused),
            Verdict::Move(_) => {}
        }
        self.up.lane.release();
        let backlog = std::mem::take(&mut self.up.backlog);
        self.take_up(backlog.as_slice())
    }

    fn decided_down(&mut self, verdict: Verdict) -> Result<(), Ending> {
        self.down.verdict = None;
        match verdict {
            Verdict::Move(session) => {
                self.bound = session.map(Attached::new).map(Bound::new).into_iter().collect();
                // The message that offered the token was its session's first activity on this tunnel.
                self.refresh_up(Seen { data: true, pong: false });
            }
            Verdict::Refuse => return Err(Ending::Refused),
            Verdict::Offer(_) => {}
        }
        self.down.lane.release();
        let backlog = std::mem::take(&mut self.down.backlog);
        self.take_down(backlog.as_slice())
    }

    /// Starts the timer where something is wrong that no event would tell of.
    fn look_after(&mut self) {
        if self.invalid.is_none()
            && let Some(invalid) = self.up.lane.is_invalid().or(self.down.lane.is_invalid())
        {
            tracing::debug!(%invalid, "an invalid frame was relayed");
            self.invalid = Some(self.proxy.keeper.clock().now());
        }
        let trouble = self.invalid.is_some() || !self.up.lane.unsent.is_empty() || !self.down.lane.unsent.is_empty();
        if !trouble {
            self.chores = None;
        } else if self.chores.is_none() {
            self.chores = Some(Box::pin(tokio::time::sleep(CHORES_EVERY)));
        }
    }

    fn do_chores(&mut self) -> Result<(), Ending> {
        self.chores = None;
        let now = self.proxy.keeper.clock().now();
        if self.invalid.is_some_and(|since| now.since(since) >= TROUBLE_AT_MOST) {
            return Err(Ending::Invalid);
        }
        if deserted(&mut self.up, &self.client, now) {
            return Err(Ending::ClientGone);
        }
        if deserted(&mut self.down, &self.app, now) {
            return Err(Ending::AppGone);
        }
        self.look_after();
        Ok(())
    }

    async fn end(mut self, ending: Ending) {
        tracing::debug!(?ending, "a tunnel ended");
        let Self { proxy, client, app, up, down, .. } = &mut self;
        let cut = &proxy.config.cut;
        let farewell = Words { message: cut.ws_message.as_deref(), code: cut.ws_code, reason: &cut.ws_reason };
        let words = match ending {
            Ending::ClientGone => return goodbye::pass_on(&mut up.lane, app).await,
            Ending::AppGone => return goodbye::pass_on(&mut down.lane, client).await,
            Ending::Cut | Ending::Refused => farewell,
            Ending::Invalid => PROTOCOL_ERROR,
            Ending::Stopping => GOING_AWAY,
        };
        goodbye::say(client, app, &mut up.lane, &mut down.lane, &words).await;
    }
}

/// Passes on what need not be examined, directly where it can be written at once. What has to wait behind a verdict
/// waits in the backlog.
fn relay_rest(way: &mut Way, rest: &[u8], to: &Stream, seen: &mut Seen) -> io::Result<()> {
    if way.verdict.is_some() {
        way.backlog.extend(rest);
        return flush(&mut way.lane, to);
    }
    flush(&mut way.lane, to)?;
    if rest.is_empty() {
        return Ok(());
    }
    way.lane.follow(rest, seen);
    let written = if way.lane.unsent.is_empty() { try_write(rest, to)? } else { 0 };
    if let Some(unwritten) = rest.get(written..).filter(|unwritten| !unwritten.is_empty()) {
        way.lane.unsent.extend(unwritten);
    }
    Ok(())
}

fn flush(lane: &mut Lane, to: &Stream) -> io::Result<()> {
    while !lane.unsent.is_empty() {
        match try_write(lane.unsent.as_slice(), to)? {
            0 => break,
            count => lane.unsent.consume(count),
        }
    }
    Ok(())
}

/// Writes what can be written now; 0 where nothing can.
fn try_write(bytes: &[u8], to: &Stream) -> io::Result<usize> {
    match to.try_write(bytes) {
        Err(error) if is_momentary(&error) => Ok(0),
        written => written,
    }
}

/// Whether the sender has gone for long enough while the receiver is stuck. Reading stops then, so nobody else would
/// notice.
fn deserted(way: &mut Way, sender: &Stream, now: Moment) -> bool {
    if way.lane.unsent.is_empty() {
        way.deserted = None;
        return false;
    }
    let mut context = Context::from_waker(Waker::noop());
    let readiness = std::pin::pin!(sender.ready(Interest::READABLE)).poll(&mut context);
    if matches!(readiness, Poll::Ready(Ok(ready)) if ready.is_read_closed()) {
        let since = *way.deserted.get_or_insert(now);
        return now.since(since) >= TROUBLE_AT_MOST;
    }
    false
}

/// Looks at every token of an offer: a single dead one refuses.
async fn weigh(proxy: Arc<Proxy>, offer: Offer) -> Verdict {
    for id in &offer.ids {
        if matches!(proxy.keeper.standing(*id).await, Standing::Ended) {
            return refuse(&proxy, *id);
        }
    }
    Verdict::Offer(offer)
}

async fn accepted(proxy: Arc<Proxy>, id: SessionId) -> Verdict {
    match proxy.keeper.accept(id).await {
        Standing::Live(session) => Verdict::Move(Some(session)),
        Standing::Unknown => Verdict::Move(None),
        Standing::Ended => refuse(&proxy, id),
    }
}

fn refuse(proxy: &Proxy, id: SessionId) -> Verdict {
    proxy.keeper.counts.refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(session = %id, "a dead token was refused on a tunnel");
    Verdict::Refuse
}

fn interest(read: bool, write: bool) -> Option<Interest> {
    match (read, write) {
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (true, false) => Some(Interest::READABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}

async fn readiness(stream: &Stream, interest: Option<Interest>) -> io::Result<Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => std::future::pending().await,
    }
}

async fn some<F: Future>(future: &mut Option<Pin<Box<F>>>) -> F::Output
where
    F: ?Sized,
{
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn any_cut(bound: &mut [Bound]) {
    std::future::poll_fn(|cx| {
        let cut = bound.iter_mut().any(|bound| bound.cut.as_mut().poll(cx).is_ready());
        if cut { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
