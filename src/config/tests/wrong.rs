//! Valid and invalid single values, and their error messages.

use super::*;
use crate::cut::HandshakeRefusal;
use crate::token::json::Pointer;
use crate::token::{Conditions, Expected, Location, Pattern, Scalar};

/// The only problem of `LEAST` with `line` above its rule, or below `[table]`.
fn problem(table: &str, line: &str) -> String {
    let text = if table.is_empty() { format!("{line}\n{LEAST}") } else { format!("{LEAST}[{table}]\n{line}\n") };
    let errors = parse(&text).expect_err(line);
    assert_eq!(errors.len(), 1, "{line}: {errors:#?}");
    errors.into_iter().next().unwrap()
}

fn rule(lines: &str) -> Result<Config, Vec<String>> {
    parse(&format!("upstream = \"http://app\"\n[[token]]\n{lines}\n"))
}

fn upstream(text: &str) -> Result<Config, Vec<String>> {
    parse_with(LEAST, &[("IDLEGATE_UPSTREAM", text)])
}

#[test]
fn listen_is_an_address_and_a_port() {
    for (value, fix) in [
        ("localhost:8080", "write \"127.0.0.1:8080\""),
        (":8080", "\"0.0.0.0:8080\" for every network"),
        ("*:8080", "\"0.0.0.0:8080\" for every network"),
        ("8080", "\"0.0.0.0:8080\" for every network"),
        ("127.0.0.1", "write it like"),
        ("", "write it like"),
    ] {
        let errors = problem("", &format!("listen = \"{value}\""));
        assert!(errors.starts_with("proxy.toml:1: listen: ") && errors.contains(fix), "{errors}");
    }
}

#[test]
fn upstream_is_a_host_and_a_port_or_a_socket() {
    for (text, address) in [
        ("http://app:9", "app:9"),
        ("HTTP://app/", "app:80"),
        ("http://my_app.local", "my_app.local:80"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]:80"),
    ] {
        assert_eq!(upstream(text).unwrap().upstream, Upstream::Tcp(address.to_owned()), "{text}");
    }
    for text in ["unix:/run/app.sock", "unix:///run/app.sock"] {
        assert_eq!(upstream(text).unwrap().upstream, Upstream::Unix("/run/app.sock".into()), "{text}");
    }
    for (text, what) in [
        ("https://app", "TLS to the app is not supported"),
        ("ftp://app", "only http:// and unix:"),
        ("app:9", "begins with neither http://"),
        ("http://app/path", "has a path"),
        ("http://app?x", "has a path or a query"),
        ("http://user:hunter2@app", "before \"@\""),
        ("http://", "not a host and a port"),
        ("http://:9", "not a host and a port"),
        ("http://app:", "not a host and a port"),
        ("http://app:0", "not a host and a port"),
        ("http://app:+9", "not a host and a port"),
        ("http://app:65536", "not a host and a port"),
        ("http://::1", "not a host and a port"),
        ("http://[::1", "not a host and a port"),
        ("http://[::1]x", "not a host and a port"),
        ("http://a b", "not a host and a port"),
        ("unix:app.sock", "not an absolute path"),
        ("unix:/", "is a directory"),
        ("unix:", "not an absolute path"),
        ("http://127.0.0.1:10086", "idlegate itself"),
        ("http://localhost:10086", "idlegate itself"),
        ("", "begins with neither"),
    ] {
        let errors = upstream(text).expect_err(text).join("\n");
        assert!(errors.contains(what) && !errors.contains("hunter2"), "{text}: {errors}");
    }
    let long = format!("unix:/{}", "x".repeat(107));
    assert!(upstream(&long).unwrap_err()[0].contains("107 bytes"));
    let everywhere = [("IDLEGATE_LISTEN", "0.0.0.0:9"), ("IDLEGATE_UPSTREAM", "http://127.0.0.1:9")];
    assert!(parse_with(LEAST, &everywhere).is_err());
    let elsewhere = [("IDLEGATE_LISTEN", "127.0.0.1:9"), ("IDLEGATE_UPSTREAM", "http://127.0.0.2:9")];
    assert!(parse_with(LEAST, &elsewhere).is_ok());
}

