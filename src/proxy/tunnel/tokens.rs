//! Tokens on a tunnel: what the client offers waits for a look at its session, and what accepts it for the session.

use super::{Ending, InBandState, Tunnel};
use crate::audit::Caller;
use crate::proxy::Proxy;
use crate::proxy::refusals::Refusal;
use crate::proxy::relay::{Examined, Seen};
use crate::registry::{Attachment, Origin, Registry, Resolved};
use crate::session::{Mode, Reason, SessionId};
use crate::store::Ended;
use crate::token::{Carrier, ClientMessage, Offer, ServerMessage, TokenRule};
use crate::websocket::{self, Side};
use std::sync::Arc;
use std::task::Context;

/// A token that cannot be checked is refused with the words for an idle session: its client should log in again.
const UNRECOGNISED: Ending = Ending::Refused(Reason::Idle);

/// The outcome for a message that had to wait.
pub(super) enum TokenVerdict {
    /// It offers tokens that are not dead.
    Offer(Offer),
    /// It carries a dead token, whose session ended for this reason.
    Refuse(Reason),
    /// It carries a token that the app was not seen to hand out, or one that cannot be read, and this rule refuses such.
    Unknown(Arc<TokenRule>),
    /// It carries a token that may be dead, which cannot be checked now.
    Undecided,
    /// The app accepted: the tunnel belongs to this session from now on, to none where it is not tracked.
    Move(Option<Attachment>),
}

impl Tunnel {
    /// Ends the tunnel where a token that is required did not come in time.
    pub(super) fn poll_awaited(&mut self, cx: &mut Context<'_>) -> Result<(), Ending> {
        let Some(InBandState { awaited: Some(awaited), caller, .. }) = self.in_band_state.as_deref_mut() else {
            return Ok(());
        };
        if !awaited.is_over(cx) {
            return Ok(());
        }
        let registry = &self.proxy.registry;
        let (mode, is_first) = (registry.mode(), awaited.is_first());
        let enforces = mode == Mode::Enforce;
        if enforces || mode == Mode::Observe && is_first {
            let refusal = Refusal::missing(awaited.rule());
            self.proxy.refusals.record(registry, refusal, Carrier::Tunnel, caller, enforces);
        }
        if enforces { Err(Ending::Missing) } else { Ok(()) }
    }

    pub(super) fn client_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let relay = &mut self.up.relay;
        let Some(InBandState { in_band, caller, awaited }) = self.in_band_state.as_deref_mut() else {
            relay.release();
            return Ok(());
        };
        if examined == Examined::Piece {
            let last = relay.has_ended_long();
            let offer = in_band.client_piece(relay.message.as_slice(), last);
            relay.message.keep_last(if last { 0 } else { in_band.overlap() });
            if offer.is_some() && self.attached.is_unattached() && self.enforces() {
                // Its session is unknown. If the token were dead, the app would act on what follows before its response
                // could tell.
                self.proxy.metrics().unrecognised.inc();
                tracing::warn!(
                    "a message too long to examine may carry the first token of a tunnel; the tunnel is refused"
                );
                return Err(UNRECOGNISED);
            }
            return offer.map_or(Ok(()), |offer| self.offer(offer));
        }
        match in_band.client_message(relay.message.as_slice()) {
            ClientMessage::Other => {
                self.proxy.metrics().unmatched.json("ws-client", relay.message.as_slice());
                relay.release();
            }
            ClientMessage::Offer(offer) => {
                in_band.rules_of(&offer).for_each(|rule| self.proxy.metrics().matched(rule));
                relay.message.clear();
                if offer.has_token() {
                    *awaited = None;
                }
                let rule = in_band.refusing(&offer).cloned();
                self.up.verdict = Some(Box::pin(weigh(Arc::clone(&self.proxy), offer, rule, caller.clone())));
            }
        }
        Ok(())
    }

    pub(super) fn app_says(&mut self, examined: Examined) -> Result<(), Ending> {
        let enforces = self.enforces();
        let relay = &mut self.down.relay;
        let Some(InBandState { in_band, caller, .. }) = self.in_band_state.as_deref_mut() else {
            relay.release();
            return Ok(());
        };
        if examined == Examined::Piece {
            relay.message.clear();
            if in_band.server_piece() {
                tracing::warn!(
                    "a message of the app is too long to examine while a token waits for its response; if this is \
                    the response, the session is not tracked"
                );
            }
            return Ok(());
        }
        match in_band.server_message(relay.message.as_slice()) {
            ServerMessage::Other => {
                self.proxy.metrics().unmatched.json("ws-server", relay.message.as_slice());
                relay.release();
            }
            message @ (ServerMessage::Accepted(id) | ServerMessage::Issued(id)) => {
                self.proxy.metrics().unmatched.matched();
                relay.message.clear();
                let is_issued = matches!(message, ServerMessage::Issued(_));
                let origin = if is_issued { Origin::Issued } else { Origin::Unseen };
                let (proxy, rule) = (Arc::clone(&self.proxy), in_band.first_refusing().cloned());
                self.down.verdict = Some(Box::pin(accepted(proxy, id, origin, rule, caller.clone())));
            }
            ServerMessage::Unrecognised if !enforces => relay.release(),
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
        self.proxy.registry.mode() == Mode::Enforce
    }

    fn offer(&mut self, offer: Offer) -> Result<(), Ending> {
        let fits = self.in_band_state.as_mut().is_none_or(|in_band_state| in_band_state.in_band.offered(offer));
        if fits || !self.enforces() {
            return Ok(());
        }
        self.proxy.metrics().unrecognised.inc();
        tracing::warn!("too many tokens were sent on a tunnel before the app answered any; the tunnel is refused");
        Err(UNRECOGNISED)
    }

    pub(super) fn decided_up(&mut self, verdict: TokenVerdict) -> Result<(), Ending> {
        self.up.verdict = None;
        match verdict {
            TokenVerdict::Offer(offer) => self.offer(offer)?,
            TokenVerdict::Refuse(reason) => return Err(Ending::Refused(reason)),
            TokenVerdict::Undecided => return Err(Ending::Undecided),
            TokenVerdict::Unknown(rule) => self.answer_unknown(&rule)?,
            TokenVerdict::Move(_) => {}
        }
        self.up.relay.release();
        let backlog = std::mem::take(&mut self.up.backlog);
        self.take(Side::Client, backlog.as_slice())
    }

    /// The app never sees the message. Its client gets the configured answer, between two messages of the app; without one, or
    /// where the app has seen the beginning, the tunnel is closed.
    fn answer_unknown(&mut self, rule: &TokenRule) -> Result<(), Ending> {
        let Some(answer) = &rule.unknown_message else { return Err(Ending::Unknown) };
        if !self.down.relay.at_message_boundary() || self.down.verdict.is_some() || !self.up.relay.discard() {
            return Err(Ending::Unknown);
        }
        self.down.relay.unsent.extend(&websocket::text(Side::Server, answer));
        if self.down.flush(&self.client).is_err() {
            self.down.stop_writing(self.proxy.registry.clock().now());
        }
        Ok(())
    }

    pub(super) fn decided_down(&mut self, verdict: TokenVerdict) -> Result<(), Ending> {
        self.down.verdict = None;
        match verdict {
            TokenVerdict::Move(attached) => {
                if let Some(in_band_state) = &mut self.in_band_state {
                    in_band_state.awaited = None;
                }
                self.attached.move_to(attached);
                // The message that offered the token was its session's first activity on this tunnel.
                self.refresh(Side::Client, Seen { data: true, ..Seen::default() });
            }
            TokenVerdict::Refuse(reason) => return Err(Ending::Refused(reason)),
            TokenVerdict::Offer(_) | TokenVerdict::Unknown(_) | TokenVerdict::Undecided => {}
        }
        self.down.relay.release();
        let backlog = std::mem::take(&mut self.down.backlog);
        self.take(Side::Server, backlog.as_slice())
    }
}

