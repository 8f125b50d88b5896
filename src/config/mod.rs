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

pub use error::{Origin, Problem, Problems, ValueError};
pub(crate) use operators::ForOperators;
pub use reloadable::{Changes, Current, RELOADABLE, Reloadable};
pub use summary::Summary;
pub(crate) use upstream::upstream;
pub(crate) use value::duration;
pub use variables::Variables;
pub(crate) use variables::variable_of;

use crate::address::{AdminListen, Listen, Upstream};
use crate::audit::Destination;
use crate::log::LogFormat;
use crate::registry::ExchangeSettings;
use crate::session::{ActivitySources, Limits, SessionIds};
use crate::store::StoreSettings;
use crate::token::TokenRule;
use crate::websocket::Keepalive;
use fingerprint::Fingerprint;
use std::net::SocketAddr;

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
    pub audit: Destination,
    /// `[health] listen`: where health and metrics are served, if anywhere.
    pub health: Option<Listen>,
    /// `[admin]`: where operators ask and switch, if anywhere.
    pub admin: Option<AdminListen>,
    /// `[idle]`.
    pub idle: Limits,
    /// `[store]`.
    pub store: StoreSettings,
    /// How this replica and the store deal with each other.
    pub exchange: ExchangeSettings,
    /// `store.secret`, or what stands in `store.secret_file`: how tokens become session ids.
    pub ids: SessionIds,
    /// `[activity]`, profile and overrides resolved.
    pub activity: ActivitySources,
    /// `[keepalive]`: the message to the app while a client answers its pings, if one is configured.
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