#[test]
fn health_has_an_address_of_its_own() {
    let parsed = |listen: &str, app: &str, health: &str| {
        let text = format!("listen = \"{listen}\"\nupstream = \"{app}\"\n[[token]]\nfrom = \"bearer\"\n");
        parse_with(&text, &[("IDLEGATE_HEALTH_LISTEN", health)]).map(|config| config.health)
    };
    let (clients, app) = ("127.0.0.1:7", "http://127.0.0.1:8");
    for (listen, health) in [
        (clients, "127.0.0.1:9"),
        (clients, "127.0.0.2:7"),
        (clients, "[::1]:0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("127.0.0.1:0", "0.0.0.0:0"),
    ] {
        assert_eq!(parsed(listen, app, health).unwrap(), Some(Listen::Tcp(health.parse().unwrap())), "{health}");
    }
    assert_eq!(parsed(clients, app, "unix:///run/h").unwrap(), Some(Listen::Unix("/run/h".into())));
    assert_eq!(parse(LEAST).unwrap().health, None);
    for (listen, app, health, what) in [
        (clients, app, "127.0.0.1:7", "it is `listen`"),
        (clients, app, "0.0.0.0:7", "it is `listen`"),
        ("0.0.0.0:7", app, "10.0.0.1:7", "it is `listen`"),
        ("[::]:7", app, "0.0.0.0:7", "it is `listen`"),
        (clients, app, "127.0.0.1:8", "it is `upstream`"),
        (clients, "http://localhost:8", "0.0.0.0:8", "it is `upstream`"),
        (clients, "unix:/run/a", "unix:/run/a", "it is `upstream`"),
        (clients, app, "localhost:9", "names are not looked up: write \"127.0.0.1:9\""),
        (clients, app, "9", "write \"127.0.0.1:9\" for this host alone"),
        (clients, app, "", "is not an IP address and a port"),
        (clients, app, "unix:health.sock", "is not an absolute path"),
    ] {
        let errors = parsed(listen, app, health).expect_err(health);
        let start = "environment variable IDLEGATE_HEALTH_LISTEN: health.listen: ";
        assert!(errors.len() == 1 && errors[0].starts_with(start) && errors[0].contains(what), "{health}: {errors:#?}");
    }
}

#[test]
fn durations_are_positive_and_bounded() {
    for (text, seconds) in
        [("1h", 3600), ("45s", 45), ("1h 30m", 5400), ("2 days", 172_800), ("1000ms", 1), ("1.5m", 90)]
    {
        assert_eq!(parse(&format!("{LEAST}[idle]\ntimeout = \"{text}\"")).unwrap().idle.timeout, seconds, "{text}");
    }
    for text in [
        "0s",
        "0",
        "",
        "1",
        "h",
        "-1s",
        "1500ms",
        "500ms",
        "none",
        "11 years",
        "18446744073709551615s 1000ms",
        "1µ",
        "９s",
    ] {
        for key in ["timeout", "lifetime", "retention"] {
            if (key, text) != ("lifetime", "none") {
                let errors = problem("idle", &format!("{key} = \"{text}\""));
                assert!(errors.starts_with(&format!("proxy.toml:5: idle.{key}: ")), "{errors}");
            }
        }
    }
    for (number, errors) in [
        ("900", "900 has no unit; for seconds write \"900s\", which is \"15m\""),
        ("\"45\"", "45 has no unit; for seconds write \"45s\""),
        ("99999999999999", "is not a duration; write it like"),
        ("1.5", "expected a duration, found a fraction; write it in quotes, like"),
    ] {
        for key in ["timeout", "lifetime", "retention"] {
            let problem = problem("idle", &format!("{key} = {number}"));
            assert!(problem.contains(&format!("idle.{key}: ")) && problem.contains(errors), "{problem}");
        }
    }
    let config = parse(&format!("connect_timeout = \"250ms\"\n{LEAST}[idle]\nlifetime = \"8h\"")).unwrap();
    assert_eq!((config.reloadable.connect_timeout, config.idle.lifetime), (Duration::from_millis(250), Some(28_800)));
    assert!(problem("", "response_timeout = \"0s\"").contains("zero"));
}

#[test]
fn lists_and_levels_of_the_top_level() {
    let text = format!(
        "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nupgrades = [\"WebSocket\", \"Tcp\", \"tcp\"]\nlog = \"WARN\"\nmax_sessions = 1_0\n{LEAST}"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.reloadable.trusted_proxies, ["10.0.0.0/8".parse::<IpNet>().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!(
        (config.upgrades, config.reloadable.log, config.max_sessions),
        (vec!["tcp".to_owned()], LevelFilter::WARN, 10)
    );
    for line in [
        "trusted_proxies = [\"proxy.local\"]",
        "trusted_proxies = [\"10.0.0.0/33\"]",
        "trusted_proxies = \"10.0.0.1\"",
        "upgrades = [\"h2c\"]",
        "upgrades = [\"H2\"]",
        "upgrades = [\"HTTP\"]",
        "upgrades = [\"TLS\"]",
        "upgrades = [\"a b\"]",
        "upgrades = [\"\"]",
        "deny = [\"/x?y\"]",
        "log = \"loud\"",
        "max_sessions = 10_000_001",
        "max_sessions = -1",
        "max_sessions = 99999999999999999999999",
        "max_sessions = 1.5",
        "\"idle.timeout\" = \"1h\"",
        "\"a\\nb\" = 1",
        "\"\" = 1",
        "Listen = \"127.0.0.1:1\"",
        "idle = 7",
    ] {
        problem("", line);
    }
}

#[test]
fn single_sources_override_the_profile() {
    let activity = |lines: &str| parse(&format!("{LEAST}[activity]\n{lines}")).unwrap().activity;
    assert_eq!(activity("profile = \"person\""), ActivitySources::PERSON);
    let one = activity("client_pongs = true\nprofile = \"person\"\ntransfers = false\nrequests = false");
    assert_eq!(one, ActivitySources { client_pongs: true, uploads: false, requests: false, ..ActivitySources::PERSON });
    assert_eq!(
        activity("transfers = true\nprofile = \"person\""),
        ActivitySources { downloads: true, ..ActivitySources::PERSON }
    );
    assert_eq!(
        activity("client_frames = false\nserver_frames = false"),
        ActivitySources { client_frames: false, server_frames: false, ..ActivitySources::TAB }
    );
}

#[test]
fn the_values_of_cut_are_checked() {
    let cut = |lines: &str| parse(&format!("{LEAST}[cut]\n{lines}")).unwrap().reloadable.cut.idle;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 4002, 4999] {
        assert_eq!(cut(&format!("ws_code = {code}")).ws_code, code);
    }
    for code in [-1, 0, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000, 65536 + 1000] {
        problem("cut", &format!("ws_code = {code}"));
    }
    assert_eq!(cut("ws_message = \"\"\nlogin_url = \"\"").ws_message, None);
    assert_eq!(cut(&format!("ws_message = \"{}\"", "x".repeat(65_536))).ws_message.unwrap().len(), 65_536);
    problem("cut", &format!("ws_message = \"{}\"", "x".repeat(65_537)));
    assert_eq!(cut(&format!("ws_reason = \"{}\"", "x".repeat(123))).ws_reason.len(), 123);
    problem("cut", &format!("ws_reason = \"{}ü\"", "x".repeat(122)));
    problem("cut.logout", "delay = \"61s\"");
    assert!(problem("cut.idle", "delay = \"1s\"").contains("unknown key"), "only a logout waits");
    for line in
        ["http_status = 399", "http_status = 600", "http_status = \"401\"", "http_headers = 7", "ws_code = \"4002\""]
    {
        problem("cut", line);
    }
    for name in ["Content-Length", "transfer-encoding", "CONNECTION", "Upgrade", "Keep-Alive", "a b", ""] {
        problem("cut", &format!("http_headers = {{ \"{name}\" = \"x\" }}"));
    }
    problem("cut", "http_headers = { \"A\" = \"x\\ny\" }");
    for line in
        ["ws_refuse = \"close\"", "ws_refuse = true", "clear_site_data = [\"cookie\"]", "clear_site_data = \"*\""]
    {
        problem("cut", line);
    }
    assert_eq!(cut("clear_site_data = []").clear_site_data, None);
    assert_eq!(cut("ws_message = \"over\"").handshake_refusal(), HandshakeRefusal::Message);
    assert_eq!(cut("ws_code = 4000").handshake_refusal(), HandshakeRefusal::Status);
    assert_eq!(cut("ws_message = \"over\"\nws_refuse = \"status\"").handshake_refusal(), HandshakeRefusal::Status);
    assert_eq!(cut("ws_refuse = \"status\"\nidle.ws_message = \"over\"").handshake_refusal(), HandshakeRefusal::Status);
    assert_eq!(
        cut("ws_refuse = \"status\"\nidle.ws_refuse = \"message\"").handshake_refusal(),
        HandshakeRefusal::Message
    );
    let headers = cut("http_headers = { \"Vary\" = \"Origin\", A = \"b\" }").http_headers;
    assert_eq!(
        (headers.len(), &headers["vary"], &headers["a"]),
        (2, &"Origin".parse().unwrap(), &"b".parse().unwrap())
    );
    for url in ["/", "/login?next=%2F", "/login?next={path}", "https://app.example/login?back={path}", "http://x"] {
        assert_eq!(cut(&format!("login_url = \"{url}\"")).login_url.unwrap(), url);
    }
    for url in [
        "login",
        "/login/{path}",
        "https://x{path}",
        "//evil.example",
        "/\\\\evil.example",
        "javascript:x",
        "https://",
        "/ü",
        "/a b",
        "/a\\r\\nb",
    ] {
        problem("cut", &format!("login_url = \"{url}\""));
    }
}

#[test]
fn sites_are_named_as_browsers_name_them() {
    let cors = |list: &str| parse(&format!("cors = [{list}]\n{LEAST}")).unwrap().reloadable.cors;
    let sites = "\"https://A.example\", \"https://a.example:443\", \"http://[::1]:80\", \"http://a.example:443\"";
    assert_eq!(cors(sites), ["https://a.example", "https://a.example", "http://[::1]", "http://a.example:443"]);
    for site in [
        "*",
        "null",
        "a.example",
        "https://",
        "https://a.example/",
        "ftp://a",
        "https://a b",
        "https://*.a.example",
        "https://ü",
    ] {
        let told = parse(&format!("cors = [\"{site}\"]\n{LEAST}")).unwrap_err().join("\n");
        assert!(told.contains("cors: ") && told.contains("is not the origin of a site"), "{told}");
    }
}

#[test]
fn each_kind_of_rule_accepts_only_its_own_keys() {
    let texts = [
        ("header", "name = \"a\""),
        ("bearer", ""),
        ("cookie", "name = \"a\""),
        ("query", "name = \"a\""),
        ("request-json", "pointer = \"/a\""),
        ("response-json", "pointer = \"/a\""),
        ("ws-client", "pointer = \"/a\"\nwhen = { \"/b\" = 1 }\naccept_when = { \"/b\" = 1 }"),
        ("ws-server", "pointer = \"/a\"\nwhen = { \"/b\" = 1 }"),
    ];
    let keys = [
        ("name = \"a\"", "name"),
        ("pointer = \"/a\"", "pointer"),
        ("when = { \"/b\" = 1 }", "when"),
        ("accept_when = { \"/b\" = 1 }", "accept_when"),
        ("reject_when = { \"/b\" = 1 }", "reject_when"),
        ("ends = true", "ends"),
        ("accept_type = \"a/b\"", "accept_type"),
        ("except_paths = [\"/y\"]", "except_paths"),
        ("format = \"[a-z]+\"", "format"),
        ("methods = [\"GET\"]", "methods"),
        ("required = true", "required"),
        ("required_within = \"1s\"", "required_within"),
    ];
    for (from, required) in texts {
        let least = format!("from = \"{from}\"\npaths = [\"/x\"]\n{required}");
        rule(&least).unwrap_or_else(|errors| panic!("{least}: {errors:#?}"));
        for line in required.lines() {
            let rest: Vec<_> = least.lines().filter(|other| *other != line).collect();
            let errors = rule(&rest.join("\n")).expect_err(&least).join("\n");
            assert!(errors.contains(&format!("a {from} rule needs it; add ")), "{errors}");
        }
        let on_requests = !matches!(from, "response-json" | "ws-client" | "ws-server");
        for (line, key) in keys {
            if required.lines().all(|other| other != line) {
                let of_requests = ["ends", "accept_type", "accept_when", "reject_when", "methods", "required"];
                let optional = of_requests.contains(&key) && on_requests
                    || matches!(key, "except_paths" | "format")
                    || from == "ws-client" && matches!(key, "reject_when" | "required_within")
                    || (from, key) == ("response-json", "methods");
                let outcome = rule(&format!("{least}\n{line}"));
                assert_eq!(outcome.is_ok(), optional, "{from} {key} {outcome:?}");
            }
        }
    }
}

#[test]
fn the_values_of_rules_are_checked() {
    for (lines, what) in [
        ("", "token.0.from: nothing says"),
        ("from = \"body\"", "\"body\" is not a token location; write one of header, bearer, "),
        (&format!("from = \"header\"\nname = \"{}\"", "x".repeat(70_000)), "is not the name of a header"),
        ("from = \"header\"\nname = \"a b\"", "token.0.name: \"a b\" is not the name"),
        ("from = \"cookie\"\nname = \"\"", "token.0.name"),
        ("from = \"query\"\nname = \"\"", "token.0.name: the name is empty"),
        ("from = \"request-json\"\npointer = \"\"", "token.0.pointer"),
        ("from = \"request-json\"\npointer = \"/a~2\"", "token.0.pointer"),
        ("from = \"ws-server\"\npointer = \"/a\"\nwhen = {}", "token.0.when: an empty table"),
        ("from = \"ws-server\"\npointer = \"/a\"\nwhen = { \"/a\" = nan }", "token.0.when: JSON has no nan"),
        ("from = \"ws-server\"\npointer = \"/a\"\nwhen = 1979-05-27", "expected a table, found a date"),
        (
            "from = \"bearer\"\nends = false\naccept_type = \"json\"",
            "token.0.accept_type: \"json\" is not a media type",
        ),
        ("from = \"bearer\"\naccept_type = \"a/b; charset=utf-8\"", "token.0.accept_type"),
        ("from = \"bearer\"\naccept_type = \"*/*\"", "token.0.accept_type"),
        ("from = \"bearer\"\naccept_when = { \"/ok\" = true }", "token.0.accept_when: without paths, every response"),
        ("from = \"bearer\"\nreject_when = { \"/ok\" = false }", "token.0.reject_when: without paths, every response"),
        ("from = \"bearer\"\npaths = [\"x\"]", "token.0.paths: \"x\" is not a path"),
        ("from = \"bearer\"\npath = [\"/x\"]", "token.0.path: unknown key; did you mean token.0.paths?"),
    ] {
        let errors = rule(lines).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].contains(what), "{lines}: {errors:#?}");
    }
    let errors = parse("upstream = \"http://app\"\n[token]\nfrom = \"bearer\"").unwrap_err().join("\n");
    assert!(
        errors
            .contains("proxy.toml:2: token: expected a list of tables, found a table; write each of them as [[token]]"),
        "{errors}"
    );
    let errors = parse("upstream = \"http://app\"\ntoken = [\n1]").unwrap_err().join("\n");
    assert!(errors.contains("proxy.toml:3: token.0: expected a table, found a whole number"), "{errors}");
}

