//! Valid and invalid configurations.

mod environment;
mod random;
mod shipped;
mod store;
mod wrong;

use super::*;
use crate::cut::CutWords;
use crate::registry::UnknownTokens;
use crate::route::PathSet;
use crate::session::Mode;
use crate::store::RedisSettings;
use ipnet::IpNet;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// The smallest valid configuration.
const LEAST: &str = "upstream = \"http://app\"\n[[token]]\nfrom = \"bearer\"\n";

fn environment(variables: &[(&str, &str)]) -> Variables {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    Config::parse(text, "proxy.toml", &environment(variables))
        .map_err(|problems| problems.to_string().lines().map(str::to_owned).collect())
}

fn parse(text: &str) -> Result<Config, Vec<String>> {
    parse_with(text, &[])
}

#[test]
fn a_missing_key_has_its_default() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.listen, "127.0.0.1:10086".parse().unwrap());
    assert_eq!(config.upstream, Upstream::Tcp("app:80".to_owned()));
    assert_eq!(config.reloadable.trusted_proxies, []);
    assert_eq!(config.reloadable.deny, PathSet::default());
    assert!(config.upgrades.is_empty());
    assert_eq!(config.max_sessions, 100_000);
    assert_eq!(
        [
            config.reloadable.connect_timeout,
            config.reloadable.response_timeout,
            config.reloadable.write_timeout,
            config.reloadable.grace_period
        ],
        [5, 60, 60, 10].map(Duration::from_secs)
    );
    assert_eq!(config.reloadable.log, LevelFilter::INFO);
    assert_eq!(config.audit, Destination::Stdout);
    assert_eq!(config.idle, Limits { timeout: 3600, lifetime: None, retention: 172_800 });
    assert_eq!(config.store, StoreSettings::Memory);
    assert_eq!(config.activity, ActivitySources::TAB);
    let [rule] = &config.tokens[..] else { panic!("{:?}", config.tokens) };
    assert!(matches!(rule.place, crate::token::Location::Bearer));
    assert!(rule.paths.is_none() && !rule.ends && rule.accept.media_type.is_none());
    let cut = config.reloadable.cut.idle;
    assert_eq!((cut.ws_message, cut.ws_code, &cut.ws_reason[..]), (None, 1008, "Session ended: inactivity"));
    assert_eq!((cut.http_status.as_u16(), &cut.http_body), (401, &None));
    assert!(cut.http_headers.is_empty() && cut.login_url.is_none());
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = r#"listen = "localhost:10086"
upstrem = "http://127.0.0.1:10087"
deny = [
    "/ok",
    "no-slash",
    7,
    "/a**b",
]
max_sessions = 0
[idle]
timeout = "1 hourr"
timout = "1h"
lifetime = 3600
[store]
url = "valkey://:hunter2@redis"
[activity]
profile = "human"
client_pongs = "yes"
[[token]]
from = "header"
paths = []
[[token]]
from = "ws-client"
name = "x"
pointer = "session_id"
when = { "/cmd" = [[1]], "cmd" = 1 }
[[token]]
from = "bearer"
ends = true
[cut]
ws_code = 1006
http_status = 200
deny = ["/x"]
[cut.http_headers]
"Content-Length" = "3"
"A" = 1
[extra]
key = 1
"#;
    let errors = parse(text).unwrap_err();
    let expected = [
        r#":1: listen: "localhost:10086" is not an IP address and a port; names are not looked up: write "127.0.0.1:10086""#,
        r":2: upstrem: unknown key; did you mean upstream?",
        r#":5: deny: "no-slash" is not a path: a path begins with "/"; write it like "/api/login" or "/api/admin/*""#,
        r":6: deny: expected text, found a whole number; write every element of the list in quotes",
        r#":7: deny: "/a**b" is not a path: "**" has no meaning: a final "/*" is everything below, any other "*" a part of one segment; write it like "/api/login" or "/api/admin/*""#,
        r":9: max_sessions: 0 is out of range; write a number from 1 to 10000000",
        r#":11: idle.timeout: "1 hourr" is not a duration; write it like "1h" or "45s""#,
        r":12: idle.timout: unknown key; did you mean idle.timeout?",
        r#":13: idle.lifetime: 3600 has no unit; for seconds write "3600s", which is "1h""#,
        r#":15: store.url: not a supported store; write "memory", "file:/var/lib/idlegate/sessions" or "redis://127.0.0.1:6379""#,
        r#":17: activity.profile: "human" is not a profile; write "tab" (an open tab keeps its session) or "person" (only user actions do)"#,
        r":18: activity.client_pongs: expected true or false, found text; write true or false, without quotes",
        r#":19: token.0.name: a header rule needs it; add name = "session-id""#,
        r":21: token.0.paths: an empty list: the rule would apply nowhere; name paths, or leave out the key for everywhere",
        r#":22: token.1.accept_when: a ws-client rule needs it; add accept_when = { "/type" = "auth_success" }"#,
        r":24: token.1.name: a ws-client rule has no such key; remove it; it is for header, cookie, query",
        r#":25: token.1.pointer: "session_id" is not a JSON pointer to a field; write it like "/session_id" or "/user/token" (~1 for /, ~0 for ~ in a name)"#,
        r":26: token.1.when: expected a single value, found a list; compare with text, a number, true or false; with a list of these; or with { exists = true } or { regex = '^a' }",
        r#":26: token.1.when: "cmd" is not a JSON pointer to a field; write it like "/session_id" or "/user/token" (~1 for /, ~0 for ~ in a name)"#,
        r#":29: token.2.ends: without paths, every request with a token would be a logout; add paths = ["/api/logout"]"#,
        r":31: cut.ws_code: a Close with code 1006 must not be sent; write 1008 (policy violation), or a code of the app's own from 4000 to 4999",
        r":32: cut.http_status: 200 is out of range; write a number from 400 to 599",
        r":33: cut.deny: unknown key; did you mean deny? Write it above the first [table]",
        r":35: cut.http_headers: the header content-length is set by idlegate itself; remove it",
        r":36: cut.http_headers: expected text, found a whole number; write the header's value in quotes",
        r":37: extra: unknown key; remove it, or use one of: activity, admin, audit, connect_timeout, cors, cut, deny, grace_period, health, idle, ignore, keepalive, listen, log, log_format, max_sessions, response_timeout, store, token, trusted_proxies, underscores_in_headers, upgrades, upstream, write_timeout",
        r#": upstream: nothing says where the app listens; add upstream = "http://127.0.0.1:10087""#,
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("proxy.toml{line}")).collect();
    assert_eq!(errors, expected);
}

