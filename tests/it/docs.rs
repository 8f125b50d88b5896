//! What the documentation says, held against the binary: an example that does not work is worse than none.
#![allow(clippy::unwrap_used, reason = "what cannot go on fails the test")]

use crate::harness::{Answer, Fake, Idlegate, MANUAL, Request, TEXT, Wire, eventually, masked, unmasked};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output};

const UNIT: &str = include_str!("../../deploy/systemd/idlegate.service");

/// The complete example that the manual marks with this name.
fn example(name: &str) -> &'static str {
    let (_, rest) = MANUAL.split_once(&format!("<!-- example: {name} -->\n```toml\n")).expect("it is in the manual");
    rest.split_once("```").expect("it ends").0
}

fn idlegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    command.args(arguments);
    command
}

fn check_with(text: &str, environment: &[(&str, &str)]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut command = idlegate(&["check", "--config"]);
    command.arg(file.path()).envs(environment.iter().copied()).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn is_valid(text: &str, environment: &[(&str, &str)]) {
    let output = check_with(text, environment);
    assert!(output.status.success(), "{text}\n{environment:?}\n{}", told(&output));
}

#[test]
fn every_example_is_valid() {
    let mut count = 0;
    for block in MANUAL.split("```toml\n").skip(1) {
        is_valid(block.split("```").next().unwrap(), &[]);
        count += 1;
    }
    assert_eq!(count, MANUAL.matches("<!-- example: ").count(), "each is complete, and marked");
}

#[test]
fn every_run_without_a_file_is_valid() {
    let lines: Vec<_> =
        MANUAL.lines().filter_map(|line| line.trim().strip_prefix("idlegate run --upstream ")).collect();
    assert!(!lines.is_empty());
    for line in lines {
        let mut command = idlegate(&["run", "--print-config", "--upstream"]);
        let output = command.args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", told(&output));
        is_valid(&String::from_utf8(output.stdout).unwrap(), &[]);
    }
}

/// The keys of `table` beside an unknown one, as the binary lists them.
fn keys_of(table: &str) -> Vec<String> {
    let told = told(&check_with(&format!("{table}\nxyzzyq = 1\n"), &[]));
    let (_, rest) = told.split_once("use one of: ").unwrap_or_else(|| panic!("{told}"));
    rest.lines().next().unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_in_the_reference() {
    let tables = ["admin", "health", "idle", "store", "activity", "keepalive", "cut"];
    let mut keys = keys_of("");
    keys.retain(|key| !tables.contains(&key.as_str()) && !["token", "ignore"].contains(&key.as_str()));
    for table in tables {
        keys.extend(keys_of(&format!("[{table}]")).into_iter().map(|key| format!("{table}.{key}")));
    }
    // The tables for each reason have the keys of their own table, and one of them a delay.
    let reasons = ["idle", "lifetime", "logout", "operator", "missing", "unknown"];
    let common: Vec<_> = keys_of("[cut]").into_iter().filter(|key| !reasons.contains(&key.as_str())).collect();
    for reason in reasons {
        let mut own = keys_of(&format!("[cut.{reason}]"));
        own.retain(|key| key != "delay");
        assert_eq!(own, common, "{reason}");
        keys.retain(|key| *key != format!("cut.{reason}"));
    }
    keys.push("cut.logout.delay".to_owned());
    keys.extend(keys_of("[[token]]\nfrom = \"bearer\"").into_iter().map(|key| format!("token.N.{key}")));
    // Rules about requests and rules about messages have keys of their own.
    let of_rules = ["", "\nfrom = \"client\""].map(|from| keys_of(&format!("[[ignore]]\nname = \"x\"{from}")));
    let of_rules: BTreeSet<_> = of_rules.into_iter().flatten().collect();
    keys.extend(of_rules.into_iter().map(|key| format!("ignore.N.{key}")));
    assert!(keys.len() > 30, "{keys:?}");
    let named: Vec<_> = MANUAL.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    for key in &keys {
        assert_eq!(named.iter().filter(|name| *name == key).count(), 1, "{key} is in the reference table once");
    }
    for key in named.iter().filter(|name| name.contains('.') && !name.contains(' ')) {
        assert!(keys.iter().any(|known| known == key), "{key} is in the reference table and is no key");
    }
    let marked = MANUAL.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` ↻ |")).map(|(key, _)| key);
    assert_eq!(marked.collect::<BTreeSet<_>>(), BTreeSet::from(idlegate::config::RELOADABLE), "↻ in the reference");
}

#[test]
fn every_variable_that_is_shown_works() {
    let block = MANUAL.split("```text\n").find(|block| block.starts_with("IDLEGATE_")).unwrap();
    let lines: Vec<_> = block.split("```").next().unwrap().lines().collect();
    assert_eq!(lines.len(), 5);
    let shipped = include_str!("../../proxy.toml");
    for line in lines {
        // Two spaces set the remark apart.
        let (name, value) = line.split("  ").next().unwrap().split_once('=').unwrap();
        is_valid(shipped, &[(name, value)]);
        // It was read, rather than ignored: the same name with a value that no key takes is an error.
        if !name.ends_with("WS_MESSAGE") {
            let output = check_with(shipped, &[(name, "[7]")]);
            assert!(told(&output).contains(&format!("environment variable {name}: ")), "{name}: {output:?}");
        }
    }
    let (_, injected) = MANUAL.split_once("sets for a Service named").unwrap();
    let injected = injected.split("\n\n").next().unwrap();
    for name in injected.split('`').filter(|text| text.starts_with("IDLEGATE_")) {
        is_valid(shipped, &[(name, "tcp://10.0.0.1:10086")]);
    }
}

#[test]
fn the_documented_errors_are_what_check_prints() {
    let bad = "listen = \"localhost:8080\"\nupstream = \"http://app\"\n\n[idle]\ntimeout = \"1500ms\"\ntimout = \"1h\"\n\n\
               [activity]\nprofile = \"tab\"\n\n[[token]]\nfrom = \"cookie\"\n";
    let output = check_with(bad, &[("IDLEGATE_IDLE_TIMEOUTS", "5m")]);
    let (_, shown) = MANUAL.split_once("idlegate check --config bad.toml\n").unwrap();
    let shown = shown.split("```").next().unwrap();
    // The file's name is the only difference.
    let nameless = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_once(':').unwrap_or_default().1.to_owned()).collect()
    };
    assert_eq!(nameless(&told(&output)), nameless(shown));
}

