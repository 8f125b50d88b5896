//! Unknown keys and variables: ignores those of other programs and suggests the most similar known name.

use super::error::ValueError;
use super::variables::variable_of;
use std::collections::BTreeSet;

/// Whether an `IDLEGATE_` environment variable is not a configuration key: `IDLEGATE_CONFIG`, and the variables that
/// Kubernetes sets for each Service named `idlegate` or `idlegate-…`.
pub(super) fn is_not_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("IDLEGATE") else { return true };
    name == "IDLEGATE_CONFIG"
        || rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || rest.ends_with("_PORT")
        || rest.match_indices("_PORT_").any(|(at, found)| is_port_of_a_service(&rest[at + found.len()..]))
}

/// `80_TCP`, `80_TCP_ADDR`, `53_UDP_PORT` and so on.
fn is_port_of_a_service(rest: &str) -> bool {
    let protocol = rest.trim_start_matches(|character: char| character.is_ascii_digit());
    protocol.len() < rest.len()
        && ["_TCP", "_UDP", "_SCTP"].iter().any(|name| {
            protocol.strip_prefix(name).is_some_and(|property| property.is_empty() || property.starts_with('_'))
        })
}

/// The error for an unknown key in the file.
pub(super) fn unknown_key(path: &str, known: &BTreeSet<String>) -> ValueError {
    let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
    let moved = known.iter().find(|known| known.rsplit('.').next() == Some(key));
    let fix = match (moved, nearest(path, key.len(), known.iter().map(String::as_str))) {
        // A key of a token rule is excluded: it is unclear which rule it belongs to.
        (Some(home), _) if !home.starts_with("token.") => match home.rsplit_once('.') {
            Some((table, _)) => format!("did you mean {home}? Write it below [{table}]"),
            None => format!("did you mean {home}? Write it above the first [table]"),
        },
        (_, Some(nearest)) => format!("did you mean {nearest}?"),
        (_, None) => {
            let beside: Vec<_> = known
                .iter()
                .map(|known| known.rsplit_once('.').unwrap_or(("", known)))
                .filter(|(other, _)| *other == table)
                .map(|(_, key)| key)
                .collect();
            format!("remove it, or use one of: {}", beside.join(", "))
        }
    };
    ValueError::new("unknown key", fix)
}

/// The error for an unknown variable.
pub(super) fn unknown_variable(name: &str, known: &BTreeSet<String>) -> ValueError {
    let names: Vec<_> = known.iter().map(|path| variable_of(path)).collect();
    let length = name.len().saturating_sub("IDLEGATE_".len());
    let fix = match nearest(name, length, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "unset it: variables are named like IDLEGATE_IDLE_TIMEOUT for the key idle.timeout".to_owned(),
    };
    ValueError::new("unknown variable", fix)
}

/// The candidate most similar to `name`, if any is similar enough. `length` is the length of the part that may be
/// misspelled.
fn nearest<'c>(name: &str, length: usize, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let allowed = if length < 4 { 1 } else { 2 + usize::from(length > 8) };
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: how many bytes to change, insert, remove or swap with their neighbour to turn
/// one string into the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, &byte) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, &target) in other.iter().enumerate() {
            let mut best = (last[column] + usize::from(byte != target)).min(last[column + 1] + 1).min(next[column] + 1);
            let swapped = row > 0 && column > 0 && one[row - 1] == target && other[column - 1] == byte;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_typos() {
        for (one, other, typos) in [
            ("", "", 0),
            ("paths", "paths", 0),
            ("pahts", "paths", 1),
            ("path", "paths", 1),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), typos, "{one} {other}");
            assert_eq!(distance(other, one), typos, "{other} {one}");
        }
    }

    #[test]
    fn kubernetes_variables_are_ignored() {
        for name in [
            "IDLEGATE_CONFIG",
            "IDLEGATE_SERVICE_HOST",
            "IDLEGATE_SERVICE_PORT",
            "IDLEGATE_SERVICE_PORT_HTTP",
            "IDLEGATE_PORT",
            "IDLEGATE_PORT_10086_TCP",
            "IDLEGATE_PORT_10086_TCP_PROTO",
            "IDLEGATE_PORT_10086_TCP_PORT",
            "IDLEGATE_PORT_53_UDP_ADDR",
            "IDLEGATE_ADMIN_SERVICE_HOST",
            "IDLEGATE_ADMIN_SERVICE_PORT_METRICS",
            "IDLEGATE_ADMIN_PORT",
            "IDLEGATE_ADMIN_PORT_9000_TCP_ADDR",
            "IDLEGATE_TOKEN_0_SERVICE_HOST",
        ] {
            assert!(is_not_ours(name), "{name}");
        }
        for name in
            ["IDLEGATE_PORTS", "IDLEGATE_PORT_X_TCP", "IDLEGATE_PORT_80_TCPX", "IDLEGATE_PORT_80", "IDLEGATE_LISTEN"]
        {
            assert!(!is_not_ours(name), "{name}");
        }
    }
}
