//! The configuration is edited under traffic: reloadable keys change within a second, and no connection is dropped.

use crate::harness::{App, Deaf, Fake, Idlegate, Request, TEXT, Tunnel, Wire, eventually, switching};
use crate::http::get;
use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

const CHANGED: &str = "configuration reloaded: ";
const AS_IT_STANDS: &str = "configuration read again: no change";
const REFUSED: &str = "invalid configuration, the current one stays in force: ";
const RESTART: &str = "changed in the file, needs a restart: ";

/// How a file comes to have another text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It is written over.
    Plain,
    /// Another one is renamed over it, as most editors do.
    Rename,
    /// It is a link through `..data`, a link to a folder that is exchanged, as Kubernetes mounts a `ConfigMap`.
    ConfigMap,
}

struct File {
    folder: tempfile::TempDir,
    way: Way,
    versions: Cell<usize>,
}

impl File {
    fn new(way: Way, text: &str) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap(), way, versions: Cell::new(0) };
        if way == Way::ConfigMap {
            symlink("..data/proxy.toml", file.path()).unwrap();
        }
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    fn write(&self, text: &str) {
        let folder = self.folder.path();
        match self.way {
            Way::Plain => std::fs::write(self.path(), text).unwrap(),
            Way::Rename => {
                std::fs::write(folder.join("proxy.toml~"), text).unwrap();
                std::fs::rename(folder.join("proxy.toml~"), self.path()).unwrap();
            }
            Way::ConfigMap => {
                let version = self.versions.replace(self.versions.get() + 1);
                let name = |version: usize| format!("..2026_11_23_{version}");
                std::fs::create_dir(folder.join(name(version))).unwrap();
                std::fs::write(folder.join(name(version)).join("proxy.toml"), text).unwrap();
                symlink(name(version), folder.join("..data_tmp")).unwrap();
                std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
                if let Some(before) = version.checked_sub(1) {
                    std::fs::remove_dir_all(folder.join(name(before))).unwrap();
                }
            }
        }
    }
}

fn config(app: &str, top: &str, mode: &str) -> String {
    format!(
        "upstream = \"{app}\"\n{top}\n[idle]\ntimeout = \"2s\"\nmode = \"{mode}\"\n[[token]]\nfrom = \"header\"\n\
         name = \"session-id\"\n[cut]\nws_message = '{{\"bye\":1}}'\nws_code = 4002\n"
    )
}

/// Tunnels on which something moves all the time.
struct Traffic {
    over: Arc<AtomicBool>,
    tunnels: JoinSet<()>,
}

impl Traffic {
    async fn start(proxy: &Idlegate) -> Self {
        let (over, mut tunnels) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..8 {
            let (mut tunnel, over) = (Tunnel::open(proxy, &format!("busy-{number}")).await, Arc::clone(&over));
            tunnels.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    tunnel.echo().await;
                    sleep(Duration::from_millis(50)).await;
                }
                tunnel.echo().await;
            });
        }
        Self { over, tunnels }
    }

    /// None of them was dropped.
    async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(tunnel) = self.tunnels.join_next().await {
            tunnel.expect("a tunnel was dropped");
        }
    }
}

