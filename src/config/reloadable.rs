//! The keys that an edit of the file changes without a restart.

use super::Config;
use super::cut::{MISSING, UNKNOWN};
use crate::cut::Cut;
use crate::route::PathSet;
use crate::session::{Mode, Reason};
use arc_swap::ArcSwap;
use http::HeaderValue;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// The keys of [`Reloadable`]. All others need a restart.
pub const RELOADABLE: [&str; 19] = [
    "trusted_proxies",
    "deny",
    "cors",
    "connect_timeout",
    "response_timeout",
    "write_timeout",
    "grace_period",
    "log",
    "idle.mode",
    "cut.ws_message",
    "cut.ws_code",
    "cut.ws_reason",
    "cut.http_status",
    "cut.http_body",
    "cut.http_headers",
    "cut.ws_refuse",
    "cut.login_url",
    "cut.clear_site_data",
    "cut.logout.delay",
];

/// Whether an edit of this key takes effect without a restart. The table of each reason, such as `[cut.idle]`, has the
/// same keys as `[cut]`.
fn is_reloadable(key: &str) -> bool {
    let of_a_reason = || {
        let (reason, key) = key.strip_prefix("cut.")?.split_once('.')?;
        let is_one = [MISSING, UNKNOWN].contains(&reason) || Reason::from_name(reason).is_some();
        is_one.then(|| format!("cut.{key}"))
    };
    RELOADABLE.contains(&key) || of_a_reason().is_some_and(|key| RELOADABLE.contains(&key.as_str()))
}

/// The settings that an edit of the file changes without a restart.
#[derive(Clone, Debug)]
pub struct Reloadable {
    /// `trusted_proxies`: peers whose `X-Forwarded-*` headers are trusted and extended.
    pub trusted_proxies: Vec<IpNet>,
    /// `deny`: paths that get a 404.
    pub deny: PathSet,
    /// `cors`: the sites whose scripts may read idlegate's own answers.
    pub cors: Vec<HeaderValue>,
    /// `connect_timeout`: how long the app may take to accept a connection.
    pub connect_timeout: Duration,
    /// `response_timeout`: how long the app may take to begin its response, from the last byte of the request.
    pub response_timeout: Duration,
    /// `write_timeout`: how long a client may read nothing of its response.
    pub write_timeout: Duration,
    /// `grace_period`: how long a drain may take.
    pub grace_period: Duration,
    /// `log`: the least severe level that is logged.
    pub log: LevelFilter,
    /// `idle.mode`: what to do about an expired session. A less strict mode set elsewhere overrides it.
    pub mode: Mode,
    /// `[cut]`.
    pub cut: Cut,
}

/// The reloadable settings now in force. Cheap to clone, and read without a lock.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Reloadable>>);

impl Current {
    /// Starts with `reloadable`.
    #[must_use]
    pub fn new(reloadable: Reloadable) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(reloadable)))
    }

    /// The current settings. A request loads them once and uses them until it ends.
    #[must_use]
    pub fn load(&self) -> Arc<Reloadable> {
        self.0.load_full()
    }

    /// Replaces the settings.
    pub fn replace(&self, reloadable: Reloadable) {
        self.0.store(Arc::new(reloadable));
    }
}

/// How an edited configuration differs from the one in force: the paths of keys, without their values.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Keys whose new value is in force now.
    pub applied: Vec<String>,
    /// Keys whose new value needs a restart.
    pub pending: Vec<String>,
    /// Keys whose new value has no effect, because a variable overrides it.
    pub shadowed: Vec<String>,
}

impl Config {
    /// Applies the settings of `edited` that need no restart.
    pub fn reload(&mut self, edited: Self) -> Changes {
        let differing = self.written.differing(&edited.written);
        let (applied, pending): (Vec<_>, Vec<_>) = differing.into_iter().partition(|key| is_reloadable(key));
        self.reloadable = edited.reloadable;
        self.written.take_over(&applied, &edited.written);
        let shadowed = self.shadowed.differing(&edited.shadowed);
        self.shadowed = edited.shadowed;
        Changes { applied, pending, shadowed }
    }
}
