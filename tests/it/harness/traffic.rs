//! Sessions that are in use all the time, each through two replicas, and what becomes of them.

use super::{Idlegate, Redis, Tunnel, most_of};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two frames of a session.
const PAUSE: Duration = Duration::from_millis(100);

/// The shortest time for which anything waits for the store: `lookup_timeout`.
const SHORTEST_WAIT: Duration = Duration::from_millis(250);

/// Sessions that are used through one replica, while their tunnels on another are silent.
pub struct Traffic {
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<Client>>,
}

/// One session.
struct Client {
    token: String,
    busy: Tunnel,
    silent: Tunnel,
    /// How long each echo took.
    echoes: Vec<Duration>,
    /// What must not happen to it: a tunnel was closed, or data came that was not sent.
    dropped: Option<String>,
}

impl Client {
    async fn echo(&mut self) {
        match self.busy.try_echo().await {
            Ok(took) => self.echoes.push(took),
            Err(why) => self.dropped = Some(format!("{} after {} frames: {why}", self.token, self.echoes.len())),
        }
    }

    async fn speak_until(mut self, mut stop: watch::Receiver<bool>) -> Self {
        while !*stop.borrow() && self.dropped.is_none() {
            self.echo().await;
            tokio::select! {
                came = self.silent.0.next() => self.dropped = Some(format!("{}, in the silent tunnel: {came:?}", self.token)),
                () = tokio::time::sleep(PAUSE) => {}
                _ = stop.changed() => {}
            }
        }
        self
    }
}

impl Traffic {
    /// So many sessions, all in use.
    pub async fn start(replicas: [&Idlegate; 2], sessions: usize) -> Self {
        let stop = watch::Sender::new(false);
        let mut clients = Vec::new();
        for number in 0..sessions {
            let token = format!("used-{number}");
            let [here, there] = [replicas[number % 2], replicas[(number + 1) % 2]];
            let (busy, silent) = (Tunnel::open(here, &token).await, Tunnel::open(there, &token).await);
            let client = Client { token, busy, silent, echoes: Vec::new(), dropped: None };
            clients.push(tokio::spawn(client.speak_until(stop.subscribe())));
        }
        Self { stop, clients }
    }

    /// Stops sending: until then no connection was dropped. After that many seconds of silence each session is cut, no
    /// earlier, and the server knows everything that was sent.
    pub async fn ends_in_silence(self, what: &str, redis: &Redis, limit: u64) {
        self.stop.send_replace(true);
        let mut clients: Vec<Client> = Vec::new();
        for client in self.clients {
            clients.push(client.await.unwrap());
        }
        let mut last = Vec::new();
        for client in &mut clients {
            let (second, sent) = (redis.now().await, Instant::now());
            if client.dropped.is_none() {
                client.echo().await;
            }
            last.push((second, sent));
        }
        let dropped: Vec<_> = clients.iter().filter_map(|client| client.dropped.as_deref()).collect();
        assert!(dropped.is_empty(), "{what}: {} dropped: {dropped:#?}", dropped.len());
        let echoes: Vec<_> = clients.iter().flat_map(|client| client.echoes.iter().copied()).collect();
        let (frames, took) = (echoes.len(), most_of(echoes));
        println!("{what}: {frames} frames in {} sessions, echoes took {took:?}", clients.len());
        assert!(frames > 20 * clients.len(), "{what}: only {frames} frames");
        assert!(took < SHORTEST_WAIT, "{what}: echoes took {took:?}");
        let (mut early, mut lost) = (Vec::new(), Vec::new());
        for (mut client, (second, sent)) in clients.into_iter().zip(last) {
            let within = Duration::from_secs(limit + 10);
            let (one, other) = tokio::join!(client.busy.cut(within), client.silent.cut(within));
            let record = redis.session(&client.token).await;
            let idle = one.min(other) - sent;
            if idle <= Duration::from_secs(limit) {
                early.push(format!("{} after {idle:?}: {record:?}", client.token));
            }
            if record["last_activity"].parse::<u64>().unwrap() < second {
                lost.push(format!("{}: {record:?}, but there was some at {second}", client.token));
            }
            assert_eq!(record["reason"], "idle", "{what}: {record:?}");
        }
        assert!(early.is_empty() && lost.is_empty(), "{what}: cut early: {early:#?}; lost: {lost:#?}");
    }
}
