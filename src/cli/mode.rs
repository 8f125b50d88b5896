//! `idlegate mode`: shows the switches, or sets one.

use super::client::{AdminClient, Reply};
use super::connect::At;
use super::error::{self, CliError};
use crate::admin::json::ModeRequest;
use crate::config::duration;
use http::Method;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Arguments of `idlegate mode`.
#[derive(Debug, clap::Args)]
pub struct Switching {
    /// The mode to set. The least strict switch wins. Without it, shows all switches.
    #[arg(value_parser = ["enforce", "observe", "off"])]
    pub(super) mode: Option<String>,
    /// Set the mode of all replicas through Redis, not only of this one.
    #[arg(long, requires = "mode")]
    pub(super) fleet: bool,
    /// Revert after this time, such as `30m`.
    #[arg(long = "for", value_name = "DURATION", requires = "mode", value_parser = duration)]
    lasting: Option<Duration>,
    /// Cut sessions that are past the limit without confirmation.
    #[arg(long, requires = "mode")]
    yes: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Shows the switches, or sets one. If that would cut sessions at once, it asks for confirmation at the terminal.
/// Without a terminal it is refused.
pub(super) async fn mode<'c>(switching: &Switching, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let Some(mode) = &switching.mode else { return client.send(Method::GET, "/mode", String::new()).await };
    let lasting = switching.lasting.map(|lasting| humantime::format_duration(lasting).to_string());
    let mut change = ModeRequest { mode: mode.clone(), lasting, fleet: switching.fleet, yes: switching.yes };
    match put(&change, client).await {
        Err(CliError::Refused(refusal)) if io::stdin().is_terminal() => {
            let Some(count) = refusal.said.would_cut else { return Err(CliError::Refused(refusal)) };
            if !confirmed(count, refusal.said.silent.unwrap_or_default()).map_err(CliError::Input)? {
                return Err(CliError::Declined);
            }
            change.yes = true;
            put(&change, client).await
        }
        done => done,
    }
}

async fn put<'c>(change: &ModeRequest, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    client.send(Method::PUT, "/mode", json!(change).to_string()).await
}

/// Asks for confirmation on stderr. Stdout carries only the response.
fn confirmed(count: usize, silent: u64) -> io::Result<bool> {
    write!(io::stderr(), "{} ", error::cut_question(count, silent))?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
