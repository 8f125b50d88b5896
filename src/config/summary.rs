//! A short summary of a configuration, for the log line at startup and for `check`.

use super::Config;
use crate::session::{ActivitySources, Limits, Mode};
use crate::store::StoreSettings;
use crate::token::TokenRule;
use serde::Serialize;

/// A summary of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Summary {
    /// `idle.mode`.
    pub mode: &'static str,
    /// The kind of the store.
    pub store: &'static str,
    /// `activity.profile`, or `custom` if single sources override it.
    pub profile: &'static str,
    /// `idle.timeout`, in seconds.
    pub limit: u64,
    /// The number of token rules.
    pub token_rules: usize,
    /// The number of `[[ignore]]` rules, with those of presets.
    pub ignore_rules: usize,
}

impl Summary {
    /// A summary of `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            mode: config.reloadable.mode.name(),
            store: match config.store {
                StoreSettings::Memory => "memory",
                StoreSettings::File(_) => "file",
                StoreSettings::Redis(_) => "redis",
            },
            profile: match config.activity {
                ActivitySources::TAB => "tab",
                ActivitySources::PERSON => "person",
                _ => "custom",
            },
            limit: config.idle.timeout,
            token_rules: config.tokens.len(),
            ignore_rules: config.ignore.len(),
        }
    }
}

/// Settings that are valid but probably a mistake.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let Limits { timeout, lifetime, retention } = config.idle;
    let mut warnings = Vec::new();
    if retention < timeout {
        warnings.push(format!(
            "idle.retention ({retention} s) is shorter than idle.timeout ({timeout} s): the token of an ended \
             session is refused for {retention} s only; set it longer than the app accepts the token"
        ));
    }
    if let Some(lifetime) = lifetime.filter(|lifetime| *lifetime < timeout) {
        warnings.push(format!(
            "idle.lifetime ({lifetime} s) is shorter than idle.timeout ({timeout} s): sessions always \
             reach their lifetime first, and the idle timeout has no effect"
        ));
    }
    if config.reloadable.mode != Mode::Enforce {
        warnings.push(format!("idle.mode is \"{}\": no session ends", config.reloadable.mode));
    }
    let rules: Vec<_> =
        config.tokens.iter().map(|rule| format!("{:?}", TokenRule { number: 0, ..rule.clone() })).collect();
    for (index, rule) in rules.iter().enumerate() {
        if let Some(first) = rules[..index].iter().position(|other| other == rule) {
            warnings.push(format!("token.{index} is the same rule as token.{first}: remove one of them"));
        }
    }
    let issues = config.tokens.iter().find(|rule| rule.is_issuing());
    let admits = |rule: &&TokenRule| !rule.refuses_unknown && !rule.ends && !rule.is_issuing();
    let admitting: Vec<_> = config.tokens.iter().filter(admits).map(TokenRule::label).collect();
    if let Some(issuing) = issues.filter(|_| !admitting.is_empty()) {
        warnings.push(format!(
            "{} sees the app issue tokens, but {} admits unknown ones: with unknown = \"refuse\", only tokens pass that the app issued",
            issuing.label(),
            admitting.join(", ")
        ));
    }
    warnings
}

/// Whether this process runs in a Pod of Kubernetes.
#[must_use]
pub fn in_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// The warning about a store that replicas do not share. A Pod cannot see how many replicas there are.
#[must_use]
pub fn unshared(config: &Config, in_pod: bool) -> Option<String> {
    let store = Summary::of(config).store;
    (in_pod && store != "redis").then(|| {
        format!(
            "store.url is \"{store}\" in a Pod: each replica counts idle time by itself, so with more than one replica a \
             session that is in use can end; keep the Deployment at replicas: 1, or set store.url to a Redis"
        )
    })
}
