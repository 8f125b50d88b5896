//! Whose a tunnel is, and what can end it from outside: a cut of its session, or a drain of idlegate.

use super::Ending;
use crate::clock::Moment;
use crate::registry::{Attachment, Closed, Tolerated};
use crate::session::{SessionId, Source};
use crate::shutdown::{Shutdown, Turn};
use crate::websocket::Side;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio_util::sync::WaitForCancellationFutureOwned;

type CutWait = Pin<Box<WaitForCancellationFutureOwned>>;

/// The sessions of a tunnel, with the signals that end it.
pub(super) struct AttachedSessions {
    bound: Box<[(Attachment, CutWait)]>,
    turn: Turn,
    /// Whether the tunnel's task is woken by all of the signals. Once it is, it stays so: its waker is always the same.
    listening: bool,
}

impl AttachedSessions {
    pub(super) fn new(attached: Vec<Attachment>, shutdown: &Shutdown) -> Self {
        let bound = attached.into_iter().map(bind).collect();
        Self { bound, turn: shutdown.turn(), listening: false }
    }

    /// From now on the tunnel belongs to this one, and to no other.
    pub(super) fn move_to(&mut self, attached: Option<Attachment>) {
        self.bound = attached.map(bind).into_iter().collect();
        self.listening = false;
    }

    pub(super) fn is_unattached(&self) -> bool {
        self.bound.is_empty()
    }

    /// The tolerated ends that keep the tunnel open, where they are over.
    pub(super) fn ended_tolerations(&self) -> impl Iterator<Item = &Tolerated> {
        let cut = self.bound.iter().map(|(attached, _)| attached).filter(|attached| attached.is_cut());
        cut.filter_map(Attachment::as_tolerated)
    }

    /// The tunnel has ended.
    pub(super) fn closed_by(&self, closed: &Closed) {
        self.bound.iter().for_each(|(attached, _)| attached.closed_by(closed.clone()));
    }

    /// The live sessions of the tunnel.
    pub(super) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.bound.iter().filter_map(|(attached, _)| attached.session())
    }

    pub(super) fn touch(&self, at: Moment, source: Source) {
        self.bound.iter().for_each(|(attached, _)| attached.touch(at, source));
    }

    pub(super) fn touch_by_frame(&self, at: Moment, frame: (Side, u64)) {
        self.bound.iter().for_each(|(attached, _)| attached.touch_by_frame(at, frame));
    }

    pub(super) fn ignored_messages(&self, at: Moment, rule: usize, messages: (Side, u64, u64)) {
        self.bound.iter().for_each(|(attached, _)| attached.ignored_messages(at, rule, messages));
    }

    /// Ready when the tunnel must close. Called for every frame, so the signals, which take a lock each, are polled
    /// only until they are registered; afterwards one atomic tells whether they have fired.
    pub(super) fn poll(&mut self, shutdown: &Shutdown, cx: &mut Context<'_>) -> Poll<Ending> {
        if !self.listening {
            for (_, cut) in &mut self.bound {
                // Whether it has fired by now is seen below.
                let _ = cut.as_mut().poll(cx);
            }
        }
        if let Some(reason) = self.bound.iter().find_map(|(attached, _)| attached.reason()) {
            return Poll::Ready(Ending::Cut(reason));
        }
        // Without a drain its turn cannot have come.
        if (!self.listening || shutdown.is_draining()) && self.turn.poll(shutdown, cx).is_ready() {
            return Poll::Ready(Ending::FleetReply);
        }
        self.listening = true;
        Poll::Pending
    }
}

fn bind(attached: Attachment) -> (Attachment, CutWait) {
    let cut = Box::pin(attached.cut());
    (attached, cut)
}
