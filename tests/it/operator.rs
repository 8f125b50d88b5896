//! The operators' commands, as an operator runs them at night: against running proxies, in each way to reach them.

use crate::harness::{
    App, Fake, Idlegate, MANUAL, Redis, SHIPPED, Socket, Terminal, Tunnel, eventually, id, log_in, replica,
};
use rustix::net;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const QUIET: &[&str] = &["--ping", "600"];
const SECRET: (&str, &str) = ("IDLEGATE_STORE_SECRET", "between us and nobody else");
const DEPLOY: &str = include_str!("../../deploy/README.md");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml");

/// A command with the shipped configuration and these variables.
fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("IDLEGATE_CONFIG", CONFIG);
    command.envs(environment.iter().copied());
    command
}

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    command(arguments, environment).output().unwrap().into()
}

/// What a command prints that is done.
fn done(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let ran = run(arguments, environment);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{arguments:?}: {ran:?}");
    ran.out
}

/// What a command says that is not done, for which it ends with this code.
fn not_done(code: i32, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let ran = run(arguments, environment);
    assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{arguments:?}: {ran:?}");
    ran.err
}

/// The text behind a label, wherever it stands in the line.
fn field<'t>(text: &'t str, label: &str) -> &'t str {
    let mut lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(label)?.strip_prefix("  "));
    lines.next().unwrap_or_else(|| panic!("no {label} in {text}")).trim()
}

/// Reads from it until this has come.
fn until(output: &mut impl Read, text: &str) -> String {
    let (mut come, mut byte) = (String::new(), [0]);
    while !come.ends_with(text) && output.read(&mut byte).unwrap() == 1 {
        come.push(char::from(byte[0]));
    }
    come
}

