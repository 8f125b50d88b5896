//! The shipped `proxy.toml`, written for the app in `legacy-app.md`.

use super::*;
use crate::route::{NormalPath, Route};
use std::path::PathBuf;

/// The labels of the rules, without paths.
fn rules(config: &Config) -> Vec<String> {
    let rule = |rule: &TokenRule| format!("{:?} ends={} {:?}", rule.place, rule.ends, rule.accept);
    config.tokens.iter().map(rule).collect()
}

fn shipped() -> Config {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proxy.toml");
    assert!(path.is_file(), "{} is not there", path.display());
    Config::load(&path, &Variables::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn the_shipped_file_fits_the_app() {
    let config = shipped();
    assert_eq!(config.listen, "127.0.0.1:10086".parse().unwrap());
    assert_eq!(config.upstream, Upstream::Tcp("127.0.0.1:10087".to_owned()));
    assert!(config.reloadable.trusted_proxies.is_empty() && config.upgrades.is_empty());
    assert_eq!(config.idle, Limits { timeout: 3600, lifetime: None, retention: 48 * 3600 });
    assert_eq!((config.store, config.activity), (StoreSettings::Memory, ActivitySources::TAB));
    let denied = |path: &str| config.reloadable.deny.contains(&NormalPath::of(path));
    for path in ["/ws-legacy", "/api/setup", "/api/reset-database", "/api/admin/migrate", "/api/admin/password"] {
        assert!(denied(path), "{path}");
    }
    for path in ["/", "/ws", "/health", "/api/login", "/api/admin/auth/login", "/api/admin/users"] {
        assert!(!denied(path), "{path}");
    }
    let logout = config.reloadable.cut.logout;
    let message: serde_json::Value = serde_json::from_str(&logout.ws_message.unwrap()).unwrap();
    // The front end ignores every other reason.
    assert_eq!((&message["reason"], &message["message"]), (&"inactivity".into(), &"You have been logged out.".into()));
    assert_eq!((&logout.ws_reason[..], logout.delay), ("Session terminated: logged out", Duration::from_secs(2)));
    let keepalive = config.keepalive.unwrap();
    assert_eq!((&keepalive.upstream_message[..], keepalive.every.as_secs()), (r#"{"cmd":"pong"}"#, 60));
    let cut = config.reloadable.cut.idle;
    let message: serde_json::Value = serde_json::from_str(&cut.ws_message.unwrap()).unwrap();
    assert_eq!((&message["type"], &message["reason"]), (&"session_terminated".into(), &"inactivity".into()));
    assert_eq!((cut.ws_code, &cut.ws_reason[..]), (4002, "Session terminated: inactivity"));
    let body: serde_json::Value = serde_json::from_str(cut.http_body.as_ref().unwrap()).unwrap();
    assert_eq!((cut.http_status.as_u16(), &body["success"]), (401, &false.into()));
    assert_eq!(cut.http_headers.len(), 1);
    assert_eq!(cut.http_headers["access-control-allow-origin"], "*");
    assert_eq!(cut.login_url, None);
}

#[test]
fn the_shipped_rules_cover_every_location_of_the_token() {
    let config = shipped();
    let text = |field: &str, value: &str| format!("Conditions([({field}, Equal(Text({value:?})))])");
    let (command, success, error) =
        (text("/cmd", "authenticate"), text("/type", "auth_success"), text("/type", "error"));
    let answer = "Some(Conditions([(/success, Equal(Bool(true)))]))";
    let any = "Acceptance { media_type: None, accept_when: None, reject_when: None }";
    let json = format!("Acceptance {{ media_type: None, accept_when: {answer}, reject_when: None }}");
    let admin = json.replacen("None", "Some(\"application/json\")", 1);
    let expected = [
        format!("Header(\"session-id\") ends=false {json}"),
        format!(
            "WsClient {{ pointer: /session_id, when: {command}, accept_when: {success}, reject_when: Some({error}) }} ends=false {any}"
        ),
        format!("WsServer {{ pointer: /session_id, when: {success} }} ends=false {any}"),
        format!("RequestJson(/session_id) ends=false {json}"),
        format!("RequestJson(/session_id) ends=true {json}"),
        format!("ResponseJson(/session_id) ends=false {any}"),
        format!("ResponseJson(/token) ends=false {any}"),
        format!("Bearer ends=false {admin}"),
        format!("Bearer ends=true {admin}"),
    ];
    assert_eq!(rules(&config), expected);
    let applying = |path: &str| -> Vec<usize> {
        let route = Route::get(path);
        config.tokens.iter().enumerate().filter(|(_, rule)| rule.applies(&route)).map(|(index, _)| index).collect()
    };
    for (path, rules) in [
        ("/api/upload-file", vec![0]),
        ("/api/bulk-upload", vec![0]),
        ("/api/get-all-students", vec![0]),
        ("/ws", vec![1, 2]),
        ("/api/validate-session", vec![3]),
        ("/api/renew-session", vec![3]),
        ("/api/change-password", vec![3]),
        ("/api/logout", vec![4]),
        ("/api/login", vec![5]),
        ("/api/admin/auth/login", vec![6, 7]),
        ("/api/admin/users", vec![7]),
        ("/api/admin/auth/logout", vec![7, 8]),
        ("/", vec![]),
        ("/health", vec![]),
        ("/ws-legacy", vec![]),
    ] {
        assert_eq!(applying(path), rules, "{path}");
    }
}

#[test]
fn the_shipped_file_explains_every_key() {
    let text = include_str!("../../../proxy.toml");
    for line in text.lines().map(|line| line.trim_start_matches("# ")) {
        assert!(line.len() <= 125, "too long to read: {line}");
    }
    for key in [
        "listen",
        "upstream",
        "trusted_proxies",
        "deny",
        "cors",
        "upgrades",
        "max_sessions",
        "connect_timeout",
        "response_timeout",
        "write_timeout",
        "log",
        "timeout",
        "lifetime",
        "retention",
        "url",
        "profile",
        "client_frames",
        "server_frames",
        "client_pongs",
        "requests",
        "transfers",
        "from",
        "name",
        "pointer",
        "paths",
        "except_paths",
        "methods",
        "format",
        "required",
        "required_within",
        "unknown",
        "unknown_message",
        "when",
        "accept_when",
        "reject_when",
        "ends",
        "accept_type",
        "ws_message",
        "ws_code",
        "ws_reason",
        "http_status",
        "http_body",
        "http_headers",
        "ws_refuse",
        "login_url",
        "clear_site_data",
        "delay",
        "upstream_message",
        "every",
    ] {
        let stands = text.lines().any(|line| {
            line.trim_start_matches("# ").strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        assert!(stands, "{key}");
    }
}
