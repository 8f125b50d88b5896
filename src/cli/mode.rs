//! `idlegate mode`: how the switches stand, and setting one.

use super::client::{AdminClient, Reply};
use super::connect::At;
use super::error::{self, CliError};
use crate::admin::json::ModeRequest;
use crate::config::duration;
use http::Method;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Which switch is set, and how.
#[derive(Debug, clap::Args)]
pub struct Switching {
    /// What to switch to. The least strict of all switches wins. Without it, shows how they stand.
    #[arg(value_parser = ["enforce", "observe", "off"])]
    pub(super) mode: Option<String>,
    /// Switch all replicas, through Redis, and not only the one that is asked.
    #[arg(long, requires = "mode")]
    pub(super) fleet: bool,
    /// Return by itself after so long, like `30m`.
    #[arg(long = "for", value_name = "DURATION", requires = "mode", value_parser = duration)]
    lasting: Option<Duration>,
    /// Cut sessions that are past the limit without asking first.
    #[arg(long, requires = "mode")]
    yes: bool,
    #[command(flatten)]
    pub(super) at: At,
}

/// Shows the switches, or sets one. Where that would cut sessions at once, it asks at the terminal; without a terminal
/// it refuses.
pub(super) async fn mode<'c>(switching: &Switching, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    let Some(mode) = &switching.mode else { return client.ask(Method::GET, "/mode", String::new()).await };
    let lasting = switching.lasting.map(|lasting| humantime::format_duration(lasting).to_string());
    let mut change = ModeRequest { mode: mode.clone(), lasting, fleet: switching.fleet, yes: switching.yes };
    match put(&change, client).await {
        Err(CliError::Refused(refusal)) if io::stdin().is_terminal() => {
            let Some(count) = refusal.said.would_cut else { return Err(CliError::Refused(refusal)) };
            if !agreed(count, refusal.said.silent.unwrap_or_default()).map_err(CliError::Input)? {
                return Err(CliError::Declined);
            }
            change.yes = true;
            put(&change, client).await
        }
        done => done,
    }
}

async fn put<'c>(change: &ModeRequest, client: &'c AdminClient) -> Result<Reply<'c>, CliError> {
    client.ask(Method::PUT, "/mode", json!(change).to_string()).await
}

/// Asks at the terminal. On stderr: what is printed on stdout is the answer alone.
fn agreed(count: usize, silent: u64) -> io::Result<bool> {
    write!(io::stderr(), "{} ", error::cut_now(count, silent))?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
