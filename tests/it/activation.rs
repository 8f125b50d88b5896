//! Sockets passed by a service manager, and the notifications it gets.

use crate::harness::{App, Fake, Idlegate, Recorder, Request, Tunnel, Wire, eventually, replica};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn config(upstream: &str) -> String {
    format!("upstream = \"{upstream}\"\nlisten = \"127.0.0.1:10086\"\n[[token]]\nfrom = \"bearer\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_handed_over_goes_before_listen_and_outlives_idlegate() {
    let app = Recorder::answering(OK).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A client connects before idlegate runs.
    let mut early = Wire::connect(address).await;
    early.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for names in ["idlegate", "idlegate.socket"] {
        let mut proxy = Idlegate::handed(&config(&app.upstream()), &[], socket.try_clone().unwrap(), names);
        assert_eq!(proxy.address, address, "{names}");
        assert_eq!(early.message().await.text(), "ok", "{names}");
        let told = proxy.logged("`listen` was passed by the service manager: ");
        assert!(
            told.len() == 1 && told[0].ends_with("; the configured 127.0.0.1:0 is ignored"),
            "{}",
            proxy.whole_log()
        );
        assert_eq!(proxy.stop().await.code(), Some(0));
        // No process listens, and no connection is refused.
        early = Wire::connect(address).await;
        early.send("GET /between HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_admin_may_be_handed_over_too() {
    let folder = tempfile::tempdir().unwrap();
    let app = Recorder::answering(OK).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut proxy = Idlegate::handed(&config(&app.upstream()), &[], socket, "health");
    assert_ne!(proxy.address, address);
    assert_eq!(proxy.health(), address);
    assert_eq!(Request::get(address, "/healthz").send().await.status, 200);
    assert_eq!(proxy.stop().await.code(), Some(0));
    let path = folder.path().join("admin.sock");
    let mut proxy = Idlegate::handed(&config(&app.upstream()), &[], UnixListener::bind(&path).unwrap(), "admin");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_idlegate"))
        .args(["mode", "--admin", &format!("unix:{}", path.display())])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(proxy.stop().await.code(), Some(0));
    assert!(path.exists(), "it is not idlegate's to remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_socket_is_named_with_its_fix() {
    let folder = tempfile::tempdir().unwrap();
    let bound = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(bound.local_addr().unwrap()).unwrap();
    let file = std::fs::File::create(folder.path().join("file")).unwrap();
    let (udp, unix) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UnixListener::bind(folder.path().join("unix")).unwrap());
    let sockets: [std::os::fd::OwnedFd; 4] = [connected.into(), file.into(), udp.into(), unix.into()];
    for socket in sockets {
        let told = Idlegate::fails_with_socket(socket, "idlegate");
        let start = "idlegate: socket activation: descriptor 3 (\"idlegate\") is not a listening TCP socket; in the \
                     socket unit, set ListenStream=";
        assert!(told.starts_with(start), "{told}");
    }
    let told = Idlegate::fails_with_socket(UdpSocket::bind("127.0.0.1:0").unwrap(), "health");
    assert!(told.contains("is not a listening TCP or Unix socket; "), "{told}");
    let told = Idlegate::fails_with_socket(TcpListener::bind("127.0.0.1:0").unwrap(), "a.socket:a.socket");
    assert!(told.contains("descriptor 4 (\"a.socket\") is one too many; pass one"), "{told}");
    // Any client that reaches it may end sessions.
    let told = Idlegate::fails_with_socket(TcpListener::bind("0.0.0.0:0").unwrap(), "admin");
    assert!(told.contains("`admin.token_file`: http://0.0.0.0:") && told.contains("beyond this host"), "{told}");
}

/// The notifications of a service manager, in order.
struct Notifications {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
    all: Vec<String>,
}

impl Notifications {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, folder, all: Vec::new() }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    /// All lines so far.
    fn lines(&mut self) -> &[String] {
        let mut message = vec![0; 4096];
        while let Ok(count) = self.socket.recv(&mut message) {
            let message = String::from_utf8(message[..count].to_vec()).unwrap();
            self.all.extend(message.lines().map(str::to_owned));
        }
        &self.all
    }

    fn count(&mut self, line: &str) -> usize {
        self.lines().iter().filter(|told| told.starts_with(line)).count()
    }

    async fn receives(&mut self, line: &str) {
        eventually(line, async || self.count(line) > 0).await;
    }

    fn forget(&mut self) {
        self.lines();
        self.all.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_gets_ready_status_and_stopping() {
    let mut manager = Notifications::new();
    let app = App::start(&["--ping", "600"]);
    let mut proxy = replica(&app, "memory", "1h", &[("NOTIFY_SOCKET", &manager.path())]);
    manager.receives("READY=1").await;
    assert_eq!(Request::get(proxy.health(), "/healthz").send().await.status, 200, "it listens everywhere by then");
    let tunnels = [Tunnel::open(&proxy, "ada").await, Tunnel::open(&proxy, "ada").await];
    manager.receives("STATUS=enforce; 1 session, 2 tunnels; store up").await;
    manager.forget();
    proxy.hang_up();
    manager.receives("READY=1").await;
    let lines = manager.lines();
    assert!(lines[0] == "RELOADING=1" && lines[1].starts_with("MONOTONIC_USEC="), "{lines:?}");
    let (then, now) = (lines[1]["MONOTONIC_USEC=".len()..].parse::<i64>().unwrap(), monotonic());
    assert!(now - then < 10_000_000 && then <= now, "{then} and {now}");
    // A refused configuration is in the status as well, until it is repaired.
    let good = std::fs::read_to_string(proxy.file()).unwrap();
    manager.forget();
    proxy.edit("upstream = 7");
    let refused = "STATUS=enforce; 1 session, 2 tunnels; store up; the edited configuration was refused, see the log";
    manager.receives(refused).await;
    let lines = manager.lines();
    let at = lines.iter().position(|line| line == refused).unwrap();
    assert!(lines[0] == "RELOADING=1" && lines[at - 1] == "READY=1", "{lines:?}");
    manager.forget();
    proxy.edit(&good);
    manager.receives("READY=1").await;
    assert_eq!(manager.lines().last().unwrap(), "STATUS=enforce; 1 session, 2 tunnels; store up");
    assert_eq!(manager.count("WATCHDOG=1"), 0, "nobody asked for it");
    manager.forget();
    proxy.terminate();
    manager.receives("STOPPING=1").await;
    manager.receives("STATUS=stopping; enforce; 1 session, ").await;
    // The unit's own patience is not asked: it gets the grace period, and a bit.
    let lines = manager.lines();
    let needed = lines.iter().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC=")).unwrap();
    assert!((14_000_000..=15_000_000).contains(&needed.parse::<u32>().unwrap()), "{lines:?}");
    drop(tunnels);
    assert_eq!(proxy.ended().await.code(), Some(0));
    assert_eq!(manager.count("READY=1"), 0, "{:?}", manager.all);
}

fn monotonic() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_working_proxy_feeds_the_watchdog() {
    let mut manager = Notifications::new();
    let app = Fake::start(|_, _| async {}).await;
    let path = manager.path();
    let environment = [("NOTIFY_SOCKET", &path[..]), ("WATCHDOG_USEC", "4000000")];
    let proxy = Idlegate::start_with(&config(&app.upstream()), &environment);
    let started = std::time::Instant::now();
    eventually("signs of life", async || manager.count("WATCHDOG=1") >= 3).await;
    assert!(started.elapsed() > Duration::from_secs(2), "once a second at most, by the registry's rounds");
    proxy.freeze();
    manager.forget();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(manager.count("WATCHDOG=1"), 0);
    proxy.thaw();
    manager.receives("WATCHDOG=1").await;
}