async fn is_switched(app: &App, way: Way) {
    let file = File::new(way, &config(&app.upstream, "", "enforce"));
    let proxy = Idlegate::start_at(&file.path(), &[]);
    let traffic = Traffic::start(&proxy).await;
    let mut took = Vec::new();
    let mut switch = async |mode: &str| {
        let begun = Instant::now();
        file.write(&config(&app.upstream, "", mode));
        let changed = format!("mode changed mode={mode} ");
        eventually("the switch", async || proxy.logged(&changed).len() == 1).await;
        took.push(begun.elapsed());
        begun
    };
    switch("observe").await;
    let mut idle = Vec::new();
    for number in 0..5 {
        idle.push(Tunnel::open(&proxy, &format!("idle-{number}")).await);
    }
    eventually("those who would be cut", async || proxy.logged("session would be cut").len() == 5).await;
    switch("off").await;
    // Longer than the limit, while time does not count.
    sleep(Duration::from_secs(5)).await;
    assert!(proxy.logged("session ended").is_empty());
    let back = switch("enforce").await;
    for tunnel in &mut idle {
        let lived = tunnel.cut(Duration::from_secs(10)).await - back;
        assert!(lived > Duration::from_secs(2), "{way:?}: cut {lived:?} after the time began to count");
    }
    traffic.stop().await;
    println!("{way:?}: in force after {took:?}");
    // One of them may have met a machine that did something else.
    assert!(took.iter().min().unwrap() < &Duration::from_secs(1), "{way:?}: {took:?}");
    proxy.has_logged("session ended", 5).await;
    let counts = [CHANGED, "mode changed", "session ended", "WARN", "ERROR"].map(|what| proxy.logged(what).len());
    assert_eq!(counts, [3, 3, 5, 0, 0], "{way:?}");
    assert!(proxy.logged(CHANGED).iter().all(|line| line.ends_with(": idle.mode")), "{:?}", proxy.logged(CHANGED));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_mode_drops_no_connection_and_idle_time_restarts_after_off() {
    let app = App::start(&["--ping", "600"]);
    tokio::join!(is_switched(&app, Way::Plain), is_switched(&app, Way::Rename), is_switched(&app, Way::ConfigMap));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_up_reads_the_file_at_once_and_ends_nothing() {
    let app = App::start(&["--ping", "600"]);
    let mut proxy = Idlegate::start_with(&config(&app.upstream, "", "enforce"), &[("IDLEGATE_IDLE_MODE", "observe")]);
    let traffic = Traffic::start(&proxy).await;
    proxy.hang_up();
    eventually("an answer", async || proxy.logged(AS_IT_STANDS).len() == 1).await;
    // The variable goes before the file.
    proxy.edit(&config(&app.upstream, "", "off"));
    let without_effect = "without effect: idle.mode; IDLEGATE_IDLE_MODE overrides it";
    eventually("that to be said", async || proxy.logged(without_effect).len() == 1).await;
    proxy.edit(&config(&app.upstream, "deny = [\"/a\"]", "off"));
    proxy.hang_up();
    eventually("the edit to be in force", async || proxy.logged(CHANGED).len() == 1).await;
    assert_eq!(Request::get(proxy.address, "/a").send().await.status, 404);
    // On request, the errors are logged again.
    proxy.edit("");
    eventually("the refusal", async || proxy.logged(REFUSED).len() == 1).await;
    proxy.hang_up();
    eventually("the refusal", async || proxy.logged(REFUSED).len() == 2).await;
    assert!(proxy.logged("mode changed mode=off").is_empty());
    traffic.stop().await;
    assert_eq!(proxy.stop().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_refused_once_with_all_reasons_and_a_mended_one_is_taken() {
    let app = App::start(&["--ping", "600"]);
    let proxy = Idlegate::start(&config(&app.upstream, "deny = [\"/old\"]", "enforce"));
    let traffic = Traffic::start(&proxy).await;
    let denied = async |path: &str| Request::get(proxy.address, path).send().await.status == 404;
    let broken = config(&app.upstream, "deny = [\"/new\", \"x\"]\nlog = 7\nlgo = 1", "enforse");
    for (before, text) in [&broken[..], "deny = [", ""].into_iter().enumerate() {
        proxy.edit(text);
        eventually("the refusal", async || proxy.logged(REFUSED).len() > before).await;
        let checked =
            Command::new(env!("CARGO_BIN_EXE_idlegate")).args(["check", "--config"]).arg(proxy.file()).output();
        // Variables go before the file, here as there: this one hides what is wrong with `log`.
        let reasons = String::from_utf8(checked.unwrap().stderr).unwrap();
        let reasons: Vec<_> = reasons.lines().filter(|reason| !reason.contains(" log: ")).collect();
        let line = proxy.logged(REFUSED).pop().unwrap();
        assert_eq!(line.split_once(REFUSED).unwrap().1, reasons.join(" | "));
        assert!(line.contains("ERROR") && denied("/old").await && !denied("/new").await, "{line}");
    }
    std::fs::remove_file(proxy.file()).unwrap();
    eventually("the loss", async || proxy.logged("proxy.toml: cannot be read: ").len() == 1).await;
    // Back as it was.
    proxy.edit(&config(&app.upstream, "deny = [\"/old\"]", "enforce"));
    eventually("its return", async || proxy.logged(AS_IT_STANDS).len() == 1).await;
    proxy.edit(&config(&app.upstream, "deny = [\"/new\"]", "enforce"));
    eventually("the edit to be in force", async || proxy.logged(CHANGED).len() == 1).await;
    assert!(!denied("/old").await && denied("/new").await);
    assert_eq!((proxy.logged(REFUSED).len(), proxy.logged("WARN").len()), (4, 0), "each was told once");
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_need_a_restart_are_named_and_the_rest_takes_effect() {
    let app = App::start(&["--ping", "600"]);
    let text = config(&app.upstream, "", "enforce");
    let proxy = Idlegate::start(&text);
    let traffic = Traffic::start(&proxy).await;
    let edited = text.replace("2s", "1h").replace("upstream", "max_sessions = 9\ndeny = [\"/a\"]\nupstream");
    proxy.edit(&edited);
    let named =
        |what: &str| proxy.logged(what).iter().map(|line| line.split_once(what).unwrap().1.to_owned()).collect();
    eventually("the warning", async || proxy.logged(RESTART).len() == 1).await;
    let (pending, applied): (Vec<_>, Vec<_>) = (named(RESTART), named(CHANGED));
    assert_eq!(
        (&pending[..], &applied[..]),
        (&["idle.timeout, max_sessions".to_owned()][..], &["deny".to_owned()][..])
    );
    assert_eq!(Request::get(proxy.address, "/a").send().await.status, 404);
    assert!(proxy.logged(RESTART)[0].contains("WARN") && proxy.logged(CHANGED)[0].contains("INFO"));
    // The old limit is in force.
    Tunnel::open(&proxy, "idle").await.cut(Duration::from_secs(10)).await;
    // What waits is named again with the next edit, until it is taken back.
    proxy.edit(&format!("{edited}login_url = \"/login\"\n"));
    eventually("the warning", async || proxy.logged(RESTART).len() == 2).await;
    assert!(named(CHANGED) == ["deny", "cut.login_url"] && named(RESTART)[0] == named(RESTART)[1]);
    proxy.edit(&text);
    eventually("the way back", async || proxy.logged(CHANGED).len() == 3).await;
    assert_eq!((proxy.logged(RESTART).len(), &named(CHANGED)[2][..]), (2, "cut.login_url, deny"));
    traffic.stop().await;
}

/// Answers with the head of the request; `/slow` never, `/held` on demand.
async fn echoing_heads(held: Arc<Notify>) -> Fake {
    Fake::start(move |_, mut wire| {
        let held = Arc::clone(&held);
        async move {
            while let Some(head) = wire.next_head().await {
                if head.starts_with("GET /ws ") {
                    wire.send(switching("websocket", "")).await;
                    return drop(wire.rest().await);
                }
                if head.starts_with("GET /slow ") {
                    return drop(wire.rest().await);
                }
                if head.starts_with("GET /held ") {
                    held.notified().await;
                }
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len())).await;
            }
        }
    })
    .await
}

const CUT: &str = r#"
[cut]
ws_message = "over"
ws_code = 4001
ws_reason = "now"
http_status = 440
http_body = "gone"
http_headers = { "X-Said" = "so" }
login_url = "/login"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_tunnels_use_the_current_settings() {
    let held = Arc::new(Notify::new());
    let app = echoing_heads(Arc::clone(&held)).await;
    let rules = "[[token]]\nfrom = \"header\"\nname = \"x-token\"\n[[token]]\nfrom = \"header\"\nname = \"x-token\"\n\
                 paths = [\"/logout\"]\nends = true\n";
    let text = |top: &str, cut: &str| format!("upstream = \"{}\"\n{top}\n{rules}{cut}", app.upstream());
    let proxy = Idlegate::start(&text("", ""));
    let ask = async |path: &str, more: &str| Wire::connect(proxy.address).await.ask(get(path, more)).await;
    let said = "X-Forwarded-For: 6.6.6.6\r\n";
    assert!(ask("/a", said).await.text().to_lowercase().contains("x-forwarded-for: 127.0.0.1\r\n"));
    assert_eq!(ask("/b", "x-token: dead\r\n").await.status(), 200);
    assert_eq!(ask("/logout", "x-token: dead\r\n").await.status(), 200);
    assert_eq!(ask("/b", "x-token: dead\r\nAccept: text/html\r\n").await.status(), 401);
    let mut tunnel = Wire::connect(proxy.address).await;
    tunnel.upgrade("/ws", "x-token: live\r\n").await;
    let mut waiting = Wire::connect(proxy.address).await;
    waiting.send(get("/held", "")).await;

    let top = "deny = [\"/a\"]\ntrusted_proxies = [\"127.0.0.0/8\"]\nresponse_timeout = \"500ms\"\n";
    proxy.edit(&text(top, CUT));
    eventually("the edit to be in force", async || proxy.logged(CHANGED).len() == 1).await;
    let keys = "cut.http_body, cut.http_headers, cut.http_status, cut.login_url, cut.ws_code, cut.ws_message, \
                cut.ws_reason, deny, response_timeout, trusted_proxies";
    assert!(proxy.logged(CHANGED)[0].ends_with(keys), "{:?}", proxy.logged(CHANGED));
    assert_eq!(ask("/a", "").await.status(), 404);
    assert!(ask("/b", said).await.text().to_lowercase().contains("x-forwarded-for: 6.6.6.6, 127.0.0.1\r\n"));
    assert_eq!(ask("/slow", "").await.status(), 504);
    let refused = ask("/b", "x-token: dead\r\n").await;
    assert_eq!((refused.status(), &refused.text()[..], refused.field("x-said")), (440, "gone", vec!["so"]));
    let page = ask("/b", "x-token: dead\r\nAccept: text/html\r\n").await;
    assert_eq!((page.status(), page.field("location")), (302, vec!["/login"]));
    // A tunnel that was open before gets the new words.
    assert_eq!(ask("/logout", "x-token: live\r\n").await.status(), 200);
    assert_eq!(tunnel.frame().await, (TEXT, b"over".to_vec()));
    assert_eq!(tunnel.frame().await, (0x88, [&4001_u16.to_be_bytes()[..], b"now"].concat()));
    // A request that was there before goes by what was in force when it came.
    held.notify_one();
    assert_eq!(waiting.message().await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_timeout_is_reloaded() {
    let app = Deaf::start().await;
    let text = |timeout: &str| {
        format!("upstream = \"{}\"\nconnect_timeout = \"{timeout}\"\n[[token]]\nfrom = \"bearer\"\n", app.upstream())
    };
    let proxy = Idlegate::start(&text("1h"));
    proxy.edit(&text("200ms"));
    eventually("the edit to be in force", async || proxy.logged(CHANGED).len() == 1).await;
    for more in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"] {
        assert_eq!(Wire::connect(proxy.address).await.ask(get("/", more)).await.status(), 504, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_of_the_log_follows_the_file() {
    let app = Fake::start(|_, wire| async { drop(wire) }).await;
    let text = |level: &str| config(&app.upstream(), &format!("deny = [\"/a\"]\nlog = \"{level}\""), "enforce");
    let file = File::new(Way::Plain, &text("info"));
    let proxy = Idlegate::start_at(&file.path(), &[]);
    let ask = async || assert_eq!(Request::get(proxy.address, "/a").send().await.status, 404);
    let refusals = || proxy.logged("refused: not found").len();
    ask().await;
    // Each change is logged if either level shows it, and only then is less logged.
    for (changes, level) in ["debug", "error", "trace", "info"].into_iter().enumerate() {
        file.write(&text(level));
        eventually(level, async || proxy.logged(CHANGED).len() == changes + 1).await;
        if ["debug", "trace"].contains(&level) {
            let before = refusals();
            ask().await;
            eventually("the refusal", async || refusals() == before + 1).await;
        }
    }
    // A line before, after which the level stands, and one behind.
    file.write("");
    eventually("a line", async || proxy.logged(REFUSED).len() == 1).await;
    ask().await;
    file.write("deny = [");
    eventually("the next line", async || proxy.logged(REFUSED).len() == 2).await;
    assert_eq!(refusals(), 2, "one while it said debug, one while it said trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let pipe = path.clone();
    let writing =
        std::thread::spawn(move || std::fs::write(pipe, config("http://127.0.0.1:9", "", "enforce")).unwrap());
    let mut proxy = Idlegate::start_at(&path, &[]);
    writing.join().unwrap();
    proxy.hang_up();
    eventually("an answer", async || proxy.logged("pipe cannot be reloaded: not a regular file").len() == 1).await;
    assert_eq!(proxy.stop().await.code(), Some(0));
    assert!(proxy.logged("ERROR").is_empty());
}
