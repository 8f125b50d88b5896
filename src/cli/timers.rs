//! `idlegate doctor --watch`: finds what a page sends by itself, and proposes the `[[ignore]]` rules for it.

use super::client::AdminClient;
use super::connect::{self, At};
use super::error::{CliError, plain};
use super::rhythm::Rhythm;
use super::watch::Signals;
use crate::admin::json::WatchRequest;
use crate::config::{ForOperators, Variables, duration, presets_for_messages};
use crate::counted::counted;
use crate::registry::{Traffic, Watched};
use http::Method;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments of `idlegate doctor --watch`.
#[derive(Debug, clap::Args)]
pub struct Watching {
    /// Watch the running idlegate for this time, such as `15m`, while a page is open and left alone; then print the
    /// `[[ignore]]` rules for what came at even intervals.
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "json")]
    pub watch: Option<Duration>,
    /// With `--watch`: the address of the admin API, instead of the configuration's `admin.listen`.
    #[arg(long, value_name = "URL", requires = "watch")]
    admin: Option<String>,
    /// With `--watch`: the file with the admin token, instead of the configuration's `admin.token_file`.
    #[arg(long, value_name = "FILE", requires = "watch")]
    token_file: Option<PathBuf>,
}

/// Watches the running idlegate for so long, or until a signal, and proposes rules. The configuration at `config` names its
/// listener unless `watching` does; `variables` override the file.
///
/// # Errors
/// Why it cannot be watched.
pub async fn propose_rules(
    watching: Watching,
    lasting: Duration,
    config: &Path,
    variables: &Variables,
) -> Result<String, CliError> {
    let at = At { config: None, admin: watching.admin, token_file: watching.token_file, json: false };
    let client = AdminClient::new(connect::find(&at, &ForOperators::load(config, variables))?);
    let mut signals = Signals::new().map_err(CliError::Output)?;
    let request = WatchRequest { lasting: format!("{}s", lasting.as_secs()) };
    client.send(Method::PUT, "/watch", serde_json::json!(request).to_string()).await?;
    eprintln!(
        "watching for {}. Leave a page of the app open, and do not touch it. Ctrl-C shows what there is so far",
        humantime::format_duration(lasting)
    );
    tokio::select! {
        () = tokio::time::sleep(lasting) => {}
        () = signals.any() => {}
    }
    let watched: Watched = client.send(Method::GET, "/watch", String::new()).await?.read()?;
    Ok(plain(&report(&watched)))
}

/// One kind of traffic, over all sessions.
#[derive(Default)]
struct Kind {
    count: usize,
    sessions: usize,
    /// The rhythm in each session that has one.
    rhythms: Vec<Rhythm>,
}

