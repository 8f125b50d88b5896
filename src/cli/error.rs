//! Errors of the commands: what happened, and what to do.

use crate::address::Upstream;
use crate::admin::json::Refused;
use crate::config::Problems;
use crate::counted::counted;
use http::StatusCode;
use std::{fmt, io};

/// The command was not done: refused, not reachable, unknown.
const EXIT_NOT_DONE: u8 = 1;

/// The arguments or the configuration are wrong.
pub const EXIT_CONFIG: u8 = 2;

/// Why a command was not done.
#[derive(Debug)]
pub enum CliError {
    /// The configuration is wrong.
    Config(Problems),
    /// So `store.secret` is not known, without which a token has no session id.
    NoSecret(Problems),
    /// The configuration names no listener.
    NoListener,
    /// The configuration lets the system choose the listener's port.
    AnyPort,
    /// `--admin` is no address.
    NoAddress,
    /// The file with the listener's token cannot be used.
    NoToken(io::Error),
    /// The argument is not a session id.
    NoId,
    /// No token came on standard input.
    Empty,
    /// Standard input cannot be read.
    Input(io::Error),
    /// The question at the terminal was not answered with yes.
    Declined,
    /// No process accepts connections there.
    Unreachable(Upstream, io::Error),
    /// No answer came.
    Unanswered(Upstream, io::Error),
    /// What answers is no `[admin]` listener of this version.
    NotIdlegate(Upstream),
    /// The listener refused.
    Refused(ServerError),
    /// The listener knows no such session.
    Unknown(String, ServerError),
    /// The session has ended on the replica that was asked; the others do not know it yet.
    EndedHere(String),
}

/// That the listener refuses.
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
            | Self::Declined
            | Self::Unreachable(..)
            | Self::Unanswered(..)
            | Self::NotIdlegate(_)
            | Self::Refused(_)
            | Self::Unknown(..)
            | Self::EndedHere(_) => EXIT_NOT_DONE,
        }
    }

    /// What to do about it.
    fn fix(&self) -> &str {
        match self {
            Self::Config(_) => "mend that, or name the listener yourself: --admin http://127.0.0.1:9090",
            Self::NoSecret(_) => "mend that, or name the right one with --config: store.secret makes the session id",
            Self::NoListener => {
                "add [admin] listen = \"127.0.0.1:9090\" to it and restart idlegate; if it has one in the environment \
                 of idlegate (IDLEGATE_ADMIN_LISTEN), name that: --admin http://127.0.0.1:9090"
            }
            Self::AnyPort => {
                "write a port into the configuration; for now name the one that its log tells (\"admin API and page \
                at …\"): \
                 --admin http://127.0.0.1:PORT"
            }
            Self::NoAddress => {
                "write it like http://127.0.0.1:9090 or unix:/run/idlegate/admin.sock; there is no https, and no path"
            }
            Self::NoToken(_) => "be who may read it, or name another file with --token-file",
            Self::NoId => {
                "write the 32 hexadecimal digits that the log shows, or their beginning: 4 digits or more, 8 to end \
                or extend. If it was a token: it is in your shell's history \
                 now; for tokens there is idlegate explain --token-stdin"
            }
            Self::Empty => "type it when asked, or send it: printf %s \"$TOKEN\" | idlegate explain --token-stdin",
            Self::Input(_) => "try again",
            Self::Declined => "extend those that should live on, or say y",
            Self::Unreachable(_, error) => match error.kind() {
                io::ErrorKind::PermissionDenied => "be the user that idlegate runs as, or root",
                _ => {
                    "see whether idlegate runs, and since when: it listens there only if it was started with that \
                     configuration. If it listens elsewhere: --admin http://127.0.0.1:9090"
                }
            },
            Self::Unanswered(..) => "look at idlegate's log",
            Self::NotIdlegate(_) => {
                "name admin.listen with --admin, not listen, upstream or health.listen; and use the version of \
                 idlegate that runs"
            }
            Self::Refused(refusal) | Self::Unknown(_, refusal) => &refusal.said.fix,
            Self::EndedHere(_) => {
                "the others learn of it as soon as it answers: see with idlegate explain, or ask each of them"
            }
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A line each.
            Self::Config(problems) | Self::NoSecret(problems) => {
                return write!(f, "the configuration is wrong:\n{problems}\n{}", self.fix());
            }
            Self::NoListener => f.write_str("the configuration has no listener for operators")?,
            Self::AnyPort => f.write_str("the port is not known: admin.listen lets the system choose it")?,
            Self::NoAddress => f.write_str("--admin is no address")?,
            Self::NoToken(error) => write!(f, "the listener's token cannot be read: {error}")?,
            Self::NoId => f.write_str("this is no session id")?,
            Self::Empty => f.write_str("no token came on standard input")?,
            Self::Input(error) if error.kind() == io::ErrorKind::Interrupted => f.write_str("interrupted")?,
            Self::Input(error) => write!(f, "standard input cannot be read: {error}")?,
            Self::Declined => f.write_str("nothing is changed")?,
            Self::Unreachable(address, error) => write!(f, "no connection to {address}: {error}")?,
            Self::Unanswered(address, error) => write!(f, "no answer came from {address}: {error}")?,
            Self::NotIdlegate(address) => write!(f, "the listener at {address} does not answer as idlegate's [admin]")?,
            Self::Refused(refusal) => f.write_str(&plain(&refusal.said.error))?,
            Self::Unknown(id, refusal) => write!(f, "{} ({id})", plain(&refusal.said.error))?,
            Self::EndedHere(id) => {
                write!(
                    f,
                    "{id} has ended on this replica, but the store does not answer, and the others go on with it"
                )?;
            }
        }
        write!(f, "; {}", plain(self.fix()))
    }
}

impl std::error::Error for CliError {}

/// What is asked before sessions are cut.
pub(super) fn cut_now(count: usize, silent: u64) -> String {
    let sessions = counted(count, "session");
    match silent {
        0 => format!("cut {sessions} now? [y/N]"),
        _ => format!("cut {sessions} now, and those of {} that did not answer? [y/N]", counted(silent, "replica")),
    }
}

/// A text without what steers a terminal.
pub(super) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(visible).collect()
}
