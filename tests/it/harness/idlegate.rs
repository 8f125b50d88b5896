//! The binary under test.

use super::secrets_in;
use serde_json::Value;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running idlegate; ended when dropped.
pub struct Idlegate {
    child: Child,
    pub address: SocketAddr,
    log: Log,
    audit: Log,
    /// Has its configuration, where it is its own.
    folder: Option<tempfile::TempDir>,
}

/// Its output, which can be read at once: reading takes what the pipe holds. (A file would be plainer, but it could be
/// full.)
#[derive(Clone)]
struct Log(Arc<Mutex<Written>>);

/// Where it comes from, and what has come.
type Written = (Box<dyn Read + Send>, Vec<u8>);

impl Log {
    fn of(pipe: impl Read + AsFd + Send + 'static) -> Self {
        rustix::io::ioctl_fionbio(&pipe, true).unwrap();
        let log = Self(Arc::new(Mutex::new((Box::new(pipe), Vec::new()))));
        // If it is not read for long, the pipe must not be full.
        let watched = log.clone();
        std::thread::spawn(move || {
            while watched.take() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        log
    }

    /// Takes what has come. `false` at the end.
    fn take(&self) -> bool {
        let (pipe, written) = &mut *self.0.lock().unwrap();
        // What came before an error is kept; that nothing more has come is one.
        pipe.read_to_end(written).is_err()
    }

    fn text(&self) -> String {
        self.take();
        String::from_utf8_lossy(&self.0.lock().unwrap().1).into_owned()
    }
}

const DEBUG: (&str, &str) = ("IDLEGATE_LOG", "debug");

/// The configuration of the first app, with which the binary is shipped.
pub const SHIPPED: &str = include_str!("../../../proxy.toml");

impl Idlegate {
    /// Starts it with this configuration, on a port of the system's choice.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// Starts it with the shipped configuration in front of `upstream`, and these variables.
    pub fn shipped(upstream: &str, environment: &[(&str, &str)]) -> Self {
        let mut all = vec![("IDLEGATE_UPSTREAM", upstream)];
        all.extend_from_slice(environment);
        Self::start_with(SHIPPED, &all)
    }

    pub fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        let usual = [("IDLEGATE_HEALTH_LISTEN", "127.0.0.1:0"), ("IDLEGATE_ADMIN_LISTEN", "127.0.0.1:0"), DEBUG];
        Self::start_in(config, &[&usual, environment].concat())
    }

    /// Starts it without the listeners that all others have in the tests.
    pub fn without_health(config: &str) -> Self {
        Self::start_in(config, &[DEBUG])
    }

    /// Starts it with a socket of the caller's, which is handed over by these names: more than once where there are more
    /// names. The environment says all that there is.
    pub fn handed(config: &str, environment: &[(&str, &str)], socket: impl Into<OwnedFd>, names: &str) -> Self {
        let (folder, path) = file(config);
        let mut started = Self::spawn(handing_over(&path, socket, names).envs(environment.iter().copied()));
        started.folder = Some(folder);
        started
    }

    /// The same where it cannot start. Returns what it says.
    pub fn fails_with_socket(socket: impl Into<OwnedFd>, names: &str) -> String {
        let (_folder, path) = file("upstream = \"http://127.0.0.1:9\"\n[[token]]\nfrom = \"bearer\"\n");
        Self::failing(&mut handing_over(&path, socket, names))
    }

    /// Starts it where it cannot start. Returns what it says.
    pub fn fails_with(config: &str, environment: &[(&str, &str)]) -> String {
        let (_folder, path) = file(config);
        Self::failing(command(&path).envs(environment.iter().copied()))
    }

    fn failing(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn start_in(config: &str, environment: &[(&str, &str)]) -> Self {
        let (folder, path) = file(config);
        let mut started = Self::start_at(&path, environment);
        started.folder = Some(folder);
        started
    }

    /// Starts it with a configuration that the caller keeps, and the level of the log in it.
    pub fn start_at(path: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(command(path).envs(environment.iter().copied()))
    }

    /// Starts it without a file, by these arguments of `run`.
    pub fn start_by(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idlegate"));
        command.arg("run").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command.envs(environment.iter().copied()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let audit = Log::of(child.stdout.take().unwrap());
        let started = Instant::now();
        let address = loop {
            if let Some(address) = log.text().lines().find_map(address_in) {
                break address;
            }
            if let Some(status) = child.try_wait().unwrap() {
                panic!("idlegate ended with {status}: {}", log.text());
            }
            assert!(started.elapsed() < super::PATIENCE, "idlegate did not start: {}", log.text());
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { child, address, log, audit, folder: None }
    }

    /// Its configuration.
    pub fn file(&self) -> PathBuf {
        self.folder.as_ref().expect("it has a configuration of its own").path().join("proxy.toml")
    }

    /// Writes its configuration again.
    pub fn edit(&self, config: &str) {
        std::fs::write(self.file(), config).unwrap();
    }

    /// Asks it to read its configuration (SIGHUP).
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its name among replicas.
    pub fn name(&self) -> String {
        let line = self.logged("listening on http://").pop().expect("it is logged");
        line.rsplit("replica=").next().unwrap().trim().to_owned()
    }

    /// Where health and metrics are served.
    pub fn health(&self) -> SocketAddr {
        let line = self.logged("health and metrics at http://").pop().expect("it is logged");
        line.rsplit("http://").next().unwrap().parse().unwrap()
    }

    /// Where operators ask.
    pub fn admin(&self) -> SocketAddr {
        let line = self.logged("admin API and page at http://").pop().expect("it is logged");
        line.rsplit("http://").next().unwrap().parse().unwrap()
    }

    /// The log lines that contain `text`.
    pub fn logged(&self, text: &str) -> Vec<String> {
        self.whole_log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }

    /// Waits until a line of the log has said `text` so many times, and no more often. What has happened is not always in the
    /// log yet: a thread of its own writes.
    pub async fn has_logged(&self, text: &str, times: usize) {
        super::eventually("the log line", async || self.logged(text).len() >= times).await;
        assert_eq!(self.logged(text).len(), times, "{text}: {}", self.whole_log());
    }

    /// The audit records of an event, where they go to standard output, which has nothing else.
    pub fn records(&self, event: &str) -> Vec<Value> {
        let records = self.audit.text();
        let whole = records.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let all =
            whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        all.filter(|record: &Value| record["event"] == event).collect()
    }

    /// All that it has written, to standard error and to standard output.
    pub fn all_said(&self) -> String {
        self.log.text() + &self.audit.text()
    }

    /// All of the log, for a failing test to show.
    pub fn whole_log(&self) -> String {
        self.log.text()
    }

    /// That many sessions were cut for being idle, each in time by the proxy's own count: after more than the limit,
    /// and up to two seconds later. When the test itself notices says nothing about that.
    pub async fn has_cut_in_time(&self, sessions: usize) {
        super::eventually("the cuts to be logged", async || self.logged("reason=idle").len() >= sessions).await;
        let lines = self.logged("reason=idle");
        assert_eq!(lines.len(), sessions, "{lines:?}");
        for line in lines {
            let number = |name: &str| -> u64 {
                let (_, rest) = line.split_once(&format!(" {name}=")).unwrap();
                rest.split_whitespace().next().unwrap().parse().unwrap()
            };
            let (idle, limit) = (number("idle"), number("limit"));
            assert!((limit + 1..=limit + 2).contains(&idle), "{line}");
        }
    }

    /// Asks it to stop (SIGTERM), and waits for it.
    pub async fn stop(&mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// Waits for it after `terminate`: a second signal would hurry it.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..1500 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("idlegate does not stop: {}", self.whole_log());
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// It stands still, as on a machine that is suspended.
    /// Returns when all its threads do: until then one may still send something.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
        let deadline = Instant::now() + super::PATIENCE;
        while !self.stands_still() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.flatten().all(|thread| {
            // A thread that is gone stands still, too.
            let state = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            state.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
        })
    }

    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// From now on its files can be written up to this many bytes, as on a disk that is full.
    pub fn let_files_grow(&self, most: Option<u64>) {
        let limits = rustix::process::Rlimit { current: most, maximum: None };
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limits).unwrap();
    }

    /// How many file descriptors it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// How many connections to `peer` there are on this host that are not closed by both sides. The system keeps no
    /// list by process, but no other process knows the port of a test's own app.
    pub fn open_sockets_to(&self, peer: SocketAddr) -> usize {
        let SocketAddr::V4(peer) = peer else { panic!("{peer} is not IPv4") };
        let peer = format!("{:08X}:{:04X}", u32::from_le_bytes(peer.ip().octets()), peer.port());
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap();
        let established = ["01", "08"];
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields.filter(|fields| fields[2] == peer && established.contains(&fields[3])).count()
    }

    /// How much memory it has had at most, in KiB. The kernel counts by processor and sums up roughly, so that a later
    /// reading may be a little less than an earlier one.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Idlegate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.whole_log();
        if std::thread::panicking() {
            eprintln!("--- the log of idlegate:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "idlegate panicked: {log}");
            let said = self.all_said();
            let secrets = secrets_in(said.as_bytes());
            assert!(secrets.is_empty(), "idlegate has given away {secrets:?}: {said}");
        }
    }
}

fn file(config: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, config).unwrap();
    (folder, path)
}

fn command(path: &Path) -> Command {
    by("exec", path)
}

/// As systemd does it: the socket, which comes as standard input, is at 3, and the same again at 4 for a second name.
fn handing_over(path: &Path, socket: impl Into<OwnedFd>, names: &str) -> Command {
    let count = names.split(':').count();
    let and = if count > 1 { "4<&0" } else { "" };
    let variables = format!("LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}");
    let mut command = by(&format!("exec 3<&0 {and} 0</dev/null; {variables} exec"), path);
    command.stdin(socket.into());
    command
}

fn by(script: &str, path: &Path) -> Command {
    // SIGXFSZ is ignored, so that a limit on files is an error of writing and not the end of the process.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("trap '' XFSZ; {script} \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_idlegate"),
            "run",
            "--config",
        ])
        .arg(path)
        .env("IDLEGATE_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    // In JSON the sentence ends with a quote.
    rest.split([' ', '"', '\n']).next()?.parse().ok()
}
