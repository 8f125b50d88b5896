//! The configuration, checked: every value present, in range, and in the type the rest of the program works with.

mod admin;
mod cut;
mod document;
mod error;
mod fingerprint;
mod health;
mod keepalive;
mod operators;
mod read;
mod reloadable;
mod section;
mod store;
mod summary;
#[cfg(test)]
mod tests;
mod token;
mod unknown;
mod upstream;
mod value;
mod variables;

pub use cut::{Cut, CutWords};
pub(crate) use document::variable_of;
pub use error::{Origin, Problem, Problems, ValueError};
pub use keepalive::Keepalive;
pub(crate) use operators::ForOperators;
pub use reloadable::{Changes, Current, RELOADABLE, Reloadable};
pub use summary::Summary;
pub(crate) use value::duration;
pub use variables::Variables;

use crate::session::{ActivitySources, Limits, SessionIds};
use crate::store::RedisSettings;
use crate::token::TokenRule;
use fingerprint::Fingerprint;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// All of `proxy.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `listen`: where clients connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `upstream`: where the app listens.
    pub upstream: Upstream,
    /// `upgrades`: protocols beside `websocket` that may be upgraded to, in lower case.
    pub upgrades: Vec<String>,
    /// `underscores_in_headers = "drop"`: header fields with `_` in their names are not forwarded.
    pub drop_underscores: bool,
    /// `max_sessions`: how many live sessions are tracked at most.
    pub max_sessions: usize,
    /// `log_format`: how the log is written.
    pub log_format: LogFormat,
    /// `audit`: where the record of every decision goes.
    pub audit: Audit,
    /// `[health] listen`: where health and metrics are served, if anywhere.
    pub health: Option<Listen>,
    /// `[admin]`: where operators ask and switch, if anywhere.
    pub admin: Option<Admin>,
    /// `[idle]`.
    pub idle: Limits,
    /// `[store]`.
    pub store: Store,
    /// How this replica and the store deal with each other.
    pub exchange: ExchangeSettings,
    /// `store.secret`, or what stands in `store.secret_file`: how tokens become session ids.
    pub ids: SessionIds,
    /// `[activity]`, profile and overrides resolved.
    pub activity: ActivitySources,
    /// `[keepalive]`: what the app is told while a client answers its pings, if anything.
    pub keepalive: Option<Keepalive>,
    /// `[[token]]`.
    pub tokens: Vec<TokenRule>,
    /// What an edit of the file changes while idlegate runs.
    pub reloadable: Reloadable,
    /// What stood where, for [`Config::reload`].
    written: Fingerprint,
    /// What stands in the file for keys that a variable sets.
    shadowed: Fingerprint,
}

/// Where the app listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// `http://host:port`, kept as `host:port`.
    Tcp(String),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl Upstream {
    /// The address in `text`.
    ///
    /// # Errors
    /// What is wrong with it, where it is none.
    pub(crate) fn from_text(text: &str) -> Result<Self, ValueError> {
        upstream::upstream(text)
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the lines of the log are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// For people, and readers of logfmt: a sentence, and `key=value`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the record of every decision goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audit {
    /// Nowhere.
    None,
    /// Standard output, apart from the log.
    Stdout,
    /// Standard error, among the lines of the log.
    Stderr,
    /// A file, to whose end it is added.
    File(PathBuf),
}

/// Where something is served beside the public listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// An address and a port; 0 lets the system choose.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[admin]`: where operators ask and switch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// `listen`: loopback, a Unix socket, or with `token_file` anywhere.
    pub listen: Listen,
    /// `token_file`: holds what whoever comes has to know.
    pub token_file: Option<PathBuf>,
}

/// `[store]`: where the truth about sessions is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Store {
    /// `url = "memory"`: in this process, gone when it ends.
    Memory,
    /// `url = "file:/path"`: in this process, and in a file that outlives it.
    File(PathBuf),
    /// `url = "redis://…"`: in Redis, for any number of replicas.
    Redis(RedisSettings),
}

/// `[store]`: how a replica deals with the store, wherever that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExchangeSettings {
    /// `flush_interval`: how often it tells the store what it saw. 100 ms to 10 s.
    pub flush_interval: Duration,
    /// `lookup_timeout`: how long a token that this replica does not know waits for the store.
    pub lookup_timeout: Duration,
    /// `unknown_tokens`: what becomes of it when the store does not answer.
    pub unknown_tokens: UnknownTokens,
}

impl Default for ExchangeSettings {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_secs(1),
            lookup_timeout: Duration::from_millis(250),
            unknown_tokens: UnknownTokens::Admit,
        }
    }
}

/// What becomes of a token that this replica does not know, while the store does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnknownTokens {
    /// The app has the say, as if the token were new. A dead one passes until the store answers.
    Admit,
    /// 503 until the store answers.
    Refuse,
}