fn report(watched: &Watched) -> String {
    let mut kinds: BTreeMap<Traffic, Kind> = BTreeMap::new();
    let mut sessions: Vec<_> = watched.traffic.iter().map(|kind| &kind.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    for one in &watched.traffic {
        let kind = kinds.entry(one.what.clone()).or_default();
        kind.count += one.times.len();
        kind.sessions += 1;
        kind.rhythms.extend(Rhythm::of(&one.times));
    }
    let count: usize = kinds.values().map(|kind| kind.count).sum();
    let lasted = humantime::format_duration(Duration::from_secs(watched.lasted.div_ceil(1000)));
    let in_sessions = counted(sessions.len(), "session");
    let mut text =
        format!("# Watched for {lasted}: {count} requests and messages counted as activity, in {in_sessions}.\n");
    if watched.left_out > 0 {
        let _ = writeln!(text, "# {} more were not recorded: watch for a shorter time.", watched.left_out);
    }
    let timers: Vec<_> = kinds.iter().filter(|(_, kind)| !kind.rhythms.is_empty()).collect();
    if timers.is_empty() {
        let _ = writeln!(
            text,
            "# Nothing came at even intervals, so there is nothing to ignore yet. What comes every 5 minutes needs half an hour."
        );
    }
    for (what, kind) in timers {
        text.push('\n');
        propose(&mut text, what, kind);
    }
    text
}

fn propose(text: &mut String, what: &Traffic, kind: &Kind) {
    let mut every: Vec<_> = kind.rhythms.iter().map(|rhythm| rhythm.every).collect();
    every.sort_unstable();
    let odd: usize = kind.rhythms.iter().map(|rhythm| rhythm.odd).sum();
    let name = what.to_string();
    let middle = every[every.len() / 2];
    let _ = writeln!(
        text,
        "# {name}: {}, every {}.{} s in {} of {}.",
        counted(kind.count, "time"),
        middle / 1000,
        middle % 1000 / 100,
        kind.rhythms.len(),
        counted(kind.sessions, "session")
    );
    if odd > 0 {
        let _ = writeln!(
            text,
            "# {} came between, perhaps of a person: they would be ignored too. Find a condition that tells them apart.",
            counted(odd, "more")
        );
    }
    match what {
        Traffic::Request { path, .. } if !path.is_ascii() || path.contains('%') => {
            text.push_str("# Its path is not shown in full here: write the rule by hand.\n");
        }
        Traffic::Request { method, path } => {
            let _ = writeln!(
                text,
                "[[ignore]]\nname    = \"{}\"\nmethods = [\"{method}\"]\npaths   = [\"{}\"]",
                slug(&name),
                pattern(path)
            );
        }
        Traffic::Message { from, size } => {
            let presets = presets_for_messages(*from, *size);
            if !presets.is_empty() {
                let _ = writeln!(
                    text,
                    "# If the app uses one of these, its preset is safer than the length: activity.ignore = {presets:?}"
                );
            }
            text.push_str("# What a person sends may be as long: look at the message in the browser's developer tools, and add its text, prefix or json.\n");
            let _ = writeln!(text, "[[ignore]]\nname = \"{}\"\nfrom = \"{}\"\nsize = {size}", slug(&name), from.name());
        }
    }
}

/// A name for a rule.
fn slug(text: &str) -> String {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// The path, with a star for each segment that looks like an id.
fn pattern(path: &str) -> String {
    let is_id = |segment: &str| {
        let digits = segment.bytes().filter(u8::is_ascii_digit).count();
        digits > 0
            && (digits == segment.len()
                || segment.len() >= 16 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
    };
    let segments: Vec<_> = path.split('/').map(|segment| if is_id(segment) { "*" } else { segment }).collect();
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables};
    use crate::registry::TrafficTimes;
    use crate::websocket::Side;

    fn request(path: &str) -> Traffic {
        Traffic::Request { method: "GET".to_owned(), path: path.to_owned() }
    }

    fn seen(session: &str, what: Traffic, times: impl Iterator<Item = u64>) -> TrafficTimes {
        TrafficTimes { session: session.to_owned(), what, times: times.collect() }
    }

    #[test]
    fn what_comes_at_even_intervals_is_proposed_with_its_evidence_and_the_rules_are_valid() {
        let heartbeat = Traffic::Message { from: Side::Client, size: 1 };
        let watched = Watched {
            lasted: 900_000,
            left_out: 3,
            traffic: vec![
                seen("a", request("/api/kernels/3f2504e0-4f89-11d3-9a0c-0305e82c3301"), (0..90).map(|n| n * 10_000)),
                seen("b", request("/api/kernels/3f2504e0-4f89-11d3-9a0c-0305e82c3301"), [5, 700, 90_000].into_iter()),
                seen("a", request("/page"), [1000, 9000, 11_000, 55_000, 300_000, 301_000, 380_000].into_iter()),
                seen("a", heartbeat, (0..36).map(|n| n * 25_000)),
            ],
            ..Watched::default()
        };
        let text = report(&watched);
        for line in [
            "# Watched for 15m: 136 requests and messages counted as activity, in 2 sessions.",
            "# 3 more were not recorded: watch for a shorter time.",
            "# GET /api/kernels/3f2504e0-4f89-11d3-9a0c-0305e82c3301: 93 times, every 10.0 s in 1 of 2 sessions.",
            "paths   = [\"/api/kernels/*\"]",
            "# a message of the client, 1 byte: 36 times, every 25.0 s in 1 of 1 session.",
            "# If the app uses one of these, its preset is safer than the length: activity.ignore = [\"socket.io\", \"stomp\"]",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("/page"), "{text}");
        let config = format!("upstream = \"http://a\"\n[[token]]\nfrom = \"bearer\"\n{text}");
        let config = Config::parse(&config, "proxy.toml", &Variables::default()).unwrap();
        assert_eq!(config.ignore.len(), 2);
    }

    #[test]
    fn what_may_be_of_a_person_is_said() {
        let clicks = (0..50).map(|n| n * 2000).chain([7, 20_700, 44_444, 61_000]);
        let mut times: Vec<_> = clicks.collect();
        times.sort_unstable();
        let text = report(&Watched {
            lasted: 1,
            traffic: vec![seen("a", request("/_dash"), times.into_iter())],
            ..Watched::default()
        });
        assert!(text.contains("came between, perhaps of a person"), "{text}");
        let text = report(&Watched::default());
        assert!(text.contains("Nothing came at even intervals"), "{text}");
    }
}
