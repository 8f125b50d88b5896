//! A tunnel: two sockets, and bytes relayed between them as they are.
//!
//! One task per tunnel, woken by its sockets, by the cut, and by nothing else while nothing moves. It reads into space
//! that all tunnels of a thread share, and keeps bytes of its own only while a peer is too slow to take them.

mod attached;
mod awaited;
mod direction;
mod keepalive;
mod leaving;
mod stuck;
mod tokens;

use super::Proxy;
use super::buffer::with_scratch;
use super::cut::{self, Words, is_momentary};
use super::reach::ClientReach;
use super::relay::{IgnoredMessage, Relay, Seen};
use crate::audit::Caller;
use crate::metrics::CountedGuard;
use crate::registry::{Attachment, Closed};
use crate::session::{Mode, Reason, Source};
use crate::stream::Stream;
use crate::token::{Carrier, InBand};
use crate::websocket::Side;
use attached::AttachedSessions;
pub(super) use awaited::AwaitedToken;
use direction::Direction;
use keepalive::KeptAlive;
use leaving::Leaving;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use stuck::Trouble;
use tokens::TokenVerdict;

/// What is wrong with a tunnel whose client, or app, sent an invalid frame (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: Words<'static> = Words { message: None, code: 1002, reason: "Protocol error" };
const TRY_AGAIN_LATER: Words<'static> = Words { message: None, code: 1013, reason: "Try again later" };
/// The client is to connect again: another idlegate, or the next one, takes it (RFC 6455's registry of Close codes).
const SERVICE_RESTART: Words<'static> = Words { message: None, code: 1012, reason: "Service restart" };

/// Why a tunnel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    ClientGone,
    AppGone,
    /// One side has gone, and the other takes nothing for longer than [`CLOSE_TIMEOUT`].
    Abandoned,
    /// A session of it has ended, for this reason.
    Cut(Reason),
    /// The client closed after its session had ended, and before it learned of the end.
    Closed,
    /// A dead token was offered on it, whose session ended for this reason; or one that could not be recognised.
    Refused(Reason),
    /// A token was offered that may be dead, and the store does not answer.
    Undecided,
    /// No token was sent in time.
    Missing,
    /// A token was sent on it that the app was not seen to hand out.
    Unknown,
    /// An invalid frame was relayed and the app did not close.
    Invalid,
    /// idlegate drains, and it is this tunnel's turn.
    FleetReply,
}

/// The state of tokens in the messages of a tunnel.
pub(super) struct InBandState {
    pub(super) in_band: InBand,
    /// The client that opened the tunnel.
    pub(super) caller: Caller,
    /// The token that must come in time, until it comes.
    pub(super) awaited: Option<Box<AwaitedToken>>,
}

/// A tunnel being relayed.
pub(super) struct Tunnel {
    proxy: Arc<Proxy>,
    client: Stream,
    app: Stream,
    up: Direction,
    down: Direction,
    /// `None` where no rule looks into messages.
    in_band_state: Option<Box<InBandState>>,
    attached: AttachedSessions,
    trouble: Trouble,
    leaving: Option<Box<Leaving>>,
    kept_alive: KeptAlive,
    /// Whether the client takes what the app sends, once that counts.
    reach: Option<Box<ClientReach>>,
    /// Whose Close came first.
    closed_first: Option<Side>,
    _counted: CountedGuard,
}