/// Looks at every token of an offer: a single dead one refuses. `rule` is the one that refuses unknown tokens.
async fn weigh(proxy: Arc<Proxy>, offer: Offer, rule: Option<Arc<TokenRule>>, caller: Caller) -> TokenVerdict {
    let Registry { table, issues, decisions, .. } = &*proxy.registry;
    let strict = rule.filter(|rule| issues.are_seen(rule.number));
    if let Some(rule) = strict.as_ref().filter(|_| offer.is_unreadable() && proxy.registry.mode() == Mode::Enforce) {
        return TokenVerdict::Unknown(Arc::clone(rule));
    }
    for id in &offer.ids {
        let resolved = match &strict {
            Some(_) => table.resolve_strictly(*id).await,
            None => table.resolve(*id).await,
        };
        match (resolved, &strict) {
            (Resolved::Ended(ended), _) => return refuse(&proxy, *id, &ended, &caller),
            (Resolved::Tolerated(tolerated), _) => {
                decisions.would_refuse(*id, &tolerated.ended, Carrier::Tunnel, Some(&caller));
            }
            (Resolved::Undecided, _) => return TokenVerdict::Undecided,
            (Resolved::NeverSeen, Some(rule)) => {
                let enforces = proxy.registry.mode() == Mode::Enforce;
                let refusal = Refusal::unknown_in_message(rule, *id);
                proxy.refusals.record(&proxy.registry, refusal, Carrier::Tunnel, &caller, enforces);
                if enforces {
                    return TokenVerdict::Unknown(Arc::clone(rule));
                }
            }
            (Resolved::Live(session), Some(rule)) => issues.used(rule, &session),
            (Resolved::Live(_) | Resolved::Unknown | Resolved::Issued | Resolved::NeverSeen, _) => {}
        }
    }
    TokenVerdict::Offer(offer)
}

/// The app accepts a token. `rule` is the one that refuses unknown tokens.
async fn accepted(
    proxy: Arc<Proxy>,
    id: SessionId,
    origin: Origin,
    rule: Option<Arc<TokenRule>>,
    caller: Caller,
) -> TokenVerdict {
    match proxy.registry.table.accept(id, Some(&caller), Some(origin)).await {
        Resolved::Live(session) => {
            if let Some(rule) = &rule {
                proxy.registry.issues.used(rule, &session);
            }
            match Attachment::new(session) {
                Ok(attachment) => TokenVerdict::Move(Some(attachment)),
                Err(ended) => refuse(&proxy, id, &ended, &caller),
            }
        }
        // Its offer was recorded; that the app takes it is not decided here.
        Resolved::Tolerated(tolerated) => TokenVerdict::Move(Some(Attachment::tolerated(tolerated))),
        Resolved::Unknown | Resolved::Issued | Resolved::NeverSeen | Resolved::Undecided => TokenVerdict::Move(None),
        Resolved::Ended(ended) => refuse(&proxy, id, &ended, &caller),
    }
}

fn refuse(proxy: &Proxy, id: SessionId, ended: &Ended, caller: &Caller) -> TokenVerdict {
    proxy.registry.decisions.refusal(id, ended, Carrier::Tunnel, Some(caller));
    TokenVerdict::Refuse(ended.reason)
}
