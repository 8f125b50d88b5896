//! Servers that stand in for each other: a master with replicas that Sentinels watch, and a cluster.

use super::{Redis, eventually, soon};
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, Value};
use std::collections::HashMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// Ports of the system's choice, each kept until its server is about to take it: peers must know them before.
struct Ports(Vec<Option<TcpListener>>);

impl Ports {
    fn keep<const N: usize>() -> (Self, [u16; N]) {
        let doors: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let numbers = std::array::from_fn(|at| doors[at].local_addr().unwrap().port());
        (Self(doors.into_iter().map(Some).collect()), numbers)
    }

    fn give(&mut self, port: u16) -> String {
        let kept =
            |door: &Option<TcpListener>| door.as_ref().is_some_and(|door| door.local_addr().unwrap().port() == port);
        *self.0.iter_mut().find(|door| kept(door)).unwrap() = None;
        port.to_string()
    }
}

fn addresses(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

/// A server that can also be reached by TCP, as its peers and idlegate need.
fn server(port: &str, more: &[&str]) -> Redis {
    let mut arguments = vec!["--port", port, "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"];
    arguments.extend_from_slice(more);
    Redis::start_with(&arguments)
}

/// One who watches a master; ended when dropped.
pub struct Sentinel {
    pub port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Sentinel {
    fn start(doors: &mut Ports, port: u16, master: u16, quorum: u8, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sentinel.conf");
        // Less than 1.5 s, and Sentinels take the promoted one for dead before they have connected to it.
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n{more}sentinel monitor main 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds main 1500\nsentinel failover-timeout main 3000\n",
            folder.path().display()
        );
        std::fs::write(&file, text).unwrap();
        doors.give(port);
        let mut command = Command::new(Redis::program());
        let child = command.arg(file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Self { port, child, _folder: folder }
    }

    /// The only one, which speaks to its server in TLS.
    pub fn in_tls(master: u16, files: &[(&str, String)]) -> Self {
        let (mut doors, [port]) = Ports::keep();
        let files = files.iter().map(|(name, file)| format!("{} {file}\n", name.trim_start_matches("--")));
        Self::start(&mut doors, port, master, 1, &format!("tls-replication yes\n{}", files.collect::<String>()))
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let asking = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
        };
        let late = |_| Err(RedisError::from((ErrorKind::Io, "no answer")));
        tokio::time::timeout(super::PATIENCE, asking).await.unwrap_or_else(late)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A master, two replicas of it, and three Sentinels.
pub struct Sentinels {
    pub servers: Vec<Redis>,
    server_ports: [u16; 3],
    watchers: Vec<Sentinel>,
}

impl Sentinels {
    /// The first server is the master.
    pub async fn start() -> Self {
        let (mut doors, ports) = Ports::keep::<6>();
        let (server_ports, sentinel_ports) = ([ports[0], ports[1], ports[2]], &ports[3..]);
        let master = server_ports[0];
        let replica = ["--replicaof", "127.0.0.1", &master.to_string()];
        let servers = server_ports.map(|port| {
            let more: &[&str] = if port == master { &[] } else { &replica };
            server(&doors.give(port), more)
        });
        let watchers = sentinel_ports.iter().map(|port| Sentinel::start(&mut doors, *port, master, 2, ""));
        let all = Self { servers: servers.into(), server_ports, watchers: watchers.collect() };
        all.are_ready().await;
        all
    }

    /// A failover needs replicas that are in step, and Sentinels that know of them and of each other.
    async fn are_ready(&self) {
        eventually("replicas and Sentinels to find each other", async || {
            let in_step: String = self.servers[0].ask("INFO replication").await;
            let mut ready = in_step.matches("state=online").count() == 2;
            for sentinel in &self.watchers {
                let said: RedisResult<Vec<HashMap<String, String>>> = sentinel.ask(&["SENTINEL", "MASTERS"]).await;
                ready &= said.is_ok_and(|masters| {
                    let of = |field: &str| masters[0].get(field).cloned().unwrap_or_default();
                    (of("num-slaves"), of("num-other-sentinels"), of("flags"))
                        == ("2".to_owned(), "2".to_owned(), "master".to_owned())
                });
            }
            ready
        })
        .await;
    }

    /// As `[store] url` says it.
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// The same, for one of the servers' databases.
    pub fn url_of(&self, database: u8) -> String {
        let ports: Vec<_> = self.watchers.iter().map(|sentinel| sentinel.port).collect();
        format!("redis+sentinel://{}/main/{database}", addresses(&ports))
    }

    /// The replica that was promoted.
    pub async fn promoted(&self) -> &Redis {
        for replica in &self.servers[1..] {
            if replica.ask::<String>("INFO replication").await.contains("role:master") {
                return replica;
            }
        }
        panic!("no replica was promoted");
    }

    /// From now on the replicas get nothing that the master receives.
    pub async fn part(&self) {
        for replica in &self.servers[1..] {
            replica.ask::<()>("CONFIG SET masterauth no-such-password").await;
        }
        self.servers[0].ask::<Value>("CLIENT KILL TYPE replica").await;
        eventually("the replicas to be parted", async || {
            let left: String = self.servers[0].ask("INFO replication").await;
            left.contains("connected_slaves:0")
        })
        .await;
    }

    /// From now on the Sentinels take one of the replicas for the master, and the old one does not know.
    pub async fn change_their_mind(&self) -> &Redis {
        let (replica, port) = (&self.servers[1], self.server_ports[1].to_string());
        replica.ask::<()>("REPLICAOF NO ONE").await;
        for sentinel in &self.watchers {
            sentinel.ask::<()>(&["SENTINEL", "REMOVE", "main"]).await.unwrap();
            sentinel.ask::<()>(&["SENTINEL", "MONITOR", "main", "127.0.0.1", &port, "2"]).await.unwrap();
        }
        replica
    }

    /// From now on the servers want one password and the Sentinels another.
    pub async fn want_passwords(&mut self, servers: &str, sentinels: &str) {
        for server in &mut self.servers {
            server.ask::<()>(&format!("CONFIG SET masterauth {servers}")).await;
            server.change_password(servers).await;
        }
        for sentinel in &self.watchers {
            sentinel.ask::<()>(&["SENTINEL", "SET", "main", "auth-pass", servers]).await.unwrap();
            let password = format!(">{sentinels}");
            sentinel.ask::<()>(&["ACL", "SETUSER", "default", "resetpass", &password]).await.unwrap();
        }
    }

    /// Ends one of the Sentinels.
    pub fn kill_sentinel(&mut self) {
        self.watchers.pop();
    }
}

/// Three nodes that share the slots, and one that stands in for the one of them that has our keys.
pub struct Cluster {
    pub nodes: Vec<Redis>,
    ports: [u16; 4],
    /// Which node has the slot of our keys.
    pub owner: usize,
}

/// Whose slots these are, by the first and the last.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

impl Cluster {
    pub const STAND_IN: usize = 3;

    pub async fn start() -> Self {
        let (mut doors, all) = Ports::keep::<8>();
        let (ports, buses) = ([all[0], all[1], all[2], all[3]], &all[4..]);
        let start = |(port, bus): (&u16, &u16)| {
            let (port, bus) = (doors.give(*port), doors.give(*bus));
            let more = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1000"];
            server(&port, &more)
        };
        let nodes: Vec<_> = ports.iter().zip(buses).map(start).collect();
        let slot: u16 = nodes[0].ask("CLUSTER KEYSLOT {idlegate}:replicas").await;
        for (node, (first, last)) in nodes.iter().zip(SLOTS) {
            node.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
        }
        for (port, bus) in ports.iter().zip(buses).skip(1) {
            nodes[0].ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).await;
        }
        let owner = SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap();
        let cluster = Self { nodes, ports, owner };
        cluster.all_say(&["cluster_state:ok", "cluster_known_nodes:4"]).await;
        let id: String = cluster.nodes[owner].ask("CLUSTER MYID").await;
        let stand_in = &cluster.nodes[Self::STAND_IN];
        soon("the stand-in to know whom it stands in for", async {
            while stand_in.try_ask::<()>(&format!("CLUSTER REPLICATE {id}")).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        eventually("the stand-in to be in step", async || {
            stand_in.ask::<String>("INFO replication").await.contains("master_link_status:up")
        })
        .await;
        cluster
    }

    async fn all_say(&self, lines: &[&str]) {
        for node in &self.nodes {
            eventually("the nodes to find each other", async || {
                let info: String = node.ask("CLUSTER INFO").await;
                lines.iter().all(|line| info.contains(line))
            })
            .await;
        }
    }

    /// As `[store] url` says it.
    pub fn url(&self) -> String {
        format!("redis+cluster://{}", addresses(&self.ports[..3]))
    }
}