impl Tunnel {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        [client, app]: [Stream; 2],
        [up, down]: [Relay; 2],
        in_band_state: Option<Box<InBandState>>,
        attached: Vec<Attachment>,
    ) -> Self {
        let attached = AttachedSessions::new(attached, &proxy.shutdown);
        let (up, down) = (Direction::new(up), Direction::new(down));
        let counted = proxy.metrics().tunnel();
        Self {
            proxy,
            client,
            app,
            up,
            down,
            in_band_state,
            attached,
            trouble: Trouble::default(),
            leaving: None,
            kept_alive: KeptAlive::default(),
            reach: None,
            closed_first: None,
            _counted: counted,
        }
    }

    /// Relays until one side ends it, or it is ended from here. `first` is what was read of each side already.
    ///
    /// A task holds all that its future ever needs, and most tunnels are idle for most of their lives. So nothing is
    /// awaited here but a single poll function, and what only the end needs is in a box of its own. And the sockets are
    /// polled: each remembers one task to wake, which was hyper's, and would keep the memory of that task to the end.
    pub(super) fn run(mut self, first: [bytes::Bytes; 2]) -> impl Future<Output = ()> + Send {
        let [from_client, from_app] = first;
        self.came(Side::Client, from_client.len());
        self.came(Side::Server, from_app.len());
        let begun = self.take(Side::Client, &from_client).and_then(|()| self.take(Side::Server, &from_app));
        async move {
            let ending = match begun {
                Ok(()) => poll_fn(|cx| self.relay(cx)).await,
                Err(ending) => ending,
            };
            Box::pin(self.end(ending)).await;
        }
    }

    fn relay(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            match self.turn(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(ending) => return Poll::Ready(ending),
            }
        }
    }

    /// One turn for each side with work to do; returns whether there was any. Between two fast peers, tokio's budget
    /// makes their sockets look not ready after a while, so that the thread's other tunnels run.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Ending> {
        if self.leaving.is_none()
            && let Poll::Ready(ending) = self.attached.poll(&self.proxy.shutdown, cx)
        {
            let Ending::Cut(reason) = ending else { return Err(ending) };
            self.leave(reason)?;
        }
        if let Some(leaving) = &mut self.leaving
            && let Poll::Ready(reason) = leaving.poll(cx)
        {
            return Err(Ending::Cut(reason));
        }
        let mut moved = false;
        if self.trouble.poll(cx).is_ready() {
            let now = self.proxy.registry.clock().now();
            self.trouble.check([(&mut self.up, &self.client), (&mut self.down, &self.app)], now)?;
            self.look_for_trouble();
            moved = true;
        }
        self.poll_awaited(cx)?;
        if let Poll::Ready(verdict) = poll_some(&mut self.up.verdict, cx) {
            self.decided_up(verdict)?;
            moved = true;
        }
        if let Poll::Ready(verdict) = poll_some(&mut self.down.verdict, cx) {
            self.decided_down(verdict)?;
            moved = true;
        }
        for side in [Side::Client, Side::Server] {
            moved |= self.write(side, cx)?;
            moved |= self.read(side, cx)?;
        }
        Ok(moved)
    }

    /// A session of the tunnel has ended: the tunnel ends now, or stays open for the delay that is configured.
    fn leave(&mut self, reason: Reason) -> Result<(), Ending> {
        let delay = self.proxy.current.load().cut.words(reason).delay;
        if delay.is_zero() {
            return Err(Ending::Cut(reason));
        }
        self.leaving = Some(Box::new(Leaving::begin(&mut self.up, reason, delay)));
        Ok(())
    }

    fn look_for_trouble(&mut self) {
        self.trouble.look([&self.up, &self.down], self.proxy.registry.clock());
    }

    /// The socket of one side, and how the tunnel ends if it breaks.
    fn socket(&self, side: Side) -> (&Stream, Ending) {
        match side {
            Side::Client => (&self.client, Ending::ClientGone),
            Side::Server => (&self.app, Ending::AppGone),
        }
    }

    /// Writes to one side what waits to be written, where it can be.
    fn write(&mut self, side: Side, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let (stream, direction, gone) = match side {
            Side::Client => (&self.client, &mut self.down, Ending::ClientGone),
            Side::Server => (&self.app, &mut self.up, Ending::AppGone),
        };
        if direction.relay.unsent.is_empty() {
            return Ok(false);
        }
        match stream.poll_write_ready(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(ready) => ready.map_err(|_| gone)?,
        }
        if direction.flush(stream).is_err() {
            direction.stop_writing(self.proxy.registry.clock().now());
            self.look_for_trouble();
        }
        Ok(true)
    }

    /// Reads what one side has sent, if there is room for it.
    fn read(&mut self, side: Side, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let direction = if side == Side::Client { &self.up } else { &self.down };
        if !direction.wants_input() {
            return Ok(false);
        }
        let (stream, gone) = self.socket(side);
        match stream.poll_read_ready(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(ready) => ready.map_err(|_| gone)?,
        }
        with_scratch(|scratch| match self.socket(side).0.try_read(scratch) {
            Ok(0) => Err(gone),
            Ok(count) => {
                self.came(side, count);
                self.take(side, scratch.get(..count).unwrap_or_default())
            }
            Err(error) if is_momentary(&error) => Ok(()),
            Err(_) => Err(gone),
        })?;
        Ok(true)
    }

    /// Counts what is read, once. What the last seconds of a tunnel still bring is not among it.
    fn came(&self, side: Side, count: usize) {
        self.proxy.metrics().bytes(side, count);
    }

    /// Bytes of one side: followed, examined where a rule asks for it, passed on to the other.
    fn take(&mut self, side: Side, input: &[u8]) -> Result<(), Ending> {
        if side == Side::Client && self.leaving.is_some() {
            return Leaving::ignore(&mut self.up, input);
        }
        let mut seen = Seen::default();
        let mut rest = input;
        loop {
            let direction = if side == Side::Client { &mut self.up } else { &mut self.down };
            if !direction.relay.examining || rest.is_empty() || direction.verdict.is_some() {
                break;
            }
            let (taken, examined) = direction.relay.examine(rest, &mut seen, self.proxy.may_hold());
            rest = rest.get(taken..).unwrap_or_default();
            match (side, examined) {
                (_, None) => {}
                (Side::Client, Some(examined)) => self.client_says(examined)?,
                (Side::Server, Some(examined)) => self.app_says(examined)?,
            }
        }
        let (direction, to) = match side {
            Side::Client => (&mut self.up, &self.app),
            Side::Server => (&mut self.down, &self.client),
        };
        if direction.pass(rest, to, &mut seen).is_err() {
            // The receiver has gone. It may have sent something before, which must still be read.
            direction.stop_writing(self.proxy.registry.clock().now());
        }
        self.refresh(side, seen);
        if seen.close {
            self.closed_first.get_or_insert(side);
        }
        if seen.pong && side == Side::Client {
            self.keep_alive();
        }
        self.look_for_trouble();
        Ok(())
    }

    /// The client sent a pong.
    fn keep_alive(&mut self) {
        let Self { proxy, up, down, app, attached, .. } = self;
        let Some(keepalive) = &proxy.keepalive else { return };
        if attached.is_unattached() || proxy.registry.mode() == Mode::Off {
            return;
        }
        if self.kept_alive.send(keepalive, [up, down], app, proxy.registry.clock().now()) {
            proxy.metrics().keepalives.inc();
        }
    }

    fn refresh(&mut self, side: Side, seen: Seen) {
        if seen.frames > 0 {
            self.proxy.metrics().frames(side, seen.frames);
        }
        let activity = self.proxy.activity;
        match side {
            Side::Client if seen.data && activity.client_frames => self.touch(Source::ClientFrame, seen),
            Side::Client if seen.pong && activity.client_pongs => self.touch(Source::ClientPong, seen),
            Side::Server if seen.data && activity.server_frames => self.touch(Source::ServerFrame, seen),
            _ => {}
        }
        if let Some(ignored) = seen.ignored {
            self.note_ignored(side, ignored);
        }
    }

    fn touch(&mut self, source: Source, seen: Seen) {
        if self.attached.is_unattached() {
            return;
        }
        let now = self.proxy.registry.clock().now();
        let Self { proxy, client, reach, .. } = self;
        let ask = || client.ends().and_then(|[local, peer]| proxy.system.sent(local, peer));
        if source == Source::ServerFrame && !reach.get_or_insert_with(|| Box::new(ClientReach::new())).takes(now, ask) {
            return;
        }
        self.proxy.metrics().active(source);
        let side = match source {
            Source::ClientFrame => Side::Client,
            Source::ServerFrame => Side::Server,
            _ => return self.attached.touch(now, source),
        };
        let frame = (side, seen.length);
        self.attached.touch_by_frame(now, frame);
        self.attached.sessions().for_each(|session| self.proxy.registry.watch.message(now, session, frame));
    }

    /// Counts messages that rules keep from counting as activity.
    fn note_ignored(&mut self, side: Side, last: IgnoredMessage) {
        let Self { proxy, up, down, attached, .. } = self;
        let direction = if side == Side::Client { up } else { down };
        let mut all = 0;
        for (rule, count) in direction.relay.take_ignored() {
            proxy.metrics().ignored(rule, count);
            all += count;
        }
        attached.ignored_messages(proxy.registry.clock().now(), last.rule, (side, last.size, all));
    }

    /// Notes in the tunnel's sessions how it ended.
    fn note_in_sessions(&self, ending: Ending) {
        let current = self.proxy.current.load();
        let (by, close) = match (self.closed_first, ending) {
            (Some(Side::Client), _) => ("client", self.up.relay.close()),
            (Some(Side::Server), _) => ("app", self.down.relay.close()),
            (None, Ending::ClientGone) => ("client", None),
            (None, Ending::AppGone) => ("app", None),
            (None, Ending::Closed | Ending::Abandoned) => ("idlegate", None),
            (None, Ending::Cut(reason) | Ending::Refused(reason)) => {
                ("idlegate", Some(Words::of(current.cut.words(reason)).close()))
            }
            (None, Ending::Undecided) => ("idlegate", Some(TRY_AGAIN_LATER.close())),
            (None, Ending::Missing) => ("idlegate", Some(Words::of(&current.cut.missing).close())),
            (None, Ending::Unknown) => ("idlegate", Some(Words::of(&current.cut.unknown).close())),
            (None, Ending::Invalid) => ("idlegate", Some(PROTOCOL_ERROR.close())),
            (None, Ending::FleetReply) => ("idlegate", Some(SERVICE_RESTART.close())),
        };
        self.attached.closed_by(&Closed { at: self.proxy.registry.clock().now(), by, close });
    }

    async fn end(mut self, ending: Ending) {
        tracing::debug!(?ending, "a tunnel ended");
        self.note_in_sessions(ending);
        let Self { proxy, client, app, up, down, attached, in_band_state, leaving, .. } = &mut self;
        for tolerated in attached.ended_tolerations() {
            let caller = in_band_state.as_deref().map(|in_band_state| &in_band_state.caller);
            proxy.registry.decisions.refusal(tolerated.id, &tolerated.ended, Carrier::Tunnel, caller);
        }
        let current = proxy.current.load();
        let words = match ending {
            Ending::Abandoned => return,
            Ending::ClientGone => {
                up.release_unless_judged();
                return cut::pass_on(client, app, &mut up.relay, &mut down.relay).await;
            }
            Ending::AppGone => {
                down.release_unless_judged();
                return cut::pass_on(app, client, &mut down.relay, &mut up.relay).await;
            }
            Ending::Cut(reason) | Ending::Refused(reason) => Words::of(current.cut.words(reason)),
            Ending::Missing => Words::of(&current.cut.missing),
            Ending::Unknown => Words::of(&current.cut.unknown),
            Ending::Closed => Words { message: None, code: 1000, reason: "" },
            Ending::Undecided => TRY_AGAIN_LATER,
            Ending::Invalid => PROTOCOL_ERROR,
            Ending::FleetReply => SERVICE_RESTART,
        };
        // A message that the app has begun is completed, so that ours can follow; but not one that may not be seen.
        // What the client has begun is its app's no more.
        let completes =
            !matches!(ending, Ending::Refused(_) | Ending::Unknown | Ending::Undecided) && down.verdict.is_none();
        down.relay.give_up_examining(completes);
        up.relay.give_up_examining(false);
        // Within a frame that the app has half of, nothing can be inserted.
        let to_app = leaving.as_ref().is_none_or(|leaving| leaving.whole);
        cut::say(client, app, &mut up.relay, &mut down.relay, &words, to_app).await;
    }
}

fn poll_some<F: Future + ?Sized>(future: &mut Option<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.as_mut().map_or(Poll::Pending, |future| future.as_mut().poll(cx))
}