#[test]
fn conditions_compare_with_json_scalars() {
    let lines = "from = \"ws-server\"\npointer = \"/a/b~1c\"\nwhen = { \"/f\" = +1.50, \"/i\" = 0x1F, \"/s\" = \"x\", \"/t\" = true }";
    let config = rule(lines).unwrap();
    let Location::WsServer { pointer, when } = &config.tokens[0].place else { panic!("{config:?}") };
    assert_eq!(pointer.segments(), ["a", "b/c"]);
    let field = |name: &str, value| (Pointer::parse(name).unwrap(), value);
    let expected = vec![
        field("/f", Expected::Equal(Scalar::Number("1.50".to_owned()))),
        field("/i", Expected::Equal(Scalar::Number("31".to_owned()))),
        field("/s", Expected::Equal(Scalar::Text("x".to_owned()))),
        field("/t", Expected::Equal(Scalar::Bool(true))),
    ];
    assert_eq!(when, &Conditions(expected));
}

#[test]
fn conditions_compare_with_lists_patterns_and_presence() {
    let of = |when: &str| rule(&format!("from = \"ws-server\"\npointer = \"/t\"\nwhen = {{ \"/a\" = {when} }}"));
    for (when, expected) in [
        ("[\"x\", 2]", Expected::OneOf(vec![Scalar::Text("x".to_owned()), Scalar::Number("2".to_owned())])),
        ("{ exists = false }", Expected::Exists(false)),
        ("{ regex = '^a' }", Expected::Regex(Pattern::anywhere("^a").unwrap())),
    ] {
        let config = of(when).unwrap();
        let Location::WsServer { when, .. } = &config.tokens[0].place else { panic!("{config:?}") };
        assert_eq!(when.0[0].1, expected);
    }
    for (when, what) in [
        ("[]", "an empty list"),
        ("[[1]]", "expected a single value"),
        ("{ exists = 1 }", "expected true or false"),
        ("{ regex = '(' }", "is not a regular expression"),
        ("{ regex = 'a', exists = true }", "not a comparison that idlegate knows; compare with text, a number"),
        ("{ like = 'a' }", "not a comparison that idlegate knows"),
    ] {
        let errors = of(when).expect_err(when);
        assert!(errors.len() == 1 && errors[0].contains(what), "{when}: {errors:?}");
    }
}

