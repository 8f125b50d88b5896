//! Tokens on a tunnel: what the client offers waits for a look at its session, and what accepts it for the session.

use super::{Ending, Talk, Tunnel};
use crate::audit::Caller;
use crate::frame::Side;
use crate::keeper::{Attached, Standing};
use crate::proxy::Proxy;
use crate::proxy::lane::{Examined, Seen};
use crate::session::{Mode, Reason, SessionId};
use crate::store::Ended;
use crate::token::{Carrier, ClientMessage, Offer, ServerMessage};
use std::sync::Arc;

/// Whose token cannot be told is refused in the words of an idle session: its client is to log in again.
const UNRECOGNISED: Ending = Ending::Refused(Reason::Idle);

/// What becomes of a message that had to wait for somebody's word.
pub(super) enum Verdict {
    /// It offers tokens that are not dead.
    Offer(Offer),
    /// It carries a dead token, whose session ended for this reason.
    Refuse(Reason),
    /// It carries a token that may be dead, and nobody can tell now.
    Undecided,
    /// The app accepted: the tunnel belongs to this session from now on, to none where it is not tracked.
    Move(Option<Attached>),
}

impl Tunnel {
    pub(super) fn client_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let lane = &mut self.up.lane;
        let Some(Talk { in_band, caller }) = self.talk.as_deref_mut() else {
            lane.release();
            return Ok(());
        };
        if examined == Examined::Piece {
            let last = lane.has_ended_long();
            let offer = in_band.client_piece(lane.message.as_slice(), last);
            lane.message.keep_last(if last { 0 } else { in_band.overlap() });
            if offer.is_some() && self.ends.is_nobodys() && self.enforces() {
                // Nobody knows whose it is. Were it a dead token's, the app would act on what follows before its answer
                // could tell.
                self.proxy.metrics().unrecognised.inc();
                tracing::warn!(
                    "a message too long to be examined seems to offer the first token of a tunnel; it is refused"
                );
                return Err(UNRECOGNISED);
            }
            return offer.map_or(Ok(()), |offer| self.offer(offer));
        }
        match in_band.client_message(lane.message.as_slice()) {
            ClientMessage::Other => lane.release(),
            ClientMessage::Offer(offer) => {
                in_band.rules_of(&offer).for_each(|rule| self.proxy.metrics().matched(rule));
                lane.message.clear();
                self.up.verdict = Some(Box::pin(weigh(Arc::clone(&self.proxy), offer, caller.clone())));
            }
        }
        Ok(())
    }

    pub(super) fn app_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let enforces = self.enforces();
        let lane = &mut self.down.lane;
        let Some(Talk { in_band, caller }) = self.talk.as_deref_mut() else {
            lane.release();
            return Ok(());
        };
        if examined == Examined::Piece {
            lane.message.clear();
            if in_band.server_piece() {
                tracing::warn!(
                    "a message of the app is too long to be examined, and a token waits for its answer; if this is the \
                     answer, its session is not tracked"
                );
            }
            return Ok(());
        }
        match in_band.server_message(lane.message.as_slice()) {
            ServerMessage::Other => lane.release(),
            ServerMessage::Accepted(id) => {
                self.proxy.metrics().unmatched.matched();
                lane.message.clear();
                self.down.verdict = Some(Box::pin(accepted(Arc::clone(&self.proxy), id, caller.clone())));
            }
            ServerMessage::Unrecognised if !enforces => lane.release(),
            ServerMessage::Unrecognised => {
                self.proxy.metrics().unrecognised.inc();
                tracing::warn!("the app accepted a token that no rule recognised; the tunnel is refused");
                return Err(UNRECOGNISED);
            }
        }
        Ok(())
    }

    /// Whether what cannot be recognised is refused.
    fn enforces(&self) -> bool {
        self.proxy.keeper.mode() == Mode::Enforce
    }

    fn offer(&mut self, offer: Offer) -> Result<(), Ending> {
        let fits = self.talk.as_mut().is_none_or(|talk| talk.in_band.offered(offer));
        if fits || !self.enforces() {
            return Ok(());
        }
        self.proxy.metrics().unrecognised.inc();
        tracing::warn!("too many tokens were offered on a tunnel before any was answered; it is refused");
        Err(UNRECOGNISED)
    }

    pub(super) fn decided_up(&mut self, verdict: Verdict) -> Result<(), Ending> {
        self.up.verdict = None;
        match verdict {
            Verdict::Offer(offer) => self.offer(offer)?,
            Verdict::Refuse(reason) => return Err(Ending::Refused(reason)),
            Verdict::Undecided => return Err(Ending::Undecided),
            Verdict::Move(_) => {}
        }
        self.up.lane.release();
        let backlog = std::mem::take(&mut self.up.backlog);
        self.take(Side::Client, backlog.as_slice())
    }

    pub(super) fn decided_down(&mut self, verdict: Verdict) -> Result<(), Ending> {
        self.down.verdict = None;
        match verdict {
            Verdict::Move(attached) => {
                self.ends.move_to(attached);
                // The message that offered the token was its session's first activity on this tunnel.
                self.refresh(Side::Client, Seen { data: true, ..Seen::default() });
            }
            Verdict::Refuse(reason) => return Err(Ending::Refused(reason)),
            Verdict::Offer(_) | Verdict::Undecided => {}
        }
        self.down.lane.release();
        let backlog = std::mem::take(&mut self.down.backlog);
        self.take(Side::Server, backlog.as_slice())
    }
}

/// Looks at every token of an offer: a single dead one refuses.
async fn weigh(proxy: Arc<Proxy>, offer: Offer, caller: Caller) -> Verdict {
    for id in &offer.ids {
        match proxy.keeper.standing(*id).await {
            Standing::Ended(ended) => return refuse(&proxy, *id, &ended, &caller),
            Standing::Excused(excuse) => {
                proxy.keeper.record_would_refuse(*id, &excuse.ended, Carrier::Tunnel, Some(&caller));
            }
            Standing::Undecided => return Verdict::Undecided,
            Standing::Live(_) | Standing::Unknown => {}
        }
    }
    Verdict::Offer(offer)
}

async fn accepted(proxy: Arc<Proxy>, id: SessionId, caller: Caller) -> Verdict {
    match proxy.keeper.accept(id, Some(&caller)).await {
        Standing::Live(session) => Verdict::Move(Some(Attached::new(session))),
        // Its offer was recorded; that the app takes it is not decided here.
        Standing::Excused(excuse) => Verdict::Move(Some(Attached::excused(excuse))),
        Standing::Unknown | Standing::Undecided => Verdict::Move(None),
        Standing::Ended(ended) => refuse(&proxy, id, &ended, &caller),
    }
}

fn refuse(proxy: &Proxy, id: SessionId, ended: &Ended, caller: &Caller) -> Verdict {
    proxy.keeper.record_refusal(id, ended, Carrier::Tunnel, Some(caller));
    Verdict::Refuse(ended.reason)
}
