//! `required_within`: the time in which a tunnel must send a token.

use crate::token::{InBandRules, TokenRule};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;

/// A token that must come in time. Most tunnels await none, and have no room for it.
pub(in crate::proxy) struct AwaitedToken {
    rule: Arc<TokenRule>,
    within: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether it was recorded that the tunnel would be closed.
    is_recorded: bool,
}

impl AwaitedToken {
    /// The token that these rules require of a tunnel that begins now.
    pub(in crate::proxy) fn of(rules: &InBandRules) -> Option<Box<Self>> {
        let rule = rules.requiring()?;
        let within = rule.required_within?;
        Some(Box::new(Self { rule: Arc::clone(rule), within, timer: timer(within), is_recorded: false }))
    }
}

fn timer(within: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(within))
}

impl AwaitedToken {
    /// Whether the time is over. It then begins again, so that a tunnel which the mode let pass is closed soon after the mode
    /// enforces.
    pub(super) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let is_over = self.timer.as_mut().poll(cx).is_ready();
        if is_over {
            self.timer = timer(self.within);
            // Registers the task.
            let _ = self.timer.as_mut().poll(cx);
        }
        is_over
    }

    pub(super) fn rule(&self) -> &TokenRule {
        &self.rule
    }

    /// Whether this is the first time that it is to be recorded.
    pub(super) fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.is_recorded, true)
    }
}