#[test]
fn a_format_is_a_regular_expression() {
    let format = |text: &str| rule(&format!("from = \"bearer\"\nformat = '{text}'"));
    assert!(format("[A-Za-z0-9_-]{43}").unwrap().tokens[0].format.as_ref().unwrap().matches(&[b'x'; 43]));
    for text in ["(", "a)|(b", "((x{99}){99}){99}"] {
        let errors = format(text).expect_err(text);
        assert!(
            errors[0].starts_with("proxy.toml:4: token.0.format: ") && errors[0].contains("like '[A-Z"),
            "{errors:?}"
        );
    }
}

#[test]
fn the_exceptions_of_a_rule_leave_something() {
    let of = |keys: &str| rule(&format!("from = \"bearer\"\n{keys}"));
    for keys in ["except_paths = [\"/*\"]", "paths = [\"/a/b\", \"/c\"]\nexcept_paths = [\"/a/*\", \"/c\"]"] {
        assert!(of(keys).expect_err(keys)[0].contains("the rule would apply nowhere; name only"), "{keys}");
    }
    for keys in ["except_paths = []", "except_paths = [\"/a\"]", "methods = [\"GET\", \"X-OWN\"]", "required = false"] {
        assert!(of(keys).is_ok(), "{keys}");
    }
    for keys in ["methods = []", "methods = [\"get\"]", "methods = [\"A B\"]", "required = 1", "required = \"\""] {
        assert!(of(keys).is_err(), "{keys}");
    }
    assert!(rule("from = \"ws-client\"\npointer = \"/a\"\nwhen = { \"/b\" = 1 }\naccept_when = { \"/b\" = 1 }\nrequired = true")
        .unwrap_err()[0]
        .contains("write required_within = "));
}

