//! A Redis server of the test's own, and what stands in front of it.

use super::{App, HostClock, Idlegate, Socket, secret, soon};
use futures_util::SinkExt;
use http::StatusCode;
use redis::{FromRedisValue, RedisResult, Value};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// A running server on a socket in a folder of its own; ended when dropped.
pub struct Redis {
    child: Option<Child>,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    password: Option<String>,
    clock: Option<HostClock>,
}

impl Redis {
    /// Starts one that forgets all when it ends.
    pub fn start() -> Self {
        Self::start_with(&["--save", ""])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self::absent();
        redis.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        redis.start_again();
        redis
    }

    /// One that is still to be started.
    pub fn absent() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { child: None, folder, arguments: vec!["--save".to_owned(), String::new()], password: None, clock: None }
    }

    /// `redis-server`, or the server to test in its place.
    pub fn program() -> OsString {
        std::env::var_os("TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// As `[store] url` says it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub fn start_again(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let mut command = Command::new(Self::program());
        command.args(["--port", "0", "--unixsocket"]).arg(self.socket()).arg("--dir").arg(self.folder.path());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(clock) = &self.clock {
            command.envs(clock.environment());
        }
        self.child = Some(command.spawn().expect("redis-server, which tests/run installs"));
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(started.elapsed() < super::PATIENCE, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// One whose wall clock can be stepped.
    pub fn with_clock() -> Self {
        let mut redis = Self::absent();
        redis.clock = Some(HostClock::ahead(0));
        redis.start_again();
        redis
    }

    /// Lets its wall clock run faster from now on, by so many millionths.
    pub fn run_clock_fast(&self, millionths: i64) {
        self.clock.as_ref().expect("it was started with a clock of its own").run_fast(millionths);
    }

    /// Steps its wall clock to so many seconds from ours.
    pub fn step_clock(&self, seconds: i64) {
        self.clock.as_ref().expect("it was started with a clock of its own").step(seconds);
    }

    /// Ends it without any warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// From now on it accepts connections and never answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Sends one command, on a connection of its own.
    pub async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let started = Instant::now();
        loop {
            match self.try_ask(command).await {
                Ok(answer) => return answer,
                // It accepts connections before it has read its data again.
                Err(error) if error.to_string().contains("loading") && started.elapsed() < super::PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{command}: {error}"),
            }
        }
    }

    pub async fn try_ask<T: FromRedisValue>(&self, command: &str) -> RedisResult<T> {
        let login = self.password.as_ref().map_or(String::new(), |password| format!("?pass={password}"));
        let client = redis::Client::open(self.url() + &login)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        asked.arg(words.collect::<Vec<_>>());
        soon(command, asked.query_async(&mut connection)).await
    }

    /// Demands another password from all who come, and hangs up on those who are there.
    pub async fn change_password(&mut self, password: &str) {
        self.ask::<()>(&format!("CONFIG SET requirepass {password}")).await;
        self.password = (!password.is_empty()).then(|| password.to_owned());
        self.ask::<Value>("CLIENT KILL TYPE normal SKIPME yes").await;
    }

    /// The fields of a hash.
    pub async fn hash(&self, key: &str) -> BTreeMap<String, String> {
        self.ask(&format!("HGETALL {key}")).await
    }

    /// What `HGETALL` shows of a token's session.
    pub async fn session(&self, token: &str) -> BTreeMap<String, String> {
        self.ask(&format!("HGETALL {}", key(token))).await
    }

    /// The server's own time.
    pub async fn now(&self) -> u64 {
        let (seconds, _): (u64, u64) = self.ask("TIME").await;
        seconds
    }

    /// How often each command was run so far, but for those of the tests' own making.
    pub async fn calls(&self) -> BTreeMap<String, u64> {
        let stats: String = self.ask("INFO commandstats").await;
        let lines = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        lines.map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap())).collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What nine in ten of these times are not longer than. The others may have met a busy machine; what waits for the store
/// would wait more often.
pub fn most_of(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() * 9 / 10).copied().unwrap_or_default()
}

/// The key of a token's session.
fn key(token: &str) -> String {
    format!("idlegate:session:{}", idlegate::session::SessionId::of_token(token.as_bytes()))
}

/// A replica that takes any token in the handshake of a tunnel to `/ws-legacy`, which echoes.
pub fn replica(app: &App, url: &str, limit: &str, more: &[(&str, &str)]) -> Idlegate {
    let mut environment = vec![
        ("IDLEGATE_STORE_URL", url),
        ("IDLEGATE_IDLE_TIMEOUT", limit),
        ("IDLEGATE_TOKEN_0_PATHS", r#"["/ws-legacy", "/api/get-all-students"]"#),
        ("IDLEGATE_DENY", r#"["/nothing"]"#),
        // How soon a logout is known is measured by its cuts.
        ("IDLEGATE_CUT_LOGOUT_DELAY", "0s"),
        // Whether a token is dead is told by the status of its handshake.
        ("IDLEGATE_CUT_WS_REFUSE", "status"),
    ];
    environment.extend_from_slice(more);
    Idlegate::shipped(&app.upstream, &environment)
}

/// A tunnel of the session of a token.
pub struct Tunnel(pub Socket);

impl Tunnel {
    pub async fn open(proxy: &Idlegate, token: &str) -> Self {
        Self::try_open(proxy.address, token).await.unwrap_or_else(|status| panic!("{token} was answered {status}"))
    }

    pub async fn try_open(address: SocketAddr, token: &str) -> Result<Self, StatusCode> {
        Socket::open_with(address, "/ws-legacy", &[("session-id", secret(token))]).await.map(Self)
    }

    /// Sends a message and awaits its echo. Returns how long that took.
    pub async fn echo(&mut self) -> Duration {
        self.try_echo().await.unwrap_or_else(|why| panic!("the tunnel is gone: {why}"))
    }

    /// As [`Tunnel::echo`], or why there is none.
    pub async fn try_echo(&mut self) -> Result<Duration, String> {
        let sent = Instant::now();
        self.0.0.send(Message::text("still here")).await.map_err(|error| error.to_string())?;
        let answer = soon("the echo", self.0.next()).await;
        let answered = answer == Some(Message::text("still here"));
        answered.then(|| sent.elapsed()).ok_or_else(|| format!("{answer:?}"))
    }

    /// Sends a message, whose echo is awaited later, by [`Tunnel::echoed`].
    pub async fn send(&mut self) {
        self.0.send(Message::text("still here")).await;
    }

    pub async fn echoed(&mut self) {
        assert_eq!(soon("the echo", self.0.next()).await, Some(Message::text("still here")), "the tunnel is gone");
    }

    /// Echoes every 100 ms or so, for so long. Returns how long echoes took, as [`most_of`] counts it.
    pub async fn busy_for(&mut self, time: Duration) -> Duration {
        let (begun, mut took) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            took.push(self.echo().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        most_of(took)
    }

    /// Waits for the cut. Returns when that was.
    pub async fn cut(&mut self, within: Duration) -> Instant {
        let cut = tokio::time::timeout(within, self.0.cut_words()).await;
        let (_, code, _) = cut.unwrap_or_else(|_| panic!("not cut within {within:?}"));
        assert_eq!(code, 4002);
        Instant::now()
    }

    /// That nothing comes for so long.
    pub async fn stays_open_for(&mut self, time: Duration) {
        let came = tokio::time::timeout(time, self.0.next()).await;
        assert!(came.is_err(), "in a quiet tunnel: {came:?}");
    }
}
