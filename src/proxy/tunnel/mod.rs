//! A tunnel: two sockets, and bytes relayed between them as they are.
//!
//! One task per tunnel, woken by its sockets, by the cut, and by nothing else while nothing moves. It reads into space
//! that all tunnels of a thread share, and keeps bytes of its own only while a peer is too slow to take them.

mod ends;
mod trouble;
mod verdict;
mod way;

use super::Proxy;
use super::buffer::with_scratch;
use super::goodbye::{self, Words, is_momentary};
use super::lane::{Lane, Seen};
use super::upstream::Stream;
use crate::clock::Moment;
use crate::frame::Side;
use crate::keeper::Attached;
use crate::metrics::Counted;
use crate::session::Source;
use crate::token::InBand;
use ends::Ends;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{Interest, Ready};
use verdict::Verdict;
use way::Way;

/// What is wrong with a tunnel whose client, or app, sent an invalid frame (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: Words<'static> = Words { message: None, code: 1002, reason: "Protocol error" };
const TRY_AGAIN_LATER: Words<'static> = Words { message: None, code: 1013, reason: "Try again later" };
const GOING_AWAY: Words<'static> = Words { message: None, code: 1001, reason: "Going away" };

/// Why a tunnel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    ClientGone,
    AppGone,
    /// One side has gone, and the other takes nothing for as long as a farewell may last.
    Deserted,
    /// A session of it was cut.
    Cut,
    /// A dead token, or one that could not be recognised, was offered on it.
    Refused,
    /// A token was offered that may be dead, and the store does not answer.
    Undecided,
    /// An invalid frame was relayed and the app did not close.
    Invalid,
    /// idlegate stops.
    Stopping,
}

/// A tunnel being relayed.
pub(super) struct Tunnel {
    proxy: Arc<Proxy>,
    client: Stream,
    app: Stream,
    up: Way,
    down: Way,
    in_band: InBand,
    ends: Ends,
    invalid: Option<Moment>,
    chores: Option<Pin<Box<tokio::time::Sleep>>>,
    _counted: Counted,
}