#[test]
fn a_token_that_is_required_can_be_got() {
    let cookie = "[[token]]\nfrom = \"cookie\"\nname = \"sid\"\n";
    let issues = "[[token]]\nfrom = \"response-json\"\npointer = \"/token\"\n";
    let of = |rest: &str| parse(&format!("upstream = \"http://app\"\n{cookie}required = true\n{rest}"));
    for open in [
        "paths = [\"/api/*\"]",
        "except_paths = [\"/login\"]",
        "methods = [\"POST\"]",
        "[cut]\nlogin_url = \"/login\"",
        "[cut.missing]\nlogin_url = \"/login\"",
        "except_paths = [\"/back\"]\n[cut]\nlogin_url = \"https://sso.example/\"",
        "paths = [\"/app/*\"]\n[cut]\nlogin_url = \"https://sso.example/login\"",
        &format!("{issues}paths = [\"/api/login\"]"),
        &format!("paths = [\"/api/*\"]\n{issues}paths = [\"/api/login\"]"),
    ] {
        assert!(of(open).is_ok(), "{open}: {:?}", of(open));
    }
    let broken = of(&format!("{issues}paths = [\"login\"]")).unwrap_err();
    assert!(broken.len() == 1 && broken[0].contains("token.1.paths"), "only what is certain: {broken:?}");
    let broken = of(&issues.replace("pointer = \"/token\"", "")).unwrap_err();
    assert!(broken.len() == 1 && broken[0].contains("token.1.pointer"), "only what is certain: {broken:?}");
    for (closed, what, fix) in [
        ("", "no client could log in", "set cut.login_url = "),
        ("paths = [\"/*\"]", "no client could log in", "except_paths = [\"/login\""),
        (issues, "token.1 (response-json /token) issues tokens on every path", "in token.1.paths"),
        (
            &format!("paths = [\"/api/x/*\"]\n{issues}paths = [\"/api/*\"]"),
            "issues tokens on every path",
            "in token.1.paths",
        ),
        (
            "[cut]\nlogin_url = \"https://app.example/login?x=/\"",
            "a redirect without end",
            "add except_paths = [\"/login\"]",
        ),
        ("[cut.idle]\nlogin_url = \"http://app.example\"", "a redirect without end", "add except_paths = [\"/\"]"),
    ] {
        let errors = of(closed).expect_err(closed);
        assert_eq!(errors.len(), 1, "{closed}: {errors:?}");
        let start = "proxy.toml:5: token.0.required: ";
        assert!(errors[0].starts_with(start) && errors[0].contains(what) && errors[0].contains(fix), "{errors:?}");
    }
}