#[test]
fn the_unit_calls_existing_commands() {
    let help = String::from_utf8(idlegate(&["--help"]).output().unwrap().stdout).unwrap();
    let lines = UNIT.lines().filter_map(|line| line.strip_prefix("Exec")?.split_once("=/usr/local/bin/idlegate "));
    let calls: Vec<Vec<&str>> = lines.map(|(_, call)| call.split(' ').collect()).collect();
    assert_eq!(calls.len(), 3);
    assert!(UNIT.contains("\nExecReload=/bin/kill -HUP $MAINPID\n"));
    for call in calls {
        let [command, option, _file] = call[..] else { panic!("{call:?}") };
        assert!(help.contains(&format!("\n  {command} ")) && help.contains(&format!(" {option} ")), "{call:?}\n{help}");
    }
}

/// Answers one request of each connection: login with a token, anything else with an empty object.
async fn http_app(_: usize, mut wire: Wire) {
    let head = wire.head().await.to_ascii_lowercase();
    let length = head.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    wire.bytes(length.unwrap_or(0)).await;
    let login = head.starts_with("post /api/login");
    let body = if login { "{\"access_token\":\"secret-1\"}" } else { "{}" };
    let fields = "Content-Type: application/json\r\nConnection: close";
    wire.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
}

async fn websocket_app(_: usize, mut wire: Wire) {
    wire.accept_upgrade(b"").await;
    if wire.frame().await == (TEXT, AUTH.into()) {
        wire.send(unmasked(TEXT, br#"{"type":"auth_ok"}"#)).await;
    }
    wire.rest().await;
}

const AUTH: &[u8] = br#"{"type":"auth","token":"secret-1"}"#;

fn proxy(name: &str, app: &Fake) -> Idlegate {
    let shortened = [("IDLEGATE_UPSTREAM", app.upstream()), ("IDLEGATE_IDLE_TIMEOUT", "1s".to_owned())];
    Idlegate::start_with(example(name), &shortened.each_ref().map(|(name, value)| (*name, value.as_str())))
}

async fn cut_of(proxy: &Idlegate) {
    eventually("the cut", async || !proxy.logged("session ended").is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_example_works() {
    let app = Fake::start(http_app).await;
    let proxy = proxy("cookie", &app);
    let get = async |path: &str, cookie: &str, accept: &str| -> Answer {
        let cookie = format!("sessionid={cookie}");
        Request::get(proxy.address, path).header("cookie", &cookie).header("accept", accept).send().await
    };
    assert_eq!(get("/", "one", "*/*").await.status, 200);
    cut_of(&proxy).await;
    let refused = get("/data", "one", "*/*").await;
    assert_eq!((refused.status.as_u16(), &refused.body[..]), (401, &br#"{"error":"session ended"}"#[..]));
    let redirected = get("/", "one", "text/html").await;
    assert_eq!((redirected.status.as_u16(), redirected.headers["location"].to_str().unwrap()), (302, "/login"));
    assert_eq!(redirected.headers["set-cookie"], "sessionid=; Path=/; Max-Age=0");
    assert!(!refused.headers.contains_key("set-cookie"), "a page cannot lose its dead token and go on without one");
    assert_eq!(get("/login", "two", "text/html").await.status, 200);
    assert_eq!(Request::get(proxy.address, "/login").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bearer_example_works() {
    let app = Fake::start(http_app).await;
    let proxy = proxy("bearer", &app);
    let call = async |request: Request, token: &str| {
        request.header("authorization", &format!("Bearer {token}")).send().await.status.as_u16()
    };
    let get = |path: &str| Request::get(proxy.address, path);
    let login = || Request::post(proxy.address, "/api/login").json(&json!({"user": "ada"}));
    assert_eq!(login().send().await.json()["access_token"], "secret-1");
    cut_of(&proxy).await;
    assert_eq!(call(get("/api/data/x"), "secret-1").await, 401);
    assert_eq!(call(login(), "secret-1").await, 200, "a new login is open to who holds a dead token");
    assert_eq!(call(get("/api/account"), "secret-2").await, 200);
    assert_eq!(call(Request::post(proxy.address, "/api/logout"), "secret-2").await, 200);
    assert_eq!(call(get("/api/account"), "secret-2").await, 401, "logged out");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_websocket_example_works() {
    let app = Fake::start(websocket_app).await;
    let mut proxy = proxy("websocket", &app);
    let cut = async |client: &mut Wire| {
        assert_eq!(client.frame().await, (TEXT, br#"{"type":"session_expired"}"#.to_vec()));
        assert_eq!(client.frame().await, (0x88, [&4002_u16.to_be_bytes()[..], b"Session expired"].concat()));
    };
    for answered in [true, false] {
        let mut client = Wire::connect(proxy.address).await;
        client.upgrade("/ws", "").await;
        client.send(masked(TEXT, AUTH)).await;
        if answered {
            assert_eq!(client.frame().await, (TEXT, br#"{"type":"auth_ok"}"#.to_vec()));
        }
        cut(&mut client).await;
    }
    // Not killed while the app still waits for its own Close.
    assert_eq!(proxy.stop().await.code(), Some(0));
}

/// All source files, with the strings that go on in a next line put together.
fn source(folder: &std::path::Path) -> String {
    let mut whole = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            whole += &source(&path);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(path).unwrap();
            whole.extend(text.split("\\\n").map(str::trim_start));
        }
    }
    whole
}

#[test]
fn the_log_lines_that_are_quoted_are_those_that_are_written() {
    let source = source(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut count = 0;
    for level in ["INFO `", "WARN `", "ERROR `"] {
        for quoted in MANUAL.split(level).skip(1).map(|rest| rest.split('`').next().unwrap()) {
            let text = quoted.trim_end_matches(" …").trim_end_matches('…');
            assert!(source.contains(text), "{level}{quoted}` is written nowhere");
            count += 1;
        }
    }
    assert!(count >= 7, "{count}");
}

/// The anchor that a heading gets on the pages of GitHub and others.
fn anchor(heading: &str) -> String {
    let letters = heading.trim().to_lowercase().replace(' ', "-");
    letters.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_')).collect()
}

fn anchors(file: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    // Not those in blocks of code, where a hash begins a remark.
    let prose = text.split("\n```").step_by(2).collect::<String>();
    prose
        .lines()
        .filter_map(|line| line.split_once("# ").filter(|(hashes, _)| hashes.trim_matches('#').is_empty()))
        .map(|(_, heading)| anchor(heading))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    assert_eq!(pages.len(), 7, "{pages:?}");
    let index = std::fs::read_to_string(root.join("docs/README.md")).unwrap();
    for page in pages.iter().filter(|page| !page.ends_with("README.md")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("]({name})")), "{name} is in the index");
    }
    let others = ["README.md", "deploy/README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"];
    for page in pages.into_iter().chain(others.map(|page| root.join(page))) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {link}", page.display());
            assert!(
                wanted.is_empty() || anchors(&file).iter().any(|anchor| anchor == wanted),
                "{}: {link}",
                page.display()
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn the_table_of_apps_is_of_those_that_are_tested_with_their_versions() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let rows: BTreeSet<_> = readme
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.split(" | ").collect();
            let name = cells.get(2)?.strip_prefix("`idlegate init ")?.strip_suffix('`')?;
            Some((name.to_owned(), cells[1].to_owned()))
        })
        .collect();
    let folders = std::fs::read_dir(root.join("tests/apps")).unwrap().map(|entry| entry.unwrap().path());
    let tested = folders.filter(|folder| folder.join("scenario.mjs").exists()).map(|folder| {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let example = std::fs::read_to_string(root.join("examples").join(format!("{name}.toml"))).unwrap();
        let tried = example.lines().next().unwrap().strip_prefix("# Tried with: ").unwrap().to_owned();
        (name, tried)
    });
    assert_eq!(rows, tested.collect());
}
