//! `idlegate drain`: takes a running idlegate out of service, before it is stopped.

use super::client::{AdminClient, Reply};
use super::connect::At;
use super::error::CliError;
use crate::admin::json::Drained;
use http::Method;
use std::time::Duration;

/// How often it is asked what is left.
const ASKED_EVERY: Duration = Duration::from_millis(200);

/// What to wait for.
#[derive(Debug, clap::Args)]
pub struct Draining {
    /// Return only when no tunnel and no request is left, or `grace_period` is over.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub(super) at: At,
}

fn is_over(drained: &Drained) -> bool {
    // Another one, started meanwhile, drains nothing.
    drained.phase == "serving" || drained.tunnels + drained.requests == 0 || drained.seconds_left == 0
}

/// Begins a drain, or joins one; waits for its end if asked to.
pub(super) async fn drain<'c>(draining: &Draining, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let mut answer = client.ask(Method::PUT, "/drain", String::new()).await?;
    while draining.wait && !is_over(&answer.read()?) {
        tokio::time::sleep(ASKED_EVERY).await;
        answer = match client.ask(Method::GET, "/drain", String::new()).await {
            // It was stopped meanwhile, and nothing is left of it.
            Err(CliError::Unreachable(..) | CliError::Unanswered(..)) => break,
            asked => asked?,
        };
    }
    Ok(answer)
}