fn ignore(lines: &str) -> Result<Config, Vec<String>> {
    parse(&format!("{LEAST}[[ignore]]\n{lines}\n"))
}

#[test]
fn a_rule_of_what_is_ignored_is_for_requests_or_for_messages_and_never_for_all() {
    for lines in [
        "paths = [\"/a/*\", \"/*/b\"]",
        "methods = [\"GET\"]\nquery = { silent = 1, q = { regex = '^x' } }",
        "headers = { Sec-Purpose = \"prefetch\" }\njson = { \"/a/0\" = [\"x\", 1] }",
        "from = \"client\"\ntext = \"3\"",
        "from = \"server\"\nbinary_prefix = \"C0 00\"\nsize = 2\npaths = [\"/ws\"]",
        "from = \"client\"\njson = { \"/type\" = \"ping\" }\nname = \"pings of the page\"",
    ] {
        let config = ignore(lines).unwrap();
        assert_eq!(config.ignore.len(), 1, "{lines}");
    }
    for (lines, what) in [
        ("name = \"all\"", "ignore.0.paths: it would ignore all requests, and cut everyone"),
        ("from = \"client\"\npaths = [\"/ws\"]", "it would ignore all messages, and cut everyone"),
        ("from = \"browser\"\ntext = \"3\"", "is not a side of a WebSocket; write \"client\" or \"server\""),
        ("from = \"client\"\nmethods = [\"GET\"]\ntext = \"3\"", "a rule for messages has no such key"),
        ("text = \"3\"", "a rule for requests has no such key; remove it, or add from = \"client\""),
        ("from = \"client\"\ntext = []", "neither a text nor a list of texts"),
        ("from = \"client\"\ntext = \"\"", "0 bytes are not a text to compare with"),
        ("from = \"client\"\nregex = \"(\"", "is not a regular expression"),
        ("from = \"client\"\nbinary_prefix = \"c\"", "write two digits a byte"),
        ("from = \"client\"\nbinary_prefix = \"+1\"", "write two digits a byte"),
        ("from = \"client\"\nsize = 5000", "is not a length up to 4096 bytes"),
        ("from = \"client\"\nsize = \"9..2\"", "is not a length up to 4096 bytes"),
        ("headers = { \"a b\" = 1 }", "is not the name of a header"),
        ("query = {}", "an empty table"),
    ] {
        let errors = ignore(lines).expect_err(lines);
        assert!(errors.len() == 1 && errors[0].contains(what), "{lines}: {errors:?}");
    }
    let errors = parse(&format!("{LEAST}[activity]\nignore = [\"sockets\"]\n")).expect_err("no preset");
    assert!(errors[0].contains("\"sockets\" is not a preset; write one of socket.io, sockjs, stomp"), "{errors:?}");
    let many = "[[ignore]]\npaths = [\"/a\"]\n".repeat(251);
    let errors = parse(&format!("{LEAST}{many}")).expect_err("too many");
    assert!(errors[0].contains("251 rules, with those of presets, are too many"), "{errors:?}");
}

#[test]
fn every_preset_can_be_read_and_has_rules() {
    for name in crate::config::ignore::preset_names() {
        let config = parse(&format!("{LEAST}[activity]\nignore = [\"{name}\"]\n")).unwrap();
        let blocks = crate::config::ignore::PRESETS.lines().filter(|line| line.trim_matches(['[', ']', '"']) == name);
        assert_eq!(config.ignore.len(), blocks.count(), "{name}");
        assert!(config.ignore.iter().all(|rule| rule.name == name), "{name}");
    }
}
