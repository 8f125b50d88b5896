//! `idlegate drain`: takes a running idlegate out of service before a stop.

use super::client::{AdminClient, Reply};
use super::connect::At;
use super::error::CliError;
use crate::admin::json::Drained;
use http::Method;
use std::time::Duration;

/// How often `--wait` polls the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Arguments of `idlegate drain`.
#[derive(Debug, clap::Args)]
pub struct Draining {
    /// Wait until all tunnels and requests have ended, or `grace_period` is over.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub(super) at: At,
}

fn is_over(drained: &Drained) -> bool {
    // `serving`: idlegate was restarted meanwhile, so there is nothing left to drain.
    drained.phase == "serving" || drained.tunnels + drained.requests == 0 || drained.seconds_left == 0
}

/// Begins a drain, or joins one that is running. With `--wait`, returns at its end.
pub(super) async fn drain<'c>(draining: &Draining, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let mut reply = client.send(Method::PUT, "/drain", String::new()).await?;
    while draining.wait && !is_over(&reply.read()?) {
        tokio::time::sleep(POLL_INTERVAL).await;
        reply = match client.send(Method::GET, "/drain", String::new()).await {
            // The process was stopped meanwhile, so the drain is over.
            Err(CliError::Unreachable(..) | CliError::Unanswered(..)) => break,
            response => response?,
        };
    }
    Ok(reply)
}