impl Tunnel {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        [client, app]: [Stream; 2],
        [up, down]: [Lane; 2],
        in_band: InBand,
        attached: Vec<Attached>,
    ) -> Self {
        let ends = Ends::new(attached, proxy.shutdown.clone());
        let (up, down) = (Way::new(up), Way::new(down));
        let counted = proxy.metrics().tunnel();
        Self { proxy, client, app, up, down, in_band, ends, invalid: None, chores: None, _counted: counted }
    }

    /// Relays until one side ends it, or it is ended from here. `first` is what was read of each side already.
    pub(super) async fn run(mut self: Box<Self>, first: [bytes::Bytes; 2]) {
        let [from_client, from_app] = &first;
        self.came(Side::Client, from_client.len());
        self.came(Side::Server, from_app.len());
        let begun = self.take(Side::Client, from_client).and_then(|()| self.take(Side::Server, from_app));
        drop(first);
        let ending = match begun {
            Ok(()) => self.relay().await,
            Err(ending) => ending,
        };
        // Boxed, so that an idle tunnel does not carry the room that only its end needs.
        Box::pin(self.end(ending)).await;
    }

    async fn relay(&mut self) -> Ending {
        let mut turn = Side::Client;
        loop {
            // A pair of fast peers must leave room for the thread's other tunnels.
            tokio::task::coop::consume_budget().await;
            let Self { client, app, up, down, ends, chores, .. } = self;
            let from_client = interest(up.wants_input(), !down.lane.unsent.is_empty());
            let from_app = interest(down.wants_input(), !up.lane.unsent.is_empty());
            let step = tokio::select! {
                biased;
                ending = poll_fn(|cx| ends.poll(cx)) => return ending,
                () = some(chores) => self.do_chores(),
                verdict = some(&mut up.verdict) => self.decided_up(verdict),
                verdict = some(&mut down.verdict) => self.decided_down(verdict),
                (side, ready) = either((client, from_client), (app, from_app), turn) => {
                    // The other one first, next time.
                    turn = if side == Side::Client { Side::Server } else { Side::Client };
                    self.ready(side, ready)
                }
            };
            if let Err(ending) = step {
                return ending;
            }
        }
    }

    fn stream(&self, side: Side) -> &Stream {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.app,
        }
    }

    /// The socket of one side can take or give something.
    fn ready(&mut self, side: Side, ready: io::Result<Ready>) -> Result<(), Ending> {
        let (from, to, gone) = match side {
            Side::Client => (&self.up, &mut self.down, Ending::ClientGone),
            Side::Server => (&self.down, &mut self.up, Ending::AppGone),
        };
        let ready = ready.map_err(|_| gone)?;
        let wants_input = from.wants_input();
        if ready.is_writable() {
            let stream = if side == Side::Client { &self.client } else { &self.app };
            if to.flush(stream).is_err() {
                to.stop_writing(self.proxy.keeper.clock().now());
                self.look_after();
            }
        }
        if !(ready.is_readable() || ready.is_read_closed()) || !wants_input {
            return Ok(());
        }
        with_scratch(|scratch| match self.stream(side).try_read(scratch) {
            Ok(0) => Err(gone),
            Ok(count) => {
                self.came(side, count);
                self.take(side, scratch.get(..count).unwrap_or_default())
            }
            Err(error) if is_momentary(&error) => Ok(()),
            Err(_) => Err(gone),
        })
    }

    /// Counts what is read, once. What the last seconds of a tunnel still bring is not among it.
    fn came(&self, side: Side, count: usize) {
        self.proxy.metrics().bytes(side, count);
    }

    /// Bytes of one side: followed, examined where a rule asks for it, passed on to the other.
    fn take(&mut self, side: Side, input: &[u8]) -> Result<(), Ending> {
        let mut seen = Seen::default();
        let mut rest = input;
        loop {
            let way = if side == Side::Client { &mut self.up } else { &mut self.down };
            if !way.lane.examining || rest.is_empty() || way.verdict.is_some() {
                break;
            }
            let (taken, examined) = way.lane.examine(rest, &mut seen);
            rest = rest.get(taken..).unwrap_or_default();
            match (side, examined) {
                (_, None) => {}
                (Side::Client, Some(examined)) => self.client_says(examined)?,
                (Side::Server, Some(examined)) => self.app_says(examined)?,
            }
        }
        let (way, to) = match side {
            Side::Client => (&mut self.up, &self.app),
            Side::Server => (&mut self.down, &self.client),
        };
        if way.pass(rest, to, &mut seen).is_err() {
            // The receiver has gone. It may have said something before it went, which is still to be read.
            way.stop_writing(self.proxy.keeper.clock().now());
        }
        self.refresh(side, seen);
        self.look_after();
        Ok(())
    }

    fn refresh(&self, side: Side, seen: Seen) {
        if seen.frames > 0 {
            self.proxy.metrics().frames(side, seen.frames);
        }
        let activity = self.proxy.config.activity;
        match side {
            Side::Client if seen.data && activity.client_frames => self.touch(Source::ClientFrame),
            Side::Client if seen.pong && activity.client_pongs => self.touch(Source::ClientPong),
            Side::Server if seen.data && activity.server_frames => self.touch(Source::ServerFrame),
            _ => {}
        }
    }

    fn touch(&self, source: Source) {
        if !self.ends.is_nobodys() {
            self.proxy.metrics().active(source);
            self.ends.touch(self.proxy.keeper.clock().now(), source);
        }
    }

    async fn end(mut self: Box<Self>, ending: Ending) {
        tracing::debug!(?ending, "a tunnel ended");
        let Self { proxy, client, app, up, down, .. } = &mut *self;
        let cut = &proxy.config.cut;
        let farewell = Words { message: cut.ws_message.as_deref(), code: cut.ws_code, reason: &cut.ws_reason };
        let words = match ending {
            Ending::Deserted => return,
            Ending::ClientGone => {
                up.release_unless_judged();
                return goodbye::pass_on(client, app, &mut up.lane, &mut down.lane).await;
            }
            Ending::AppGone => {
                down.release_unless_judged();
                return goodbye::pass_on(app, client, &mut down.lane, &mut up.lane).await;
            }
            Ending::Cut | Ending::Refused => farewell,
            Ending::Undecided => TRY_AGAIN_LATER,
            Ending::Invalid => PROTOCOL_ERROR,
            Ending::Stopping => GOING_AWAY,
        };
        // A message that the app has begun is completed, so that ours can follow; but not one that may not be seen.
        // What the client has begun is its app's no more.
        let completes = !matches!(ending, Ending::Refused | Ending::Undecided) && down.verdict.is_none();
        down.lane.give_up_examining(completes);
        up.lane.give_up_examining(false);
        goodbye::say(client, app, &mut up.lane, &mut down.lane, &words).await;
    }
}

fn interest(read: bool, write: bool) -> Option<Interest> {
    match (read, write) {
        (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
        (true, false) => Some(Interest::READABLE),
        (false, true) => Some(Interest::WRITABLE),
        (false, false) => None,
    }
}

/// Whichever socket is ready. Where both are, it is that of the side whose turn it is.
async fn either(
    client: (&Stream, Option<Interest>),
    app: (&Stream, Option<Interest>),
    turn: Side,
) -> (Side, io::Result<Ready>) {
    let (other, first, second) = match turn {
        Side::Client => (Side::Server, client, app),
        Side::Server => (Side::Client, app, client),
    };
    tokio::select! {
        biased;
        ready = readiness(first) => (turn, ready),
        ready = readiness(second) => (other, ready),
    }
}

async fn readiness((stream, interest): (&Stream, Option<Interest>)) -> io::Result<Ready> {
    match interest {
        Some(interest) => stream.ready(interest).await,
        None => std::future::pending().await,
    }
}

async fn some<F: Future + ?Sized>(future: &mut Option<Pin<Box<F>>>) -> F::Output {
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
