//! The environment: every key has a variable, and unknown variables are reported.

use super::super::document::Document;
use super::super::read;
use super::super::section::read_document;
use super::super::variable_of;
use super::*;
use crate::cut::HandshakeRefusal;
use crate::route::{NormalPath, Route};
use crate::token::{Location, Required};
use http::StatusCode;
use std::collections::BTreeSet;

/// A variable, a value that differs from the default and from the file, and a check that the configuration has it.
type Case = (&'static str, &'static str, fn(&Config) -> bool);

const BASE: &str = r#"upstream = "http://app"
[admin]
listen = "127.0.0.1:5"
[keepalive]
upstream_message = "pong"
[[token]]
from = "ws-client"
pointer = "/a"
when = { "/a" = 1 }
accept_when = { "/a" = 2 }
[[token]]
from = "header"
name = "x"
paths = ["/x"]
[[ignore]]
from = "client"
regex = "a"
[[ignore]]
paths = ["/x"]
"#;

fn denies(set: &PathSet, path: &str) -> bool {
    set.contains(&NormalPath::of(path))
}

fn shown(value: &impl std::fmt::Debug, what: &str) -> bool {
    format!("{value:?}").contains(what)
}

const CASES: &[Case] = &[
    ("LISTEN", "[::1]:7", |config| config.listen.port() == 7),
    ("UPSTREAM", "http://other:8", |config| config.upstream == Upstream::Tcp("other:8".to_owned())),
    ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", |config| config.reloadable.trusted_proxies.len() == 2),
    ("DENY", "/a, /b", |config| {
        denies(&config.reloadable.deny, "/a")
            && denies(&config.reloadable.deny, "/b")
            && !denies(&config.reloadable.deny, "/c")
    }),
    ("CORS", "https://a.example, http://b:3000", |config| {
        config.reloadable.cors == ["https://a.example", "http://b:3000"]
    }),
    ("UPGRADES", "[\"tcp\"]", |config| config.upgrades == ["tcp"]),
    ("UNDERSCORES_IN_HEADERS", "drop", |config| config.drop_underscores),
    ("LOG_FORMAT", "json", |config| config.log_format == LogFormat::Json),
    ("MAX_SESSIONS", "7", |config| config.max_sessions == 7),
    ("CONNECT_TIMEOUT", "7s", |config| config.reloadable.connect_timeout == Duration::from_secs(7)),
    ("RESPONSE_TIMEOUT", "7s", |config| config.reloadable.response_timeout == Duration::from_secs(7)),
    ("WRITE_TIMEOUT", "7s", |config| config.reloadable.write_timeout == Duration::from_secs(7)),
    ("GRACE_PERIOD", "7s", |config| config.reloadable.grace_period == Duration::from_secs(7)),
    ("LOG", "debug", |config| config.reloadable.log == LevelFilter::DEBUG),
    ("ADMIN", "{ listen = \"[::1]:9\" }", |config| shown(&config.admin, "[::1]:9")),
    ("ADMIN_LISTEN", "unix:/run/admin.sock", |config| shown(&config.admin, "admin.sock")),
    ("ADMIN_TOKEN_FILE", "/run/token", |config| shown(&config.admin, "/run/token")),
    ("AUDIT", "/var/log/audit.jsonl", |config| config.audit == Destination::File("/var/log/audit.jsonl".into())),
    ("HEALTH", "{ listen = \"[::1]:9\" }", |config| shown(&config.health, "[::1]:9")),
    ("HEALTH_LISTEN", "unix:/run/health.sock", |config| config.health == Some(Listen::Unix("/run/health.sock".into()))),
    ("IDLE", "{ timeout = \"7s\" }", |config| config.idle.timeout == 7),
    ("IDLE_TIMEOUT", "7s", |config| config.idle.timeout == 7),
    ("IDLE_LIFETIME", "7s", |config| config.idle.lifetime == Some(7)),
    ("IDLE_MODE", "observe", |config| config.reloadable.mode == Mode::Observe),
    ("IDLE_RETENTION", "7s", |config| config.idle.retention == 7),
    ("STORE", "{ url = \"memory\" }", |config| config.store == StoreSettings::Memory),
    ("STORE_URL", "redis+unix:///run/redis.sock", |config| matches!(config.store, StoreSettings::Redis(_))),
    ("STORE_PREFIX", "app", |config| config.store == StoreSettings::Memory),
    ("STORE_SECRET", "0123456789abcdef", |config| format!("{:?}", config.ids) == "SessionIds(keyed)"),
    ("STORE_SECRET_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), |config| shown(&config.ids, "keyed")),
    ("STORE_UNKNOWN_TOKENS", "refuse", |config| config.exchange.unknown_tokens == UnknownTokens::Refuse),
    ("STORE_PASSWORD_FILE", "/p", |config| config.store == StoreSettings::Memory),
    ("STORE_SENTINEL_PASSWORD_FILE", "/s", |config| config.store == StoreSettings::Memory),
    ("STORE_CA_FILE", "/c", |config| config.store == StoreSettings::Memory),
    ("STORE_LOOKUP_TIMEOUT", "1s", |config| config.exchange.lookup_timeout == Duration::from_secs(1)),
    ("STORE_FLUSH_INTERVAL", "500ms", |config| config.exchange.flush_interval == Duration::from_millis(500)),
    ("STORE_REPLICAS", "1", |config| config.store == StoreSettings::Memory),
    ("STORE_ON_OUTAGE", "hold", |config| config.store == StoreSettings::Memory),
    ("STORE_REPLICA_GRACE", "20s", |config| config.store == StoreSettings::Memory),
    ("ACTIVITY", "{ profile = \"person\" }", |config| config.activity == ActivitySources::PERSON),
    ("ACTIVITY_PROFILE", "person", |config| config.activity == ActivitySources::PERSON),
    ("ACTIVITY_CLIENT_FRAMES", "false", |config| !config.activity.client_frames),
    ("ACTIVITY_SERVER_FRAMES", "false", |config| !config.activity.server_frames),
    ("ACTIVITY_CLIENT_PONGS", "false", |config| !config.activity.client_pongs),
    ("KEEPALIVE", "{ upstream_message = \"x\" }", |config| {
        config.keepalive == Some(Keepalive { upstream_message: "x".into(), every: Duration::from_secs(60) })
    }),
    ("KEEPALIVE_UPSTREAM_MESSAGE", "x", |config| config.keepalive.as_ref().unwrap().upstream_message == "x"),
    ("KEEPALIVE_EVERY", "7s", |config| config.keepalive.as_ref().unwrap().every == Duration::from_secs(7)),
    ("ACTIVITY_REQUESTS", " false ", |config| !config.activity.requests),
    ("ACTIVITY_TRANSFERS", "false", |config| !config.activity.uploads && !config.activity.downloads),
    ("TOKEN", "[{from=\"cookie\",name=\"sid\"}]", |config| {
        config.tokens.len() == 1 && matches!(&config.tokens[0].place, Location::Cookie(name) if name == "sid")
    }),
    ("TOKEN_0_POINTER", "/other", |config| shown(&config.tokens[0], "/other")),
    ("TOKEN_0_WHEN", "{ \"/other\" = true }", |config| shown(&config.tokens[0], "/other")),
    ("TOKEN_0_ACCEPT_WHEN", "{ \"/other\" = true }", |config| shown(&config.tokens[0], "/other")),
    ("TOKEN_0_REJECT_WHEN", "{ \"/other\" = true }", |config| shown(&config.tokens[0], "/other")),
    ("TOKEN_1_FROM", "query", |config| matches!(&config.tokens[1].place, Location::Query(name) if name == "x")),
    ("TOKEN_1_NAME", "other", |config| shown(&config.tokens[1], "other")),
    ("TOKEN_1_PATHS", "/y,/z/*", |config| config.tokens[1].applies(&Route::get("/z/1"))),
    ("TOKEN_1_EXCEPT_PATHS", "/x/y", |config| !config.tokens[1].except.is_empty()),
    ("TOKEN_1_METHODS", "GET,POST", |config| config.tokens[1].methods.as_ref().is_some_and(|all| all.len() == 2)),
    ("TOKEN_1_REQUIRED", "true", |config| config.tokens[1].required == Some(Required::Own)),
    ("TOKEN_1_FORMAT", "[a-z]+", |config| shown(&config.tokens[1].format, "[a-z]+")),
    ("TOKEN_1_UNKNOWN", "refuse", |config| config.tokens[1].refuses_unknown),
    ("TOKEN_0_UNKNOWN_MESSAGE", "no", |config| config.tokens[0].unknown_message.as_deref() == Some("no")),
    ("TOKEN_0_REQUIRED_WITHIN", "7s", |config| config.tokens[0].required_within == Some(Duration::from_secs(7))),
    ("TOKEN_1_ENDS", "true", |config| config.tokens[1].ends),
    ("TOKEN_1_ACCEPT_TYPE", "text/HTML", |config| config.tokens[1].accept.media_type.as_deref() == Some("text/html")),
    ("TOKEN_2_FROM", "bearer", |config| config.tokens.len() == 3),
    ("ACTIVITY_IGNORE", "mqtt,stomp", |config| config.ignore.len() == 6),
    ("IGNORE", "[{ paths = [\"/only\"] }]", |config| config.ignore.len() == 1),
    ("IGNORE_0_FROM", "server", |config| shown(&config.ignore[0].what, "Message(Server")),
    ("IGNORE_0_NAME", "pings", |config| config.ignore[0].name == "pings"),
    ("IGNORE_0_TEXT", "[\"2\", \"3\"]", |config| shown(&config.ignore[0].what, "[\"2\", \"3\"]")),
    ("IGNORE_0_PREFIX", "42[", |config| shown(&config.ignore[0].what, "42[")),
    ("IGNORE_0_REGEX", "^b", |config| shown(&config.ignore[0].what, "^b")),
    ("IGNORE_0_BINARY_PREFIX", "c0 00", |config| shown(&config.ignore[0].what, "[192, 0]")),
    ("IGNORE_0_SIZE", "\"1..20\"", |config| shown(&config.ignore[0].what, "1..=20")),
    ("IGNORE_1_PATHS", "/y", |config| config.ignore[1].paths.as_ref().is_some_and(|paths| denies(paths, "/y"))),
    ("IGNORE_1_METHODS", "GET", |config| shown(&config.ignore[1].what, "GET")),
    ("IGNORE_1_QUERY", "{ silent = 1 }", |config| shown(&config.ignore[1].what, "silent")),
    ("IGNORE_1_HEADERS", "{ X-Poll = { exists = true } }", |config| shown(&config.ignore[1].what, "x-poll")),
    ("IGNORE_1_JSON", "{ \"/a\" = [1, 2] }", |config| shown(&config.ignore[1].what, "OneOf")),
    ("CUT", "{ ws_code = 4000 }", |config| config.reloadable.cut.idle.ws_code == 4000),
    ("CUT_WS_MESSAGE", "true", |config| config.reloadable.cut.idle.ws_message.as_deref() == Some("true")),
    ("CUT_WS_CODE", "4000", |config| config.reloadable.cut.idle.ws_code == 4000),
    ("CUT_WS_REASON", "7", |config| config.reloadable.cut.idle.ws_reason == "7"),
    ("CUT_HTTP_STATUS", "403", |config| config.reloadable.cut.idle.http_status == StatusCode::FORBIDDEN),
    ("CUT_HTTP_BODY", "{\"a\":1}", |config| config.reloadable.cut.idle.http_body.as_deref() == Some("{\"a\":1}")),
    ("CUT_HTTP_HEADERS", "{ Vary = \"Origin\" }", |config| {
        config.reloadable.cut.idle.http_headers.get("vary").is_some_and(|value| value == "Origin")
    }),
    ("CUT_WS_REFUSE", "message", |config| config.reloadable.cut.idle.handshake_refusal() == HandshakeRefusal::Message),
    ("CUT_CLEAR_SITE_DATA", "cookies", |config| {
        config.reloadable.cut.idle.clear_site_data.as_ref().is_some_and(|value| value == "\"cookies\"")
    }),
    ("CUT_LOGOUT_DELAY", "0s", |config| config.reloadable.cut.logout.delay == Duration::ZERO),
    ("CUT_LOGIN_URL", "/login", |config| {
        config.reloadable.cut.idle.login_url.as_ref().is_some_and(|url| url == "/login")
    }),
];

type CutCase = (&'static str, &'static str, fn(&CutWords) -> bool);

/// The keys of `[cut]` that the table of each reason may set as well.
const CUT_CASES: &[CutCase] = &[
    ("WS_MESSAGE", "true", |words| words.ws_message.as_deref() == Some("true")),
    ("WS_CODE", "4000", |words| words.ws_code == 4000),
    ("WS_REASON", "7", |words| words.ws_reason == "7"),
    ("HTTP_STATUS", "403", |words| words.http_status == StatusCode::FORBIDDEN),
    ("HTTP_BODY", "{\"a\":1}", |words| words.http_body.as_deref() == Some("{\"a\":1}")),
    ("HTTP_HEADERS", "{ Vary = \"Origin\" }", |words| words.http_headers.contains_key("vary")),
    ("WS_REFUSE", "message", |words| words.handshake_refusal() == HandshakeRefusal::Message),
    ("CLEAR_SITE_DATA", "[\"cookies\", \"storage\"]", |words| words.clear_site_data.is_some()),
    ("LOGIN_URL", "/login", |words| words.login_url.as_ref().is_some_and(|url| url == "/login")),
];

/// The tables of `[cut]`, in the order of `Cut::all_words`.
const CUT_TABLES: [&str; 6] = ["idle", "lifetime", "logout", "operator", "missing", "unknown"];

/// Splits `LOGOUT_WS_CODE` into its table and `WS_CODE`.
fn without_reason(name: &str) -> Option<(&str, &str)> {
    CUT_TABLES
        .into_iter()
        .find_map(|table| Some((table, name.strip_prefix(&table.to_ascii_uppercase())?.strip_prefix('_')?)))
}

#[test]
fn each_reason_has_its_own_cut_settings_and_editing_them_needs_no_restart() {
    for table in CUT_TABLES {
        for (key, value, shows) in CUT_CASES {
            let variable = format!("IDLEGATE_CUT_{}_{key}", table.to_ascii_uppercase());
            let edited =
                parse_with(BASE, &[(&variable, value)]).unwrap_or_else(|errors| panic!("{variable}: {errors:#?}"));
            let shown = edited.reloadable.cut.all_words().map(shows);
            assert_eq!(shown, CUT_TABLES.map(|other| other == table), "{variable}");
            let path = format!("cut.{table}.{}", key.to_ascii_lowercase());
            assert_eq!(parse(BASE).unwrap().reload(edited).applied, [path]);
        }
    }
    let common =
        parse_with(BASE, &[("IDLEGATE_CUT_WS_CODE", "4000"), ("IDLEGATE_CUT_LOGOUT_WS_CODE", "4001")]).unwrap();
    assert_eq!(common.reloadable.cut.all_words().map(|words| words.ws_code), [4000, 4000, 4001, 4000, 4000, 4000]);
    assert_eq!(parse(BASE).unwrap().reloadable.cut.logout.delay, Duration::from_secs(2));
}

#[test]
fn an_empty_media_type_removes_that_of_the_file() {
    let text = format!("{LEAST}accept_type = \"text/html\"\n");
    let of = |variables: &[(&str, &str)]| parse_with(&text, variables).unwrap().tokens[0].accept.media_type.clone();
    assert_eq!(of(&[]).as_deref(), Some("text/html"));
    assert_eq!(of(&[("IDLEGATE_TOKEN_0_ACCEPT_TYPE", "")]), None);
}

#[test]
fn each_variable_overrides_its_key() {
    let before = parse(BASE).unwrap();
    for (name, value, shows) in CASES {
        let variable = format!("IDLEGATE_{name}");
        let after = parse_with(BASE, &[(&variable, value)]).unwrap_or_else(|errors| panic!("{variable}: {errors:#?}"));
        assert!(shows(&after), "{variable}: {after:?}");
        // Settings of Redis do not show in the memory store.
        assert!(name.starts_with("STORE") || !shows(&before), "{variable} proves nothing");
    }
}

#[test]
fn the_cases_above_cover_every_key() {
    let variables = Variables::default();
    let mut document = Document::new("proxy.toml", BASE, &variables);
    read_document(&mut document, read::config);
    let keys: Vec<_> = document.known().iter().map(|path| variable_of(path)).collect();
    let names: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(names.len(), keys.len(), "two keys with one variable");
    let rules_key = |name: &str| {
        let lists = ["TOKEN", "IGNORE"].into_iter();
        let found = lists.filter_map(|list| Some((list, name.strip_prefix(&format!("IDLEGATE_{list}_"))?)));
        found.map(|(list, rest)| (list, rest[2..].to_owned())).next()
    };
    for name in names {
        let shown = CASES.iter().any(|(case, ..)| {
            let case = format!("IDLEGATE_{case}");
            case == name || rules_key(&name).is_some_and(|key| rules_key(&case) == Some(key))
        });
        let shown = shown
            || name.strip_prefix("IDLEGATE_CUT_").and_then(without_reason).is_some_and(|(_, key)| {
                CUT_CASES.iter().any(|(case, ..)| *case == key)
            })
            // The tables themselves.
            || CUT_TABLES.iter().any(|table| name == format!("IDLEGATE_CUT_{}", table.to_ascii_uppercase()));
        assert!(shown, "{name}");
    }
}

/// The keys that `name` sets to `value`: exactly one, unless it is a table.
fn keys_of(name: &str, value: &str) -> Vec<String> {
    let variables = Variables::from_iter([(format!("IDLEGATE_{name}"), value.to_owned())]);
    let written = |variables: &Variables| {
        let mut document = Document::new("proxy.toml", BASE, variables);
        read_document(&mut document, read::config);
        document.written
    };
    written(&Variables::default()).differing(&written(&variables))
}

#[test]
fn an_edit_of_each_key_is_applied_or_reported_as_pending() {
    let mut applied_keys = BTreeSet::new();
    for (name, value, shows) in CASES {
        let (mut running, edited) = (parse(BASE).unwrap(), parse_with(BASE, &[(&format!("IDLEGATE_{name}"), value)]));
        let edited = edited.unwrap();
        let keys = keys_of(name, value);
        // A table with one key, or all rules.
        assert!(keys.len() == 1 || ["TOKEN", "IGNORE"].contains(name), "{name}: {keys:?}");
        assert!(keys.iter().all(|key| variable_of(key).starts_with(&format!("IDLEGATE_{name}"))), "{name}: {keys:?}");
        let Changes { applied, pending, .. } = running.reload(edited.clone());
        let errors: BTreeSet<_> = applied.iter().chain(&pending).cloned().collect();
        assert_eq!(errors, keys.into_iter().collect(), "{name}");
        assert!(applied.is_empty() || pending.is_empty(), "{name}");
        if pending.is_empty() {
            assert!(shows(&running), "{name} is not in force");
        } else {
            assert!(name.starts_with("STORE") || !shows(&running), "{name} is in force, and said not to be");
        }
        // Reload again: applied keys are no longer a change, pending keys are still pending.
        let again = running.reload(edited);
        assert_eq!((again.applied, again.pending), (vec![], pending), "{name}");
        // Revert the edit: nothing is pending any more.
        let back = running.reload(parse(BASE).unwrap());
        assert_eq!((&back.applied, back.pending), (&applied, vec![]), "{name}");
        assert!(name.starts_with("STORE") || !shows(&running), "{name} is still in force");
        applied_keys.extend(applied);
    }
    assert_eq!(applied_keys, RELOADABLE.iter().map(|key| (*key).to_owned()).collect());
}

#[test]
fn an_edit_is_reported_as_applied_pending_or_shadowed() {
    let file = |more: &str| format!("{more}\n{LEAST}\n[store]\nsecret = \"0123456789abcdef\"\n");
    let mut running = parse(&file("log = \"warn\"\ndeny = [\"/a\"]\nmax_sessions = 9")).unwrap();
    assert!(!format!("{running:?}").contains("0123456789abcdef"));
    // The same content with other quotes, comments and order.
    let same = file("# Less.\nmax_sessions = 9\ndeny = [ '/a' ]\nlog = 'warn'");
    assert_eq!(running.reload(parse(&same).unwrap()), Changes::default());
    // A key removed, a key set, and a key overridden by a variable.
    let edited = parse_with(&file("connect_timeout = \"7s\"\nlog = \"off\""), &[("IDLEGATE_LOG", "warn")]).unwrap();
    let Changes { applied, pending, shadowed } = running.reload(edited.clone());
    assert_eq!((applied, pending), (vec!["connect_timeout".into(), "deny".into()], vec!["max_sessions".into()]));
    assert_eq!(shadowed, ["log"]);
    // The shadowed value unchanged, changed, and removed.
    for (log, shadowed) in [("log = \"off\"", false), ("log = \"info\"", true), ("", true)] {
        let text = file(&format!("connect_timeout = \"7s\"\n{log}"));
        let edited = parse_with(&text, &[("IDLEGATE_LOG", "warn")]).unwrap();
        assert_eq!(running.reload(edited).shadowed.is_empty(), !shadowed, "{log}");
    }
    // One rule removed.
    let text = format!("{}\n{BASE}", "max_sessions = 9");
    let (rules, _) = text.rsplit_once("[[token]]").unwrap();
    let mut running = parse(&text).unwrap();
    assert_eq!(
        running.reload(parse(rules).unwrap()).pending,
        ["ignore.0.from", "ignore.0.regex", "ignore.1.paths", "token.1.from", "token.1.name", "token.1.paths"]
    );
}

#[test]
fn an_empty_variable_of_a_list_means_the_empty_list() {
    let text = format!("deny = [\"/a\"]\ntrusted_proxies = [\"::1\"]\n{LEAST}");
    for empty in ["", " ", "[]"] {
        let config = parse_with(&text, &[("IDLEGATE_DENY", empty), ("IDLEGATE_TRUSTED_PROXIES", empty)]).unwrap();
        assert_eq!((config.reloadable.deny, config.reloadable.trusted_proxies), (PathSet::default(), vec![]));
    }
    let errors = parse_with(&text, &[("IDLEGATE_TOKEN", "")]).unwrap_err();
    assert!(errors.len() == 1 && errors[0].contains("no [[token]] rule"), "{errors:#?}");
    let errors = parse_with(&text, &[("IDLEGATE_TOKEN_0_PATHS", "")]).unwrap_err();
    assert!(
        errors.len() == 1 && errors[0].contains("IDLEGATE_TOKEN_0_PATHS: token.0.paths: an empty list"),
        "{errors:#?}"
    );
}

#[test]
fn an_invalid_variable_is_named() {
    for (name, value, errors) in [
        (
            "IDLEGATE_IDLE_TIMEOUT",
            "1 hourr",
            "idle.timeout: \"1 hourr\" is not a duration; write it like \"1h\" or \"45s\"",
        ),
        ("IDLEGATE_MAX_SESSIONS", "many", "max_sessions: expected a whole number, found text"),
        ("IDLEGATE_MAX_SESSIONS", "", "max_sessions: expected a whole number, found text"),
        ("IDLEGATE_DENY", "/a,b", "deny: \"b\" is not a path"),
        ("IDLEGATE_DENY", "[\"/a\"", "deny: not valid TOML"),
        ("IDLEGATE_DENY", "{a = 1}", "deny: expected a list, found a table"),
        ("IDLEGATE_IDLE", "{ timout = \"1h\" }", "idle.timout: unknown key; did you mean idle.timeout?"),
        ("IDLEGATE_TOKEN", "[{from=\"cookie\"}]", "token.0.name: a cookie rule needs it"),
        ("IDLEGATE_TOKEN", "bearer", "token.0: expected a table, found text"),
        ("IDLEGATE_CUT_HTTP_HEADERS", "{ A = 1 }", "cut.http_headers: expected text, found a whole number"),
        ("IDLEGATE_ACTIVITY_REQUESTS", "yes", "activity.requests: expected true or false, found text"),
    ] {
        let problems = parse_with(LEAST, &[(name, value)]).expect_err(name).join("\n");
        assert!(problems.starts_with(&format!("environment variable {name}: {errors}")), "{problems}");
    }
    // An invalid value in the file is ignored if a variable overrides it.
    assert!(parse_with(&format!("log = 7\n{LEAST}"), &[("IDLEGATE_LOG", "off")]).is_ok());
}

#[test]
fn unknown_variables_are_reported_except_those_of_other_programs() {
    for (name, fix) in [
        ("IDLEGATE_IDLE_TIMOUT", "did you mean IDLEGATE_IDLE_TIMEOUT?"),
        ("IDLEGATE_LISTN", "did you mean IDLEGATE_LISTEN?"),
        ("IDLEGATE_DNEY", "did you mean IDLEGATE_DENY?"),
        ("IDLEGATE_NOTHING_LIKE_IT", "unset it"),
        ("IDLEGATE_", "unset it"),
    ] {
        let errors = parse_with(LEAST, &[(name, "hunter2")]).expect_err(name);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].starts_with(&format!("environment variable {name}: unknown variable; {fix}")), "{errors:#?}");
        assert!(!errors[0].contains("hunter2"));
    }
    let others = [
        ("IDLEGATE_CONFIG", "proxy.toml"),
        ("IDLEGATE_SERVICE_HOST", "10.0.0.1"),
        ("IDLEGATE_SERVICE_PORT", "80"),
        ("IDLEGATE_SERVICE_PORT_HTTP", "80"),
        ("IDLEGATE_PORT", "tcp://10.0.0.1:80"),
        ("IDLEGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("IDLEGATE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("IDLEGATE_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("IDLEGATE_METRICS_PORT_53_UDP_PROTO", "udp"),
        ("IDLEGATE_TOKEN_1_SERVICE_HOST", "10.0.0.1"),
        ("IDLEGATEX", "1"),
        ("LISTEN", "1"),
    ];
    assert_eq!(parse_with(LEAST, &others).unwrap().tokens.len(), 1);
}
