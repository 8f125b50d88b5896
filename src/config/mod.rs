//! The validated configuration: every value is present, in range, and has the type that the rest of the program uses.

mod admin;
mod condition;
mod cut;
mod document;
mod error;
mod fingerprint;
mod health;
mod ignore;
mod keepalive;
mod operators;
mod read;
mod reloadable;
mod required;
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
pub(crate) use ignore::{PRESETS, presets_for_messages};
pub(crate) use operators::ForOperators;
pub use reloadable::{Changes, Current, RELOADABLE, Reloadable};
pub use summary::{Summary, in_pod, unshared, warnings};
pub(crate) use upstream::upstream;
pub(crate) use value::duration;
pub use variables::Variables;
pub(crate) use variables::variable_of;

use crate::address::{AdminListen, Listen, Upstream};
use crate::audit::Destination;
use crate::ignore::IgnoreRule;
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
    /// `max_sessions`: the maximum number of live sessions that are tracked.
    pub max_sessions: usize,
    /// `log_format`: the format of the log.
    pub log_format: LogFormat,
    /// `audit`: the destination of audit events.
    pub audit: Destination,
    /// `[health] listen`: the address for health checks and metrics, if configured.
    pub health: Option<Listen>,
    /// `[admin]`: the address of the admin API, if configured.
    pub admin: Option<AdminListen>,
    /// `[idle]`.
    pub idle: Limits,
    /// `[store]`.
    pub store: StoreSettings,
    /// How this replica exchanges data with the store.
    pub exchange: ExchangeSettings,
    /// `store.secret` or the content of `store.secret_file`: how tokens become session ids.
    pub ids: SessionIds,
    /// `[activity]`: the sources of the profile, with overrides applied.
    pub activity: ActivitySources,
    /// `[[ignore]]` and the presets of `activity.ignore`: what is not activity.
    pub ignore: Vec<IgnoreRule>,
    /// `[keepalive]`: the message to the app while a client answers its pings, if one is configured.
    pub keepalive: Option<Keepalive>,
    /// `[[token]]`.
    pub tokens: Vec<TokenRule>,
    /// The settings that an edit of the file changes without a restart.
    pub reloadable: Reloadable,
    /// The values as configured, for [`Config::reload`].
    written: Fingerprint,
    /// The file's values of keys that a variable overrides.
    shadowed: Fingerprint,
}