#[test]
fn syntax_errors_are_reported_along_with_invalid_values() {
    let errors = parse("listen = 127.0.0.1:1\nupstream = \"http://app\n[idle]\ntimeout = \"soon\"\n").unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    for (line, place) in
        errors.iter().zip(["proxy.toml:1: not valid", "proxy.toml:2: not valid", "proxy.toml:4: idle.timeout"])
    {
        assert!(line.starts_with(place), "{line}");
    }
    let errors = parse("a = 1\n[idle\ntimeout = 7\n").unwrap_err();
    assert!(errors.len() == 1 && errors[0].starts_with("proxy.toml:2: not valid TOML: unclosed table"), "{errors:#?}");
    let errors = parse(&format!("log = \"info\"\nlog = \"warn\"\n{LEAST}")).unwrap_err();
    assert_eq!(errors, ["proxy.toml:2: not valid TOML: duplicate key; keep one of them"]);
}

#[test]
fn an_empty_file_lacks_two_required_keys() {
    let errors = parse("").unwrap_err().join("\n");
    assert!(
        errors.contains("proxy.toml: upstream: nothing says")
            && errors.contains("proxy.toml: token: no [[token]] rule: nothing would be tracked"),
        "{errors}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    let errors = Config::load(&path, &Variables::default()).unwrap_err().to_string();
    assert!(errors.starts_with(&format!("{}: cannot be read: ", path.display())), "{errors}");
    assert!(errors.ends_with("create it, or name another file with --config or IDLEGATE_CONFIG"), "{errors}");
    std::fs::write(&path, b"upstream = \"\xff\"").unwrap();
    let errors = Config::load(&path, &Variables::default()).unwrap_err().to_string();
    assert!(errors.ends_with("save it as UTF-8"), "{errors}");
    std::fs::write(&path, LEAST).unwrap();
    let config =
        Config::load(&path, &environment(&[("IDLEGATE_UPSTREAM", "unix:/run/app.sock"), ("PATH", "/bin")])).unwrap();
    assert_eq!(config.upstream, Upstream::Unix("/run/app.sock".into()));
}
