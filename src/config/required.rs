//! Checks that clients can get a token that a rule requires.

use super::error::ValueError;
use super::section::Section;
use super::token::RuleRead;
use crate::cut::{Cut, login_path};
use crate::route::{PathSet, Route};
use crate::token::TokenRule;

/// Records each required token that clients could not get.
pub(super) fn check(top: &mut Section<'_, '_>, rules: &[RuleRead], cut: &Cut) {
    // What could not be read may be the way to a token.
    if !top.is_faultless(&["token", "cut"]) {
        return;
    }
    for read in rules {
        let (Some(place), Some(_)) = (&read.required_at, &read.rule.required) else { continue };
        let faults = [shadowed(&read.rule, rules), redirected(&read.rule, cut), unobtainable(&read.rule, rules, cut)];
        for fault in faults.into_iter().flatten() {
            top.fault_at(place, fault);
        }
    }
}

fn paths_of(rule: &TokenRule) -> PathSet {
    rule.paths.clone().unwrap_or_else(PathSet::everywhere)
}

/// No token is required where the app issues one. A rule that issues on all paths leaves none.
fn shadowed(rule: &TokenRule, rules: &[RuleRead]) -> Option<ValueError> {
    let everywhere = |other: &TokenRule| {
        other.is_issuing()
            && other.except.is_empty()
            && other.methods.is_none()
            && paths_of(other).covers(&paths_of(rule))
    };
    let other = rules.iter().map(|read| &read.rule).find(|other| everywhere(other))?;
    let what = format!(
        "{} issues tokens on every path of this rule, and where tokens are issued none is required",
        other.label()
    );
    Some(ValueError::new(what, format!("name only the login's path in token.{}.paths", other.number)))
}

/// Whether a URL is on this host is not known here. As a path it is, and is open without a token.
fn redirected(rule: &TokenRule, cut: &Cut) -> Option<ValueError> {
    let urls = cut.all_words().into_iter().filter_map(|words| words.login_url.as_deref());
    let covered = |url: &&str| !url.starts_with('/') && rule.applies(&Route::get(path_in(url)));
    let url = urls.into_iter().find(covered).filter(|_| rule.except.is_empty())?;
    let what = format!("it covers the path of the login_url {url}: on this host, that would be a redirect without end");
    let fix = format!(
        "write login_url as a path, or add except_paths = [\"{}\"]; if it is on another host, except the path to which it \
         returns",
        path_in(url)
    );
    Some(ValueError::new(what, fix))
}

/// The path of an absolute URL.
fn path_in(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    rest.find('/').map_or("/", |start| login_path(&rest[start..]))
}

fn unobtainable(rule: &TokenRule, rules: &[RuleRead], cut: &Cut) -> Option<ValueError> {
    let everywhere = paths_of(rule).covers(&PathSet::everywhere());
    let has_exception = !rule.except.is_empty() || rule.methods.is_some();
    let has_login = cut.all_words().iter().any(|words| words.login_url.is_some());
    if !everywhere || has_exception || has_login || rules.iter().any(|read| read.rule.is_issuing()) {
        return None;
    }
    let what = "every request needs the token, and so no client could log in to get one";
    let fix =
        "set cut.login_url = \"/login\", or name what is open without it: except_paths = [\"/login\", \"/static/*\"]";
    Some(ValueError::new(what, fix))
}
