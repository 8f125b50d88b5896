//! Which keys an edit of the file changes while idlegate runs.

use super::Config;
use crate::cut::Cut;
use crate::route::PathSet;
use crate::session::{Mode, Reason};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use std::sync::Arc;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// The keys of [`Reloadable`]. All others need a restart.
pub const RELOADABLE: [&str; 16] = [
    "trusted_proxies",
    "deny",
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
    "cut.login_url",
    "cut.logout.delay",
];

/// Whether an edit of this key is in force at once. Each reason has the keys of `[cut]` for itself.
fn is_reloadable(key: &str) -> bool {
    let of_a_reason = || {
        let (reason, key) = key.strip_prefix("cut.")?.split_once('.')?;
        Reason::from_name(reason).map(|_| format!("cut.{key}"))
    };
    RELOADABLE.contains(&key) || of_a_reason().is_some_and(|key| RELOADABLE.contains(&key.as_str()))
}

/// The settings that an edit of the file changes at once.
#[derive(Clone, Debug)]
pub struct Reloadable {
    /// `trusted_proxies`: peers whose `X-Forwarded-*` are believed and added to.
    pub trusted_proxies: Vec<IpNet>,
    /// `deny`: paths answered 404.
    pub deny: PathSet,
    /// `connect_timeout`: how long the app may take to accept a connection.
    pub connect_timeout: Duration,
    /// `response_timeout`: how long the app may take to begin its answer, counted from the last byte of the request.
    pub response_timeout: Duration,
    /// `write_timeout`: how long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// `grace_period`: how long a drain may take.
    pub grace_period: Duration,
    /// `log`: the least severe level that is logged.
    pub log: LevelFilter,
    /// `idle.mode`: what is done about a session that is over, where no other switch is less strict.
    pub mode: Mode,
    /// `[cut]`.
    pub cut: Cut,
}

/// The reloadable part as it stands at the moment. Cheap to clone, and read without a lock.
#[derive(Clone, Debug)]
pub struct Current(Arc<ArcSwap<Reloadable>>);

impl Current {
    /// Stands as `reloadable` until it is replaced.
    #[must_use]
    pub fn new(reloadable: Reloadable) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(reloadable)))
    }

    /// The current settings. A request that has read them once uses them to its end.
    #[must_use]
    pub fn load(&self) -> Arc<Reloadable> {
        self.0.load_full()
    }

    /// From now on it stands like this.
    pub fn replace(&self, reloadable: Reloadable) {
        self.0.store(Arc::new(reloadable));
    }
}

/// How an edited configuration differs from the one in force: the paths of keys, without their values.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// In force now.
    pub applied: Vec<String>,
    /// In force after a restart.
    pub pending: Vec<String>,
    /// Without effect: a variable goes before the file.
    pub shadowed: Vec<String>,
}

impl Config {
    /// Takes over from `edited` what needs no restart.
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
