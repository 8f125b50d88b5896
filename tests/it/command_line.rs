//! The command line, as a person meets it.
#![allow(clippy::unwrap_used, reason = "what cannot go on fails the test")]

use crate::harness::{Fake, Idlegate, PATIENCE, Request, Wire, eventually, log_in};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GOOD: &str = "upstream = \"http://127.0.0.1:9\"\n[[token]]\nfrom = \"bearer\"\n";

fn idlegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
    command.stdin(Stdio::null());
    command
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn with_file(command: &str, text: &str, environment: &[(&str, &str)]) -> Output {
    let file = file(text);
    idlegate()
        .args([command, "--config"])
        .arg(file.path())
        .envs(environment.iter().copied())
        .env("IDLEGATE_LISTEN", "127.0.0.1:0")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn check_prints_all_errors_with_line_key_and_fix() {
    let text = "upstream = \"https://app\"\n[idle]\ntimout = \"1h\"\n[[token]]\nfrom = \"cookie\"\n";
    for command in ["check", "run"] {
        let output = with_file(command, text, &[("IDLEGATE_CUT_WS_CODE", "1006")]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(stdout(&output), "");
        let told = stderr(&output);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        for (line, place, key, fix) in [
            (lines[0], ":1: ", "upstream: ", "; write \"http://"),
            (lines[1], ":3: ", "idle.timout: ", "; did you mean idle.timeout?"),
            (lines[2], ":4: ", "token.0.name: ", "; add name = "),
            (lines[3], "environment variable IDLEGATE_CUT_WS_CODE: ", "cut.ws_code: ", "; write 1008"),
        ] {
            assert!(line.contains(&format!("{place}{key}")) && line.contains(fix), "{line}");
        }
    }
}

#[test]
fn check_prints_valid() {
    let output = with_file("check", GOOD, &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        stdout(&output).contains(
            ": valid; 1 token rule, limit 3600 s, listens on 127.0.0.1:0, mode enforce, store memory, profile tab\n"
        ),
        "{output:?}"
    );
}

#[test]
fn a_variable_goes_before_the_file_and_an_unknown_one_is_an_error() {
    let output = with_file("check", GOOD, &[("IDLEGATE_IDLE_TIMEOUT", "15m")]);
    assert!(stdout(&output).contains("limit 900 s"), "{output:?}");
    let output = with_file("check", GOOD, &[("IDLEGATE_IDLE_TIMOUT", "15m")]);
    assert_eq!(output.status.code(), Some(2));
    let told = "environment variable IDLEGATE_IDLE_TIMOUT: unknown variable; did you mean IDLEGATE_IDLE_TIMEOUT?";
    assert_eq!(stderr(&output).trim_end(), told);
}

#[test]
fn the_configuration_is_named_before_or_behind_the_command_that_reads_it() {
    let file = file(GOOD);
    let path = file.path().to_str().unwrap();
    for arguments in [["--config", path, "check"], ["check", "--config", path]] {
        let output = idlegate().args(arguments).env("IDLEGATE_CONFIG", "/nowhere").output().unwrap();
        assert!(stdout(&output).starts_with(&format!("{path}: valid; ")), "{output:?}");
    }
    for (command, reads) in [("run", true), ("check", true), ("doctor", true), ("demo", false)] {
        let help = stdout(&idlegate().args([command, "--help"]).output().unwrap());
        assert!(help.contains("--config") == reads && help.contains("--help"), "{command}: {help}");
    }
}

#[test]
fn check_notices_that_the_file_of_the_store_cannot_be_made() {
    let text = format!("{GOOD}[store]\nurl = \"file:/nowhere/sessions\"\n");
    for command in ["check", "run"] {
        let output = with_file(command, &text, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(":5: store.url: there is no folder \"/nowhere\"; create it"), "{output:?}");
    }
}

#[test]
fn variables_of_others_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    let file = file(GOOD);
    let output = idlegate()
        .arg("check")
        .env("IDLEGATE_CONFIG", file.path())
        .env("IDLEGATE_SERVICE_HOST", "10.0.0.1")
        .env("IDLEGATE_PORT_10086_TCP", "tcp://10.0.0.1:10086")
        .env("ODD", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_missing_file_is_an_error_with_a_fix() {
    for command in ["check", "run"] {
        let output = idlegate().args([command, "--config", "/nowhere/proxy.toml"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let told = stderr(&output);
        assert!(told.starts_with("/nowhere/proxy.toml: cannot be read: ") && told.contains("--config"), "{told}");
    }
}

#[test]
fn an_occupied_port_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = file(GOOD);
    let run = ["run", "--config", file.path().to_str().unwrap()];
    for (arguments, key) in [(&run[..], "`listen`"), (&["demo", "--listen", &address][..], "--listen")] {
        let output = idlegate().args(arguments).env("IDLEGATE_LISTEN", &address).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let told = stderr(&output);
        let fix = format!("another program listens there: end it, or change {key}\n");
        assert!(told.contains(&format!("idlegate: cannot listen on {address}: ")) && told.ends_with(&fix), "{told}");
    }
}

#[test]
fn it_prints_its_version_and_refuses_unknown_arguments() {
    let output = idlegate().arg("--version").output().unwrap();
    let told = stdout(&output);
    let revision =
        told.strip_prefix(concat!("idlegate ", env!("CARGO_PKG_VERSION"), " (")).unwrap_or_else(|| panic!("{told}"));
    let revision = revision.strip_suffix(")\n").unwrap_or_else(|| panic!("{told}"));
    assert_eq!(revision, idlegate::version::REVISION);
    // From the build's environment, or from the repository.
    let is_short_hash = |text: &str| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let named = option_env!("GIT_REVISION").is_some_and(|name| !name.trim().is_empty());
    let has_repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.git")).exists();
    assert!(named || !has_repository || is_short_hash(revision.trim_end_matches("-dirty")), "{revision}");
    assert_eq!(idlegate().arg("chek").output().unwrap().status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_on_a_signal() {
    let mut running = Idlegate::start(GOOD);
    assert_eq!(running.stop().await.code(), Some(0));
    assert_eq!(running.logged("stopped").len(), 1);
    assert!(running.logged("listening on")[0].contains(&format!(" revision={} ", idlegate::version::REVISION)));
}

#[test]
fn the_demo_explains_how_to_write_an_address() {
    for (written, fix) in [
        ("8080", "write an IP address and a port: --listen 127.0.0.1:8080"),
        ("localhost:9000", "write an IP address and a port: --listen 127.0.0.1:9000"),
        ("127.0.0.1", "write an IP address and a port: --listen 127.0.0.1:8080"),
    ] {
        let output = idlegate().args(["demo", "--listen", written]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(fix), "{}", stderr(&output));
    }
}

/// The demo, and the lines it prints.
struct Demo {
    process: std::process::Child,
    printed: std::sync::mpsc::Receiver<String>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Demo {
    fn start(listen: &str) -> Self {
        let mut process = idlegate().args(["demo", "--listen", listen]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (sender, printed) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop));
        Self { process, printed }
    }

    /// What it prints, up to a line that contains `end`.
    fn told(&self, end: &str) -> String {
        let mut told = String::new();
        while !told.contains(end) {
            let line = self.printed.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("only this was printed: {told}"));
            told.push_str(&line);
            told.push('\n');
        }
        told
    }

    /// The addresses of its two pages, and all that it printed with them.
    fn pages(&self) -> (Vec<SocketAddr>, String) {
        let told = self.told("Ctrl-C");
        let urls = told.split("http://").skip(1).map(|rest| rest.split('/').next().unwrap().parse().unwrap()).collect();
        (urls, told)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_prints_two_urls_and_serves_both_pages() {
    let demo = Demo::start("127.0.0.1:0");
    let (urls, told) = demo.pages();
    assert_eq!(urls.len(), 2, "{told}");
    // The next port is another one only where it was taken, and then the demo says so.
    assert!(urls[1].port() == urls[0].port() + 1 || told.contains("is in use"), "{told}");
    for (url, title) in urls.iter().zip(["<title>idlegate demo</title>", "<title>idlegate</title>"]) {
        let page = Request::get(*url, "/").send().await;
        assert_eq!(page.status, 200);
        assert!(String::from_utf8_lossy(&page.body).contains(title), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_goes_elsewhere_with_the_operators_page_where_the_next_port_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    // An address of loopback on which no other test listens.
    let first = SocketAddr::from(([127, 88, 0, 1], taken.local_addr().unwrap().port() - 1));
    let demo = Demo::start(&first.to_string());
    let (urls, told) = demo.pages();
    let next = taken.local_addr().unwrap();
    assert_eq!(urls[0], first);
    assert_ne!(urls[1], next);
    assert!(told.contains(&format!("Port {} is in use", next.port())), "{told}");
    assert_eq!(Request::get(urls[1], "/").send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_prints_logins_and_ends() {
    let demo = Demo::start("127.0.0.1:0");
    let (urls, _) = demo.pages();
    let token = log_in(urls[0], "ada", "lovelace").await;
    let told = demo.told("logged in");
    assert!(told.contains("ada logged in. idlegate cuts this session after 30 s without activity."), "{told}");
    let logout = Request::post(urls[0], "/api/logout").json(&serde_json::json!({"session_id": token})).send().await;
    assert_eq!(logout.status, 200);
    assert!(demo.told("logged out").contains("ada logged out."));
}

#[test]
fn check_warns_of_likely_mistakes_also_in_json() {
    let text = "upstream = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\n[idle]\ntimeout = \"1h\"\nretention = \
    \"1m\"\n\
                lifetime = \"30m\"\n[[token]]\nfrom = \"bearer\"\n[[token]]\nfrom = \"cookie\"\nname = \"sid\"\n[[token]]\nfrom = \"bearer\"\n";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_idlegate")).args(arguments).args(["--config", &path]).output().unwrap()
    };
    let output = run(&["check"]);
    let warnings: Vec<_> = stdout(&output).lines().skip(1).map(str::to_owned).collect();
    assert!(output.status.success() && warnings.len() == 3, "{output:?}");
    for (warning, start) in warnings.iter().zip([
        "warning: idle.retention (60 s) is shorter than idle.timeout (3600 s)",
        "warning: idle.lifetime (1800 s) is shorter than idle.timeout (3600 s)",
        "warning: token.2 is the same rule as token.0",
    ]) {
        assert!(warning.starts_with(start), "{warning}");
    }
    let checked: serde_json::Value = serde_json::from_slice(&run(&["check", "--json"]).stdout).unwrap();
    assert_eq!((&checked["valid"], &checked["summary"]["limit"]), (&true.into(), &3600.into()), "{checked}");
    assert_eq!(checked["warnings"].as_array().unwrap().len(), 3);
    file.write_all(b"[[token]]\n").unwrap();
    let output = run(&["check", "--json"]);
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &checked["valid"]), (Some(2), &false.into()), "{checked}");
    assert!(checked["problems"][0].as_str().unwrap().contains("token.3.from"), "{checked}");
}

#[test]
fn check_and_the_log_warn_of_a_store_that_the_replicas_of_a_deployment_do_not_share() {
    const POD: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
    let warning = "in a Pod: each replica counts idle time by itself";
    let told = |environment: &[(&str, &str)]| {
        let output = with_file("check", GOOD, environment);
        assert!(output.status.success(), "{output:?}");
        stdout(&output)
    };
    assert!(told(&[POD]).contains(&format!("warning: store.url is \"memory\" {warning}")), "{}", told(&[POD]));
    assert!(!told(&[]).contains(warning));
    assert!(!told(&[POD, ("IDLEGATE_STORE_URL", "redis://127.0.0.1:1/0")]).contains(warning));
    let proxy = Idlegate::start_with(GOOD, &[POD]);
    assert_eq!(proxy.logged(warning).len(), 1, "{}", proxy.whole_log());
    assert!(Idlegate::start(GOOD).logged(warning).is_empty());
}

#[test]
fn doctor_counts_the_checks_that_failed_and_lists_them_in_json() {
    // Nothing listens there.
    let text = "upstream = \"http://127.0.0.1:1\"\n[[token]]\nfrom = \"bearer\"\n";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
        command.args(["doctor", "--config", file.path().to_str().unwrap()]).args(more).output().unwrap()
    };
    let output = run(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(1), "idlegate: 1 of 2 checks failed\n"));
    let checks: serde_json::Value = serde_json::from_slice(&run(&["--json"]).stdout).unwrap();
    assert!(checks["checks"][0]["wrong"]["what"].as_str().unwrap().contains("127.0.0.1:1"), "{checks}");
    assert!(checks["checks"][1]["note"].as_str().unwrap().contains("a second replica would not see"), "{checks}");
}

#[test]
fn run_prints_the_configuration_that_its_arguments_stand_for() {
    let short = ["run", "--upstream", "http://127.0.0.1:9", "--cookie", "sid", "--timeout", "15m", "--print-config"];
    let output = idlegate().args(short).env("IDLEGATE_CONFIG", "/nowhere").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = stdout(&output);
    let checked = with_file("check", &text, &[]);
    assert!(stdout(&checked).contains("1 token rule, limit 900 s,"), "{checked:?}");
    assert!(stdout(&checked).contains("store memory, profile person\n"), "{checked:?}");
    // What is wrong is not printed as a configuration, but as an error of its line.
    let output = idlegate().args(short).args(["--login-url", "no url"]).output().unwrap();
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{output:?}");
    assert!(stderr(&output).starts_with("idlegate run:") && stderr(&output).contains("cut.login_url: "), "{output:?}");
    for (arguments, missing) in [
        (&["run", "--upstream", "http://127.0.0.1:9"][..], "--cookie <NAME>|--bearer|--header <NAME>"),
        (&["run", "--cookie", "sid"], "--upstream <URL>"),
        (&["run", "--upstream", "http://127.0.0.1:9", "--bearer", "--config", "x"], "cannot be used with"),
        (&["--config", "x", "run", "--upstream", "http://127.0.0.1:9", "--bearer"], "cannot be used with"),
    ] {
        let output = idlegate().args(arguments).output().unwrap();
        assert!(output.status.code() == Some(2) && stderr(&output).contains(missing), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_needs_no_file_and_the_environment_overrides_its_arguments() {
    let app = Fake::start(async |_, mut wire: Wire| {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}").await;
    })
    .await;
    let upstream = app.upstream();
    let arguments = [
        "--upstream",
        &upstream,
        "--cookie",
        "sid",
        "--timeout",
        "1h",
        "--listen",
        "127.0.0.1:0",
        "--login-url",
        "/in",
    ];
    let mut proxy = Idlegate::start_by(&arguments, &[("IDLEGATE_IDLE_TIMEOUT", "1s")]);
    for limit in ["started without a file", "no Redis: sessions live in this process", "no [[ignore]] rules"] {
        proxy.has_logged(limit, 1).await;
    }
    let page = || Request::get(proxy.address, "/").header("cookie", "sid=one").header("accept", "text/html");
    assert_eq!(page().send().await.status, 200);
    eventually("the end", async || !proxy.logged("session ended").is_empty()).await;
    let refused = page().send().await;
    assert_eq!((refused.status.as_u16(), refused.headers["location"].to_str().unwrap()), (302, "/in"));
    proxy.hang_up();
    proxy.has_logged("nothing to reload: idlegate was started without a file", 1).await;
    assert_eq!(Request::get(proxy.address, "/").send().await.status, 200);
    assert!(proxy.stop().await.success());
}

#[test]
fn init_writes_a_valid_configuration_for_each_app_of_its_list() {
    let folder = tempfile::tempdir().unwrap();
    let init = |arguments: &[&str]| idlegate().current_dir(&folder).arg("init").args(arguments).output().unwrap();
    let list = stdout(&init(&["--list"]));
    let apps: Vec<_> = list.lines().skip(1).map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!((apps.len(), apps[0], *apps.last().unwrap()), (22, "generic", "classroom"), "{list}");
    let line = |app: &str| list.lines().find(|line| line.starts_with(app)).unwrap().to_owned();
    assert!(line("laravel").contains("  not tried  ") && line("django").contains("  Django 5.2.19 "), "{list}");
    assert!(line("laravel").contains("not complete") && !line("django").contains("not complete"), "{list}");
    for app in apps {
        let printed = init(&[app, "--output", "-"]);
        let checked = with_file("check", &stdout(&printed), &[]);
        assert!(printed.status.success() && checked.status.success(), "{app}: {checked:?}");
        assert!(app == "classroom" || !stdout(&checked).contains("warning"), "{app}: {checked:?}");
    }
    assert!(!folder.path().join("proxy.toml").exists());
    let output = init(&["nothing"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn init_keeps_a_file_that_exists_unless_it_is_forced() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let init = |arguments: &[&str]| idlegate().current_dir(&folder).arg("init").args(arguments).output().unwrap();
    let output = init(&[]);
    assert!(stdout(&output).starts_with("proxy.toml: written for generic (not tried)"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), include_str!("../../examples/generic.toml"));
    let output = init(&["classroom"]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(1), ""));
    assert!(
        stderr(&output).contains("proxy.toml exists, and was not changed; ") && stderr(&output).contains("--force")
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), include_str!("../../examples/generic.toml"));
    assert!(init(&["classroom", "--force"]).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), include_str!("../../proxy.toml"));
    let output = init(&["--output", "/nowhere/proxy.toml"]);
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("cannot write /nowhere/proxy.toml: "),
        "{output:?}"
    );
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let help = stdout(&idlegate().arg("--help").output().unwrap());
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands = commands.split("\n\n").next().unwrap().lines().filter_map(|line| line.split_whitespace().next());
    let commands: Vec<_> = commands.filter(|command| *command != "help").collect();
    assert!(commands.contains(&"sessions") && commands.contains(&"man"), "{commands:?}");
    // A variable of the one who makes them stays out of them.
    let output = |arguments: &[&str]| {
        let output = idlegate().args(arguments).env("IDLEGATE_CONFIG", "/private").output().unwrap();
        assert!(output.status.success() && !stdout(&output).contains("/private"), "{output:?}");
        stdout(&output)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)) && script.contains("print-config"), "{shell}");
    }
    assert!(output(&["man"]).contains(".TH idlegate 1 "));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    assert_eq!(output(&["man", pages.to_str().unwrap()]), "");
    for command in commands {
        let page = std::fs::read_to_string(pages.join(format!("idlegate-{command}.1"))).unwrap();
        assert!(page.contains(&format!(".TH idlegate-{command} 1 ")) && !page.contains("/private"), "{page}");
    }
    assert!(pages.join("idlegate.1").exists());
    let output = idlegate().args(["man", "/dev/null/man1"]).output().unwrap();
    assert!(
        output.status.code() == Some(1) && stderr(&output).contains("cannot write to /dev/null/man1: "),
        "{output:?}"
    );
}

/// The fields of a line, as a reader of logfmt has them; the time, the level and the sentence come before them.
fn logfmt(line: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('=') {
        let key = before.rsplit(' ').next().unwrap().to_owned();
        let (value, left) = if after.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<String>();
            let value = values.next().unwrap().unwrap_or_else(|error| panic!("{error}: {line}"));
            (value, &after[values.byte_offset()..])
        } else {
            let (value, left) = after.split_once(' ').unwrap_or((after, ""));
            (value.to_owned(), left)
        };
        fields.push((key, value));
        rest = left;
    }
    fields
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_log_is_read_by_readers_of_logfmt_and_of_json() {
    // A path of a client and a cause with spaces, in one line.
    const CONFIG: &str = "upstream = \"http://127.0.0.1:1\"\nlisten = \"127.0.0.1:0\"\n[[token]]\nfrom = \"bearer\"\n";
    const PATH: &str = "/a=b/%22quoted%22/c%0Ad";
    let mut text = Idlegate::start(CONFIG);
    assert_eq!(Request::get(text.address, PATH).send().await.status, 502);
    text.has_logged("the app behind this proxy cannot be reached", 1).await;
    let line = text.logged("the app behind this proxy cannot be reached").remove(0);
    let fields = logfmt(&line);
    let value = |key: &str| &fields.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("{key}: {line}")).1;
    assert_eq!((value("method").as_str(), value("path").as_str()), ("GET", PATH));
    assert!(value("cause").contains("Connection refused"), "{line}");
    let start = text.logged("listening on").remove(0);
    let fields = logfmt(&start);
    for (key, expected) in [("mode", "enforce"), ("store", "memory"), ("profile", "tab"), ("limit", "3600s")] {
        assert!(fields.contains(&(key.to_owned(), expected.to_owned())), "{key}: {start}");
    }
    assert!(text.stop().await.success());
    assert!(!text.whole_log().contains('\u{1b}'), "no colours but at a terminal");

    let mut json = Idlegate::start_with(CONFIG, &[("IDLEGATE_LOG_FORMAT", "json"), ("IDLEGATE_IDLE_MODE", "observe")]);
    assert_eq!(Request::get(json.address, PATH).send().await.status, 502);
    json.has_logged("the app behind this proxy cannot be reached", 1).await;
    assert!(json.stop().await.success());
    let lines: Vec<serde_json::Value> = json
        .whole_log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let found = |text: &str| lines.iter().find(|line| line["message"].as_str().unwrap().contains(text)).unwrap();
    let fault = found("the app behind this proxy cannot be reached");
    assert_eq!((fault["level"].as_str(), fault["path"].as_str()), (Some("WARN"), Some(PATH)));
    let start = found("listening on");
    assert_eq!((start["mode"].as_str(), start["token_rules"].as_u64()), (Some("observe"), Some(1)));
    // To begin so is no change of the mode.
    assert!(lines.iter().all(|line| line["message"] != "mode changed") && json.records("mode").is_empty());
}

#[test]
fn the_rules_of_presets_are_printed_in_the_words_of_the_file() {
    let output = Command::new(env!("CARGO_BIN_EXE_idlegate")).args(["init", "--presets"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("[[\"socket.io\"]]\nfrom = \"client\"\ntext = [\"2\", \"3\"]"),
        "{text}"
    );
}