fn ended(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

/// Each command, once.
async fn each_command(proxy: &Idlegate, at: &[(&str, &str)]) {
    let mut tunnel = Tunnel::open(proxy, "somebody's").await;
    let id = id("somebody's");

    let mode = done(&["mode"], at);
    assert_eq!((field(&mode, "mode"), field(&mode, "past the limit")), ("enforce", "0 sessions known to this replica"));
    let mode = done(&["mode", "observe", "--for", "30m"], at);
    assert_eq!((field(&mode, "mode"), field(&mode, "file")), ("observe", "enforce"), "{mode}");
    let lasting = field(&mode, "replica");
    assert!(lasting.starts_with("observe, ") && lasting.ends_with(" left, then enforce"), "{lasting}");
    assert!(mode.ends_with("\nWhen observe ends, sessions past the limit are cut without confirmation.\n"), "{mode}");
    assert_eq!(field(&done(&["mode", "enforce"], at), "mode"), "enforce");

    let listed = done(&["sessions"], at);
    let row: Vec<_> = listed.lines().find(|line| line.starts_with(&id)).expect(&listed).split("  ").collect();
    assert!(row.contains(&"live") && listed.contains(" 1  127.0.0.1 /ws-legacy\n"), "{listed}");
    assert!(listed.ends_with("\n1 session, mode enforce\n"), "{listed}");
    assert!(!done(&["sessions", "--idle-over", "30m"], at).contains(&id));

    let explained = done(&["explain", &id], at);
    assert!(explained.starts_with("alive: idle "), "{explained}");
    assert_eq!((field(&explained, "session"), field(&explained, "state")), (id.as_str(), "live"));
    assert!(
        field(&explained, "left").starts_with("59m ") || field(&explained, "left").starts_with("1h"),
        "{explained}"
    );
    // The switch of that name stands before it.
    let (_, after) = mode.split_once("past the limit").unwrap();
    let replica = field(after, "replica");
    assert_eq!(field(&explained, replica), "1", "{explained}");
    let raw: Value = serde_json::from_str(&done(&["explain", &id, "--json"], at)).unwrap();
    assert_eq!((raw["session"].as_str(), raw["state"].as_str()), (Some(id.as_str()), Some("live")));
    assert!(raw["created"].as_u64().unwrap() > 1_700_000_000, "JSON has epoch seconds: {raw}");
    let created = field(&explained, "created");
    assert!(created.contains("Z (") && created.ends_with(" s ago)"), "{explained}");
    let raw: Value = serde_json::from_str(&done(&["sessions", "--json"], at)).unwrap();
    assert_eq!(raw["sessions"].as_array().unwrap().len(), 1);

    let extended = done(&["extend", &id], at);
    assert!(field(&extended, "operator").ends_with(" ago)") && extended.contains(" by operator"), "{extended}");
    let ended = done(&["end", &id], at);
    assert!(field(&ended, "ended").ends_with("  by operator"), "{ended}");
    tunnel.cut(Duration::from_secs(5)).await;
    assert_eq!(field(&done(&["explain", &id], at), "state"), "ended");
    let again = "idlegate: this session has ended already; a new login begins a new session\n";
    assert_eq!(not_done(1, &["end", &id], at), again);
    assert_eq!(not_done(1, &["extend", &id], at), again);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_works_by_tcp_and_by_a_socket_with_a_token_and_without() {
    let (app, folder) = (App::start(QUIET), tempfile::tempdir().unwrap());
    let token_file = folder.path().join("token").display().to_string();
    std::fs::write(&token_file, "a token of operators\n").unwrap();
    for (number, tokens) in [&[][..], &[("IDLEGATE_ADMIN_TOKEN_FILE", token_file.as_str())]].into_iter().enumerate() {
        let by_tcp = replica(&app, "memory", "1h", tokens);
        let address = by_tcp.admin().to_string();
        let at = [&[("IDLEGATE_ADMIN_LISTEN", address.as_str())], tokens].concat();
        each_command(&by_tcp, &at).await;
        if !tokens.is_empty() {
            let refused = not_done(1, &["mode"], &at[..1]);
            assert_eq!(
                refused,
                "idlegate: the token is missing or wrong; send what stood in admin.token_file when idlegate started \
                 (another one is in force after a restart): Authorization: Bearer …\n"
            );
            // The command's own goes before that of the configuration.
            let other = [at[0], ("IDLEGATE_ADMIN_TOKEN_FILE", CONFIG)];
            done(&["mode", "--token-file", &token_file], &other);
        }
        let socket = format!("unix:{}/{number}.sock", folder.path().display());
        let at = [&[("IDLEGATE_ADMIN_LISTEN", socket.as_str())], tokens].concat();
        each_command(&replica(&app, "memory", "1h", &at), &at).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enforce_asks_before_it_cuts_and_refuses_without_a_terminal() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "1s", &[("IDLEGATE_IDLE_MODE", "enforce")]);
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str())];
    done(&["mode", "observe"], &at);
    let mut tunnels = [Tunnel::open(&proxy, "one").await, Tunnel::open(&proxy, "two").await];
    eventually("both to be past the limit", async || proxy.logged("session would be cut").len() == 2).await;
    assert!(field(&done(&["mode"], &at), "past the limit").starts_with("2 sessions"));
    assert_eq!(field(&done(&["explain", &id("one")], &at), "state"), "overdue");

    let refused = not_done(1, &["mode", "enforce"], &at);
    let told = "idlegate: 2 sessions are past the limit and would be cut at once; say yes to that (--yes, ";
    assert!(refused.starts_with(told), "{refused}");
    for answer in ["n\n", "\n", "yesterday\n", "\x04"] {
        let (mut person, terminal) = Terminal::open();
        let asking = command(&["mode", "enforce"], &at).stdin(terminal).spawn().unwrap();
        person.types(answer);
        let ran = ended(asking);
        assert_eq!(ran.code, 1, "{answer:?}: {ran:?}");
        assert!(ran.err.starts_with("cut 2 sessions now? [y/N] idlegate: nothing was changed; "), "{ran:?}");
    }
    assert_eq!(field(&done(&["mode"], &at), "mode"), "observe");
    for tunnel in &mut tunnels {
        tunnel.echo().await;
    }
    eventually("both to be past it again", async || proxy.logged("session would be cut").len() == 4).await;
    let (mut person, terminal) = Terminal::open();
    let asking = command(&["mode", "enforce"], &at).stdin(terminal).spawn().unwrap();
    person.types("y\n");
    let ran = ended(asking);
    assert_eq!((ran.code, field(&ran.out, "mode")), (0, "enforce"), "{ran:?}");
    for tunnel in &mut tunnels {
        tunnel.cut(Duration::from_secs(5)).await;
    }
    // Without a session past the limit there is no question; and --yes suppresses it.
    done(&["mode", "enforce"], &at);
    done(&["mode", "observe"], &at);
    let mut tunnel = Tunnel::open(&proxy, "three").await;
    eventually("it to be past the limit", async || proxy.logged("session would be cut").len() == 5).await;
    done(&["mode", "enforce", "--yes"], &at);
    tunnel.cut(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_does_not_win_is_reported() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "1h", &[("IDLEGATE_IDLE_MODE", "observe")]);
    let address = proxy.admin().to_string();
    let said = done(&["mode", "enforce"], &[("IDLEGATE_ADMIN_LISTEN", &address)]);
    let told = "The mode stays observe, because the switch file is less strict. \
                To change it: idle.mode = \"enforce\" in the configuration\n";
    assert!(said.ends_with(told), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_read_from_standard_input_and_goes_nowhere() {
    let app = App::start(QUIET);
    for secret in [&[][..], &[SECRET]] {
        let proxy = replica(&app, "memory", "1h", secret);
        let _tunnel = Tunnel::open(&proxy, "a%20token").await;
        let address = proxy.admin().to_string();
        let at = [&[("IDLEGATE_ADMIN_LISTEN", address.as_str())], secret].concat();
        let mut asking = command(&["explain", "--token-stdin"], &at).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = asking.stdin.take().unwrap();
        // It waits for the rest of the line, and what other users can read of it has no token.
        input.write_all(b"a%20tok").unwrap();
        for of_process in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{}/{of_process}", asking.id())).unwrap();
            assert!(!bytes.windows(7).any(|window| window == b"a%20tok"), "{of_process}");
        }
        input.write_all(b"en\n").unwrap();
        let ran = ended(asking);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        assert_eq!(field(&ran.out, "state"), "live");
        let plain = field(&ran.out, "session") == id("a%20token");
        assert_eq!(plain, secret.is_empty(), "{ran:?}");
        assert!(!proxy.whole_log().contains("a%20token"));

        let (mut person, terminal) = Terminal::open();
        let mut asking = command(&["explain", "--token-stdin"], &at).stdin(terminal).spawn().unwrap();
        let asked = until(asking.stderr.as_mut().unwrap(), ": ");
        assert_eq!(asked, "token (not shown): ");
        person.types("a%20token\n");
        let ran = ended(asking);
        assert_eq!((ran.code, field(&ran.out, "state")), (0, "live"), "{ran:?}");
        assert!(person.echoes());
        assert_eq!(person.shown(), "", "what was typed is not shown");

        let (person, terminal) = Terminal::open();
        let mut asking = command(&["explain", "--token-stdin"], &at).stdin(terminal).spawn().unwrap();
        until(asking.stderr.as_mut().unwrap(), ": ");
        assert!(!person.echoes());
        kill_process(Pid::from_child(&asking), Signal::INT).unwrap();
        let ran = ended(asking);
        assert_eq!((ran.code, ran.err.as_str()), (1, "\nidlegate: interrupted; try again\n"));
        assert!(person.echoes(), "the shell that comes back shows what is typed");
    }
}

/// Runs `explain --token-stdin` with this token.
fn explain(token: &str, at: &[(&str, &str)]) -> Ran {
    let mut asking = command(&["explain", "--token-stdin"], at).stdin(Stdio::piped()).spawn().unwrap();
    asking.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    ended(asking)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_found_as_a_browser_shows_it_and_an_unknown_one_is_named_by_its_id() {
    let app = App::start(QUIET);
    let cookie = [("IDLEGATE_TOKEN_0_FROM", "cookie"), ("IDLEGATE_TOKEN_0_NAME", "sid")];
    let proxy = replica(&app, "memory", "1h", &cookie);
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str())];
    let _tunnel = Socket::open_with(proxy.address, "/ws-legacy", &[("cookie", "sid=s%3Aab%2Bc")]).await;
    for shown in ["s%3Aab%2Bc", "\"s:ab+c\"", "s:ab+c\n", "  s%3aab+c", "sid=s%3Aab%2Bc"] {
        let ran = explain(shown, &at);
        assert_eq!(ran.code, 0, "{shown}: {ran:?}");
        assert_eq!(field(&ran.out, "session"), id("s:ab+c"), "{shown}");
    }
    let ran = explain("nobody's", &at);
    assert!(ran.code == 1 && ran.err.contains(&format!(" ({}); ", id("nobody's"))), "{ran:?}");
    // A store in memory has forgotten those from before: it must not say that the app never accepted them.
    assert!(ran.err.starts_with("idlegate: there is no such session since idlegate started, "), "{ran:?}");
    assert!(ran.err.contains("forgets all sessions at a restart") && !ran.err.contains("never accepted"), "{ran:?}");
    for nothing in ["", "\n", "  \n"] {
        let ran = explain(nothing, &at);
        assert!(ran.code == 2 && ran.err.contains("standard input has no token; "), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_send_the_admin_token_and_never_a_users_token() {
    let (sender, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let listener = Fake::start(move |_, mut wire| {
        let sender = sender.clone();
        async move {
            sender.send(wire.head().await).unwrap();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n<html>hello").await;
        }
    })
    .await;
    let token_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&token_file, "a token of operators\n").unwrap();
    let listen = listener.upstream();
    let at = ["--admin", &listen, "--token-file", token_file.path().to_str().unwrap()];
    let mut asking = command(&[&["explain", "--token-stdin"], &at[..]].concat(), &[SECRET]);
    let mut asking = asking.stdin(Stdio::piped()).spawn().unwrap();
    asking.stdin.take().unwrap().write_all(b"somebody's").unwrap();
    let ran = tokio::task::spawn_blocking(|| ended(asking)).await.unwrap();
    let stranger = format!(
        "idlegate: {listen} is not the [admin] listener of this version of idlegate; --admin takes the address of admin.listen"
    );
    assert!(ran.code == 1 && ran.err.starts_with(&stranger), "{ran:?}");
    let in_json = command(&[&["sessions", "--json"], &at[..]].concat(), &[]).spawn().unwrap();
    let ran = tokio::task::spawn_blocking(|| ended(in_json)).await.unwrap();
    assert!(ran.code == 1 && ran.out.is_empty() && ran.err.starts_with(&stranger), "{ran:?}");
    let head = heads.recv().await.unwrap();
    let keyed = idlegate::session::SessionIds::keyed(SECRET.1.as_bytes()).of_token(b"somebody's");
    assert!(head.starts_with(&format!("GET /sessions/{keyed} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer a token of operators\r\n"), "{head}");
    assert!(!head.contains("somebody"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_answered_steers_the_terminal() {
    const STEERING: &str = r"\u001b[2J\r\u009b1A";
    let refusal = format!(r#"{{"error": "no{STEERING}", "fix": "never{STEERING}"}}"#);
    let switches = format!(r#"{{"{STEERING}": {{"mode": "off", "until": null}}}}"#);
    let mode = format!(r#"{{"mode": "off{STEERING}", "switches": {switches}, "past_the_limit": 0, "replica": "one"}}"#);
    for (status, body, code) in [("409 Conflict", refusal, 1), ("200 OK", mode, 0)] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let listener = Fake::start(move |_, mut wire| {
            let answer = answer.clone();
            async move {
                wire.head().await;
                wire.send(answer).await;
            }
        })
        .await;
        let asking = command(&["mode", "--admin", &listener.upstream()], &[]).spawn().unwrap();
        let ran = tokio::task::spawn_blocking(|| ended(asking)).await.unwrap();
        let printed = format!("{}{}", ran.out, ran.err);
        assert!(ran.code == code && printed.contains("\u{fffd}[2J\u{fffd}\u{fffd}1A"), "{ran:?}");
        assert!(!printed.contains(|c: char| c.is_control() && c != '\n'), "{ran:?}");
    }
}

#[test]
fn an_argument_that_may_be_a_token_is_neither_repeated_nor_sent() {
    for arguments in [["explain", "a-secret-token"], ["end", "a-secret-token"], ["extend", "a-secret-token"]] {
        let said = not_done(2, &arguments, &[("IDLEGATE_ADMIN_LISTEN", "127.0.0.1:1")]);
        assert!(said.contains("not a session id; ") && said.contains("--token-stdin"), "{said}");
        assert!(!said.contains("a-secret-token"), "{said}");
    }
    let help = done(&["explain", "--help"], &[]);
    assert!(help.contains("shell's history") && help.contains("process list"), "{help}");
}

#[test]
fn an_unreachable_listener_is_reported_with_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("unix:{}/nobody.sock", folder.path().display());
    // Taken, so that no other test gets it, and no process listens.
    let taken = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = SocketAddr::try_from(net::getsockname(&taken).unwrap()).unwrap().to_string();
    for (arguments, environment, code, what, fix) in [
        (&["mode"][..], &[][..], 2, "no [admin] listener", "add [admin] listen = \"127.0.0.1:9090\""),
        (&["mode"], &[("IDLEGATE_ADMIN_LISTEN", "127.0.0.1:0")], 2, "the port is unknown", "admin API and page at"),
        (&["mode"], &[("IDLEGATE_ADMIN_LISTEN", "0.0.0.0:9")], 2, "IDLEGATE_ADMIN_LISTEN", "--admin http://"),
        (&["mode"], &[("IDLEGATE_ADMIN_LISTEN", &port)], 1, &port, "check that idlegate runs"),
        (&["mode", "--admin", &nowhere], &[], 1, &nowhere, "check that idlegate runs"),
        (&["mode", "--admin", "https://127.0.0.1:9"], &[], 2, "--admin is not an address", "without https"),
        (&["mode", "--admin", &nowhere, "--token-file", "/nowhere"], &[], 2, "/nowhere", "--token-file"),
        (&["mode", "--config", "/nowhere.toml"], &[], 2, "/nowhere.toml: cannot be read", "--admin http://"),
        (&["mode", "on"], &[], 2, "possible values: enforce, observe, off", "--help"),
        (&["mode", "--fleet"], &[], 2, "<MODE>", "--help"),
        (&["mode", "off", "--for", "soon"], &[], 2, "--for", "--help"),
        (&["explain"], &[], 2, "ID", "--help"),
    ] {
        let said = not_done(code, arguments, environment);
        assert!(said.contains(what) && said.contains(fix), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_works_with_an_invalid_configuration() {
    let app = App::start(QUIET);
    let proxy = replica(&app, "memory", "1h", &[]);
    let address = proxy.admin();
    let mut broken = tempfile::NamedTempFile::new().unwrap();
    write!(broken, "{}", SHIPPED.replace("timeout = \"1h\"", "timeout = 1h\ntimout = 2")).unwrap();
    let file = broken.path().to_str().unwrap();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.to_string())];
    let at = at.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(field(&done(&["mode", "observe", "--config", file], &at), "mode"), "observe");
    let named = format!("http://localhost:{}", SocketAddr::port(&address));
    assert_eq!(field(&done(&["mode", "off", "--config", "/nowhere", "--admin", &named], &[]), "mode"), "off");
    // But what becomes of a token depends on a part of it that may not be seen.
    let said = not_done(2, &["explain", "--token-stdin", "--config", file], &at);
    assert!(said.contains("store.secret") && said.contains(file), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_switches_the_fleet_and_ends_sessions_it_does_not_know() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    let addresses = [&one, &two].map(|proxy| proxy.admin().to_string());
    let [at_one, at_two] = addresses.each_ref().map(|address| [("IDLEGATE_ADMIN_LISTEN", address.as_str())]);
    let mut tunnel = Tunnel::open(&one, "only here").await;
    eventually("it to be reported", async || redis.session("only here").await.contains_key("created")).await;

    let mode = done(&["mode", "off", "--fleet", "--for", "1h"], &at_two);
    assert_eq!((field(&mode, "mode"), field(&mode, "replica")), ("off", "enforce"), "{mode}");
    assert!(field(&mode, "fleet").starts_with("off, "), "{mode}");
    let heard = async || field(&done(&["mode"], &at_one), "mode") == "off";
    eventually("the other to learn of it", heard).await;
    assert!(done(&["mode", "enforce", "--fleet"], &at_one).contains("mode                enforce"));
    eventually("the other to learn of it", async || field(&done(&["mode"], &at_two), "mode") == "enforce").await;

    let explained = done(&["explain", &id("only here")], &at_two);
    assert_eq!(field(&explained, "state"), "live");
    assert!(done(&["sessions"], &at_two).contains(&id("only here")));
    assert_eq!(field(&done(&["end", &id("only here")], &at_two), "state"), "ended");
    tunnel.cut(Duration::from_secs(5)).await;
}

/// Lines in which numbers and ids say only that they are some, and a sentence ends at its first part.
fn shape(text: &str) -> Vec<String> {
    let word = |word: &str| -> String {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A session, or a replica: its host and eight digits.
        let is_replica = bare.rsplit_once('-').is_some_and(|(_, end)| end.len() == 8 && is_hex(end));
        let is_id = bare.len() >= 16 && is_hex(bare) || is_replica;
        let is_number = bare.starts_with(|c: char| c.is_ascii_digit());
        if is_id || is_number { word.replace(bare, if is_id { "ID" } else { "0" }) } else { word.to_owned() }
    };
    let line = |line: &str| {
        let first = line.split(';').next().unwrap();
        let words: Vec<_> = first.split_whitespace().map(word).collect();
        // `29m 59s` is one time.
        let mut words = words.join(" ");
        for (times, one) in [("0 0,", "0,"), ("0 0", "0")] {
            words = words.replace(times, one);
        }
        format!("{}{}", if line.starts_with(' ') { "  " } else { "" }, words)
    };
    text.lines().map(line).filter(|line| !line.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_examples_are_what_it_prints() {
    let (app, redis) = (App::start(&["--ping", "1"]), Redis::start());
    let proxy = replica(&app, &redis.url(), "1h", &[]);
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str())];
    let token = log_in(proxy.address, "ada", "lovelace").await;
    let (mut socket, _) = Socket::authenticated(proxy.address, &token).await;
    // Until the browser's own Pong keeps it alive.
    tokio::spawn(async move { while socket.next().await.is_some() {} });
    let explained = || done(&["explain", &id(&token)], &at);
    eventually("its Pong to count", async || {
        explained().starts_with("alive") && explained().contains("by client-pong")
    })
    .await;
    let (_, section) = MANUAL.split_once("<!-- operators -->\n```console\n").unwrap();
    let calls: Vec<_> = section.split("```").next().unwrap().split("$ idlegate ").skip(1).collect();
    assert_eq!(calls.len(), 3);
    for call in calls {
        let (arguments, shown) = call.split_once('\n').unwrap();
        let id = id(&token);
        let arguments: Vec<_> =
            arguments.split(' ').map(|word| if word.len() == 32 { id.as_str() } else { word }).collect();
        let (printed, shown) = (shape(&done(&arguments, &at)), shape(shown));
        let labels = |lines: &[String]| lines.iter().filter(|line| !line.starts_with(' ')).cloned().collect::<Vec<_>>();
        assert_eq!(labels(&printed), labels(&shown), "{arguments:?}");
        assert!(shown.iter().all(|line| printed.contains(line)), "{printed:#?} is not {shown:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_by_the_first_digits_of_its_id() {
    let (app, redis) = (App::start(QUIET), Redis::start());
    let [one, two] = std::array::from_fn(|_| replica(&app, &redis.url(), "1h", &[]));
    // The ids of the last two begin alike, with 4a44.
    let mut tunnel = Tunnel::open(&one, "token-0").await;
    let _others = [Tunnel::open(&one, "token-234").await, Tunnel::open(&two, "token-248").await];
    let address = |proxy: &Idlegate| proxy.admin().to_string();
    let (at_one, at_two) = (address(&one), address(&two));
    let run = |arguments: &[&str], address: &str| {
        ended(command(arguments, &[("IDLEGATE_ADMIN_LISTEN", address)]).spawn().unwrap())
    };
    let whole = id("token-0");
    for digits in [4, 8, 31, 32] {
        // Known to the other replica only, too.
        for address in [&at_one, &at_two] {
            let ran = run(&["explain", &whole[..digits]], address);
            assert_eq!(field(&ran.out, "session"), whole, "{ran:?}");
        }
    }
    assert_eq!(run(&["explain", &whole[..3]], &at_one).code, 2);
    for command in ["end", "extend"] {
        assert_eq!(run(&[command, &whole[..7]], &at_one).code, 2, "too few digits to {command} a session");
    }
    let ran = run(&["explain", "4a44"], &at_one);
    let said = &ran.err;
    assert!(ran.code == 1 && said.contains(&id("token-234")) && said.contains(&id("token-248")), "{said}");
    assert!(said.contains("; write more digits"), "{said}");
    assert_eq!(run(&["explain", "0000"], &at_one).code, 1);
    assert_eq!(field(&run(&["end", &whole[..8]], &at_one).out, "state"), "ended");
    tunnel.cut(Duration::from_secs(5)).await;
    let ran = run(&["extend", &whole[..8]], &at_one);
    assert!(ran.code == 1 && ran.err.contains("ended already"), "{ran:?}");
}

#[test]
fn the_calls_in_the_deployments_are_understood() {
    let calls = DEPLOY.lines().filter_map(|line| line.trim().split_once("idlegate "));
    let calls = calls.filter(|(before, _)| before.starts_with("sudo ") || before.starts_with("kubectl exec "));
    let mut count = 0;
    for (_, call) in calls.map(|(before, call)| (before, call.rsplit("/idlegate ").next().unwrap())) {
        let mut arguments: Vec<_> = call.split(' ').collect();
        if !["mode", "sessions", "explain"].contains(&arguments[0]) {
            continue;
        }
        count += 1;
        for argument in &mut arguments {
            *argument = if *argument == "/etc/idlegate/proxy.toml" { CONFIG } else { argument };
        }
        arguments.extend(["--admin", "unix:/nowhere"]);
        let mut asking = command(&arguments, &[]).stdin(Stdio::piped()).spawn().unwrap();
        // Who does not read it has ended already.
        let _ = asking.stdin.take().unwrap().write_all(b"a token");
        let ran = ended(asking);
        assert!(ran.code == 1 && ran.err.starts_with("idlegate: cannot connect to unix:/nowhere"), "{call}: {ran:?}");
    }
    assert_eq!(count, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_watched_in_a_terminal_until_ctrl_c() {
    let app = App::start(QUIET);
    let mut proxy = replica(&app, "memory", "1h", &[]);
    let _tunnel = Tunnel::open(&proxy, "one").await;
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str()), ("TERM", "xterm")];
    let (mut person, terminal) = Terminal::open();
    let echoes = person.echoes();
    // In a session of its own, of which the terminal is the controlling one: there, Ctrl-C is a signal.
    let script = "exec setsid --ctty \"$0\" sessions --watch >&0 2>&0";
    let mut watching = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_idlegate")])
        .env("IDLEGATE_CONFIG", CONFIG)
        .envs(at)
        .stdin(terminal)
        .spawn()
        .unwrap();

    let shown = person.shows("1 session, mode enforce");
    assert!(shown.starts_with("\x1b[?25l\x1b[H") && shown.contains(&id("one")), "{shown:?}");
    done(&["end", &id("one")], &at);
    assert!(person.shows("0 sessions, mode enforce").contains("Ctrl-C ends"));
    // The replica is away for a moment, and the last table stays.
    assert!(proxy.stop().await.success());
    let shown = person.shows("no answer since ") + &person.shows("0 sessions, mode enforce");
    assert!(shown.contains("cannot connect to "), "{shown:?}");
    let proxy = replica(&app, "memory", "1h", &at);
    person.shows("Ctrl-C ends");
    let _tunnel = Tunnel::open(&proxy, "two").await;
    assert!(person.shows("1 session, mode enforce").contains(&id("two")));

    person.types("\x03");
    assert!(watching.wait().unwrap().success());
    assert_eq!(person.echoes(), echoes);
    assert!(person.shown().ends_with("\x1b[?25h\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn watched_sessions_are_plain_snapshots_without_a_terminal() {
    let app = App::start(QUIET);
    let mut proxy = replica(&app, "memory", "1h", &[]);
    let address = proxy.admin().to_string();
    let at = [("IDLEGATE_ADMIN_LISTEN", address.as_str())];
    let mut watching = command(&["sessions", "--watch"], &at).spawn().unwrap();
    let mut output = watching.stdout.take().unwrap();
    for _ in 0..2 {
        let snapshot = until(&mut output, "mode enforce\n\n");
        assert!(snapshot.contains("SESSION ") && !snapshot.contains('\x1b'), "{snapshot:?}");
    }
    assert!(proxy.stop().await.success());
    let away = until(&mut output, "no answer since ") + &until(&mut output, "\n\n");
    assert!(away.contains("cannot connect to "), "{away:?}");
    kill_process(Pid::from_child(&watching), Signal::INT).unwrap();
    assert!(watching.wait().unwrap().success());
    // What was never reached is an error at once.
    let never = not_done(1, &["sessions", "--watch"], &at);
    assert!(never.contains("cannot connect to "), "{never}");
    assert_eq!(run(&["sessions", "--watch", "--json"], &at).code, 2);
}
