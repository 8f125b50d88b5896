//! The commands: `start` and `check` read the configuration, `init` writes one, `generate` prints
//! completions and man pages; the others are clients of the `[admin]` listener of a
//! running idlegate.
//!
//! ```text
//!  command ─► connect: find the listener ─► client: send the request ─► format: text, or JSON unchanged
//! ```
//! `mode`, `session` and `drain` are the commands. `paste` reads a token from standard input. `error` explains
//! failures.

mod check;
mod client;
mod connect;
mod drain;
mod error;
mod format;
mod generate;
mod init;
mod mode;
mod paste;
mod rhythm;
mod session;
mod start;
mod timers;
mod watch;

pub use check::check;
pub use connect::At;
pub use drain::Draining;
pub use error::{CliError, EXIT_CONFIG};
pub use generate::{Completing, Documenting, completions, man};
pub use init::{InitError, Initializing, init};
pub use mode::Switching;
pub use session::{Explaining, Listing, One};
pub use start::{Source, Starting};
pub use timers::{Watching, propose_rules};

use crate::address::AdminListen;
use crate::admin::json::Modes;
use crate::config::{ForOperators, Variables};
use client::AdminClient;
use http::Method;
use std::path::Path;

/// The operator commands.
#[derive(Debug, clap::Subcommand)]
pub enum OperatorCommand {
    /// Show or set the mode: `enforce`, `observe` (only record) or `off` (pass everything through).
    Mode(Switching),
    /// Explain why a session is live or has ended.
    Explain(Explaining),
    /// List the live sessions, the longest idle first.
    Sessions(Listing),
    /// End a session, on all replicas and in any mode.
    End(One),
    /// Refresh a session, as if it had been active now.
    Extend(One),
    /// Drain before a stop: readiness fails, tunnels are closed gradually, and new requests are still served.
    Drain(Draining),
}

impl OperatorCommand {
    fn at(&self) -> &At {
        match self {
            Self::Mode(switching) => &switching.at,
            Self::Explain(explaining) => &explaining.at,
            Self::Sessions(listing) => &listing.at,
            Self::End(one) | Self::Extend(one) => &one.at,
            Self::Drain(draining) => &draining.at,
        }
    }
}

/// Runs a command and returns the text to print; `sessions --watch` prints by itself. The configuration at `config` names the listener unless the command
/// does; `variables` override the file.
///
/// # Errors
/// Why the command failed, and how to fix it.
pub async fn run(command: &OperatorCommand, config: &Path, variables: &Variables) -> Result<String, CliError> {
    let at = command.at();
    let config = ForOperators::load(at.config.as_deref().unwrap_or(config), variables);
    let client = AdminClient::new(connect::find(at, &config)?);
    if let OperatorCommand::Sessions(listing) = command
        && listing.watch
    {
        return watch::watch(listing, &client).await.map(|()| String::new());
    }
    let reply = match command {
        OperatorCommand::Mode(switching) => mode::mode(switching, &client).await?,
        OperatorCommand::Explain(explaining) => session::explain(explaining, &client, &config).await?,
        OperatorCommand::Sessions(listing) => session::list(listing, &client).await?,
        OperatorCommand::End(one) => session::end(one, &client).await?,
        OperatorCommand::Extend(one) => session::extend(one, &client).await?,
        OperatorCommand::Drain(draining) => drain::drain(draining, &client).await?,
    };
    if at.json {
        reply.read::<serde::de::IgnoredAny>()?;
        return Ok(reply.raw());
    }
    // Names of sources and replicas come from other replicas, so they must not be able to control the terminal.
    Ok(error::plain(&match command {
        OperatorCommand::Mode(switching) => format::mode(&reply.read()?, switching),
        OperatorCommand::Drain(_) => format::drain(&reply.read()?),
        OperatorCommand::Sessions(_) => format::table(&reply.read()?),
        OperatorCommand::Explain(_) | OperatorCommand::End(_) | OperatorCommand::Extend(_) => {
            format::session(&reply.read()?)
        }
    }))
}

/// The mode and the rules of the idlegate that listens by this section of the configuration.
pub(crate) async fn ask_running(admin: &AdminListen) -> Result<Modes, CliError> {
    let client = AdminClient::new(connect::endpoint(admin)?);
    client.send(Method::GET, "/mode", String::new()).await?.read()
}
