//! Errors of the operator commands: what went wrong and how to fix it.

use crate::address::Upstream;
use crate::admin::json::Refused;
use crate::config::Problems;
use crate::counted::counted;
use http::StatusCode;
use std::{fmt, io};

/// The command failed: refused, unreachable, or session unknown.
const EXIT_FAILED: u8 = 1;

/// The arguments or the configuration are wrong.
pub const EXIT_CONFIG: u8 = 2;

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// The configuration is wrong.
    Config(Problems),
    /// The configuration is wrong, so `store.secret` is unknown and no session id can be computed.
    NoSecret(Problems),
    /// The configuration has no `[admin]` listener.
    NoListener,
    /// The configuration lets the system choose the listener's port.
    AnyPort,
    /// `--admin` is not an address.
    NoAddress,
    /// The file with the listener's token cannot be used.
    NoToken(io::Error),
    /// The argument is not a session id.
    NoId,
    /// Standard input had no token.
    Empty,
    /// Standard input cannot be read.
    Input(io::Error),
    /// Standard output cannot be written.
    Output(io::Error),
    /// The operator did not confirm the change at the terminal.
    Declined,
    /// The connection failed.
    Unreachable(Upstream, io::Error),
    /// The listener did not respond.
    Unanswered(Upstream, io::Error),
    /// The response is not from an `[admin]` listener of this version.
    NotIdlegate(Upstream),
    /// The listener refused.
    Refused(ServerError),
    /// The listener does not know the session.
    Unknown(String, ServerError),
    /// The session ended on this replica, but the end is not synced to the others yet.
    EndedHere(String),
}

/// An error response of the listener.
#[derive(Debug)]
pub struct ServerError {
    pub(super) status: StatusCode,
    pub(super) said: Refused,
}

impl CliError {
    /// The exit code of the program.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::NoSecret(_)
            | Self::NoListener
            | Self::AnyPort
            | Self::NoAddress
            | Self::NoToken(_)
            | Self::NoId
            | Self::Empty => EXIT_CONFIG,
            Self::Input(_)
            | Self::Output(_)
            | Self::Declined
            | Self::Unreachable(..)
            | Self::Unanswered(..)
            | Self::NotIdlegate(_)
            | Self::Refused(_)
            | Self::Unknown(..)
            | Self::EndedHere(_) => EXIT_FAILED,
        }
    }

    /// How to fix it.
    fn fix(&self) -> &str {
        match self {
            Self::Config(_) => "fix it, or name the listener: --admin http://127.0.0.1:9090",
            Self::NoSecret(_) => "fix it, or name the right file with --config: the session id depends on store.secret",
            Self::NoListener => {
                "add [admin] listen = \"127.0.0.1:9090\" to it and restart idlegate; if idlegate gets the address from \
                 IDLEGATE_ADMIN_LISTEN, name it: --admin http://127.0.0.1:9090"
            }
            Self::AnyPort => {
                "set a fixed port in the configuration; for now, see the log line \"admin API and page at …\": \
                 --admin http://127.0.0.1:PORT"
            }
            Self::NoAddress => {
                "write it like http://127.0.0.1:9090 or unix:/run/idlegate/admin.sock, without https and without a path"
            }
            Self::NoToken(_) => "run the command as a user that may read it, or name another file with --token-file",
            Self::NoId => {
                "give the 32 hexadecimal digits that the log shows, or a prefix: 4 or more digits, 8 to end or extend. \
                 If it was a token, it is now in your shell's history: for tokens, use idlegate explain --token-stdin"
            }
            Self::Empty => "type it when asked, or send it: printf %s \"$TOKEN\" | idlegate explain --token-stdin",
            Self::Input(_) | Self::Output(_) => "try again",
            Self::Declined => "extend the sessions that should stay, or answer y",
            Self::Unreachable(_, error) => match error.kind() {
                io::ErrorKind::PermissionDenied => "run the command as the user of idlegate, or as root",
                _ => {
                    "check that idlegate runs and was started with this configuration. If it listens elsewhere: \
                     --admin http://127.0.0.1:9090"
                }
            },
            Self::Unanswered(..) => "see idlegate's log",
            Self::NotIdlegate(_) => {
                "--admin takes the address of admin.listen, not of listen, upstream or health.listen; also use the \
                 same version as the running idlegate"
            }
            Self::Refused(refusal) | Self::Unknown(_, refusal) => &refusal.said.fix,
            Self::EndedHere(_) => {
                "the end reaches them when the store answers: check with idlegate explain, or end it on each replica"
            }
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // One line per problem.
            Self::Config(problems) | Self::NoSecret(problems) => {
                return write!(f, "the configuration is wrong:\n{problems}\n{}", self.fix());
            }
            Self::NoListener => f.write_str("the configuration has no [admin] listener")?,
            Self::AnyPort => f.write_str("the port is unknown: admin.listen lets the system choose it")?,
            Self::NoAddress => f.write_str("--admin is not an address")?,
            Self::NoToken(error) => write!(f, "cannot read the admin token: {error}")?,
            Self::NoId => f.write_str("not a session id")?,
            Self::Empty => f.write_str("standard input has no token")?,
            Self::Input(error) if error.kind() == io::ErrorKind::Interrupted => f.write_str("interrupted")?,
            Self::Input(error) => write!(f, "cannot read standard input: {error}")?,
            Self::Output(error) => write!(f, "cannot write to standard output: {error}")?,
            Self::Declined => f.write_str("nothing was changed")?,
            Self::Unreachable(address, error) => write!(f, "cannot connect to {address}: {error}")?,
            Self::Unanswered(address, error) => write!(f, "no response from {address}: {error}")?,
            Self::NotIdlegate(address) => {
                write!(f, "{address} is not the [admin] listener of this version of idlegate")?;
            }
            Self::Refused(refusal) => f.write_str(&plain(&refusal.said.error))?,
            Self::Unknown(id, refusal) => write!(f, "{} ({id})", plain(&refusal.said.error))?,
            Self::EndedHere(id) => {
                write!(
                    f,
                    "{id} ended on this replica, but the store is unavailable and other replicas still admit it"
                )?;
            }
        }
        write!(f, "; {}", plain(self.fix()))
    }
}

impl std::error::Error for CliError {}

/// The confirmation question before sessions are cut.
pub(super) fn cut_question(count: usize, silent: u64) -> String {
    let sessions = counted(count, "session");
    match silent {
        0 => format!("cut {sessions} now? [y/N]"),
        _ => format!("cut {sessions} now, and those of {} that did not respond? [y/N]", counted(silent, "replica")),
    }
}

/// Replaces control characters, so that text from elsewhere cannot control the terminal.
pub(super) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(visible).collect()
}
