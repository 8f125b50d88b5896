//! Another server takes over: no session is cut for that, nothing is delayed, and what it missed is reported again.

use crate::harness::{App, Cluster, Idlegate, Redis, Request, Sentinels, Tunnel, eventually, log_in, replica};
use idlegate::session::SessionId;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const QUIET: &[&str] = &["--ping", "600"];
const LIMIT: &str = "4s";

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Two replicas before one app, and what they keep there.
struct Fleet {
    app: App,
    url: String,
    replicas: [Idlegate; 2],
    /// `idlegate`, or in a cluster `{idlegate}`.
    prefix: &'static str,
}

impl Fleet {
    fn start(url: String, prefix: &'static str) -> Self {
        let app = App::start(QUIET);
        let replicas = std::array::from_fn(|_| replica(&app, &url, LIMIT, &[]));
        Self { app, url, replicas, prefix }
    }

    async fn log_out(&self, replica: usize, token: &str) {
        let request = Request::post(self.replicas[replica].address, "/api/logout");
        assert_eq!(request.json(&json!({"session_id": token})).send().await.status, 200);
    }

    async fn session(&self, server: &Redis, token: &str) -> BTreeMap<String, String> {
        server.hash(&format!("{}:session:{}", self.prefix, SessionId::of_token(token.as_bytes()))).await
    }

    async fn are_refused(&self, tokens: &[&str]) {
        let mut late = replica(&self.app, &self.url, LIMIT, &[]);
        for (number, proxy) in self.replicas.iter().chain([&late]).enumerate() {
            for token in tokens {
                let opened = Tunnel::try_open(proxy.address, token).await;
                assert!(opened.is_err(), "revived on replica {number}: {}", proxy.whole_log());
            }
        }
        assert!(late.stop().await.success());
    }

    /// Traffic goes on until both replicas have found the server that took over. Says how long that took.
    async fn finds_the_new_server(&self, busy: &mut Tunnel) -> Duration {
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while self.replicas.iter().any(|proxy| proxy.logged("the store is back").is_empty()) {
            longest = longest.max(busy.busy_for(seconds(0.2)).await);
            assert!(begun.elapsed() < seconds(20.0), "nobody took over: {}", self.replicas[0].whole_log());
        }
        println!("found the new server after {:?}; the longest echo took {longest:?}", begun.elapsed());
        // A request that waits for the store waits for a second.
        assert!(longest < seconds(0.9), "an echo took {longest:?}");
        begun.elapsed()
    }

    /// The log lines of this end, on each replica.
    fn cuts(&self, token: &str) -> [usize; 2] {
        let id = SessionId::of_token(token.as_bytes()).to_string();
        let lines = |proxy: &Idlegate| proxy.logged("reason=idle").iter().filter(|line| line.contains(&id)).count();
        [lines(&self.replicas[0]), lines(&self.replicas[1])]
    }

    /// One line when the store went and one when it came back, and no session ended early.
    async fn has_logged_once(&self) {
        for proxy in &self.replicas {
            for (line, times) in
                [("until it is back", 1), ("the store is back", 1), ("clock was stepped", 0), ("struck off", 0)]
            {
                proxy.has_logged(line, times).await;
            }
        }
    }

    /// After the last frame of `busy`, the session is over on both replicas, by one decision.
    async fn is_cut_once(&self, server: &Redis, token: &str, busy: &mut Tunnel, watching: &mut Tunnel) {
        busy.echo().await;
        let last = Instant::now();
        let (one, other) = tokio::join!(busy.cut(seconds(12.0)), watching.cut(seconds(12.0)));
        let (first, second) = (one.min(other) - last, one.max(other) - last);
        assert!(first > seconds(4.0) && first < seconds(6.0), "cut after {first:?}");
        assert!(second < first + seconds(1.0), "the other tunnel was cut after {second:?}, the first after {first:?}");
        eventually("both to log it", async || self.cuts(token).iter().all(|lines| *lines > 0)).await;
        assert_eq!(self.cuts(token), [1, 1]);
        assert_eq!(self.session(server, token).await["reason"], "idle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_redis_takes_over_without_a_cut() {
    let mut servers = Sentinels::start().await;
    let fleet = Fleet::start(servers.url(), "idlegate");
    let [one, two] = &fleet.replicas;
    let dead = log_in(one.address, "ada", "lovelace").await;
    fleet.log_out(0, &dead).await;
    let (left, late) = (log_in(two.address, "bob", "builder").await, log_in(two.address, "bob", "builder").await);
    let (mut busy, mut watching) = (Tunnel::open(one, "shared").await, Tunnel::open(two, "shared").await);
    busy.busy_for(seconds(2.0)).await;

    // One Sentinel less does not prevent finding the master.
    servers.kill_sentinel();
    // All marks are replicated, and an end after them is not.
    let marks = servers.servers[1].hash("idlegate:replicas").await;
    eventually("the next marks", async || servers.servers[1].hash("idlegate:replicas").await != marks).await;
    servers.part().await;
    fleet.log_out(1, &late).await;
    servers.servers[0].kill();
    busy.busy_for(seconds(1.0)).await;
    fleet.log_out(1, &left).await;
    let mut fresh = Tunnel::open(one, "fresh").await;
    fleet.finds_the_new_server(&mut busy).await;
    fresh.echo().await;
    // It comes back, believes for some seconds that it still is the master, and has forgotten everything.
    servers.servers[0].start_again();
    let promoted = servers.promoted().await;
    for token in [&dead, &left, &late] {
        eventually("the dead to be reported", async || fleet.session(promoted, token).await.contains_key("ended"))
            .await;
    }
    eventually("the new to be reported", async || !fleet.session(promoted, "fresh").await.is_empty()).await;
    busy.busy_for(seconds(2.0)).await;
    watching.stays_open_for(seconds(0.05)).await;
    fleet.has_logged_once().await;
    fleet.are_refused(&[&dead, &left, &late]).await;
    drop(fresh);
    fleet.is_cut_once(promoted, "shared", &mut busy, &mut watching).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_redis_gets_what_it_missed() {
    let mut servers = Sentinels::start().await;
    let fleet = Fleet::start(servers.url(), "idlegate");
    let [one, two] = &fleet.replicas;
    let left = log_in(two.address, "bob", "builder").await;
    let (mut busy, mut watching) = (Tunnel::open(one, "shared").await, Tunnel::open(two, "shared").await);
    let mut kept = Tunnel::open(two, "kept").await;
    eventually("all to be reported", async || {
        let told = async |token: &str| !fleet.session(&servers.servers[1], token).await.is_empty();
        told("shared").await && told(&left).await && told("kept").await
    })
    .await;

    servers.part().await;
    let parted = Instant::now();
    let mut fresh = Tunnel::open(one, "fresh").await;
    busy.busy_for(seconds(2.5)).await;
    kept.echo().await;
    fresh.echo().await;
    busy.busy_for(seconds(1.0)).await;
    fleet.log_out(1, &left).await;
    assert!(fleet.session(&servers.servers[0], &left).await.contains_key("ended"), "it was decided");
    servers.servers[0].kill();
    for replica in &servers.servers[1..] {
        assert!(!fleet.session(replica, &left).await.contains_key("ended"), "replicated all the same");
        assert!(fleet.session(replica, "fresh").await.is_empty(), "replicated all the same");
    }

    // By what the promoted server knows, every session is idle past its timeout.
    fleet.finds_the_new_server(&mut busy).await;
    let promoted = servers.promoted().await;
    eventually("the end to be reported", async || fleet.session(promoted, &left).await.contains_key("ended")).await;
    eventually("the new to be reported", async || !fleet.session(promoted, "fresh").await.is_empty()).await;
    assert!(parted.elapsed() > seconds(5.0), "too soon for a wrong cut");
    busy.busy_for(seconds(1.0)).await;
    watching.stays_open_for(seconds(0.05)).await;
    fleet.has_logged_once().await;
    fleet.are_refused(&[&left]).await;
    kept.cut(seconds(9.0)).await;
    let record = fleet.session(promoted, "kept").await;
    let [last, ended] = ["last_activity", "ended"].map(|field| record[field].parse::<u64>().unwrap());
    assert!(ended - last > 4, "its last frame came after the parting, and was lost: {record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_the_sentinels_gave_up_is_left_though_it_still_answers() {
    let servers = Sentinels::start().await;
    let fleet = Fleet::start(servers.url(), "idlegate");
    let [one, two] = &fleet.replicas;
    let (mut busy, mut watching) = (Tunnel::open(one, "shared").await, Tunnel::open(two, "shared").await);
    busy.busy_for(seconds(1.5)).await;
    let now = servers.change_their_mind().await;
    let activity = async || fleet.session(now, "shared").await["last_activity"].parse::<u64>().unwrap();
    let before = activity().await;
    let begun = Instant::now();
    while activity().await <= before + 2 || now.ask::<(String, u64)>("PUBSUB NUMSUB idlegate:ended").await.1 < 2 {
        busy.busy_for(seconds(0.1)).await;
        assert!(begun.elapsed() < seconds(10.0), "still with the old one: {}", one.whole_log());
    }
    watching.stays_open_for(seconds(0.05)).await;
    fleet.is_cut_once(now, "shared", &mut busy, &mut watching).await;
    assert!(one.logged("until it is back").is_empty(), "{}", one.whole_log());
}

#[tokio::test(flavor = "multi_thread")]
async fn fleets_in_two_databases_behind_the_same_sentinels_stay_apart() {
    let servers = Sentinels::start().await;
    let [ours, theirs] = [3, 0].map(|database| Fleet::start(servers.url_of(database), "idlegate"));
    let mut server = &servers.servers[0];
    for round in 0..2 {
        for channel in ["idlegate:ended:3", "idlegate:ended"] {
            let listeners = async || server.ask::<(String, u64)>(&format!("PUBSUB NUMSUB {channel}")).await.1;
            eventually("both replicas to listen", async || listeners().await == 2).await;
        }
        let token = log_in(ours.replicas[0].address, "ada", "lovelace").await;
        let mut there = Tunnel::open(&ours.replicas[1], &token).await;
        ours.log_out(0, &token).await;
        let ended = Instant::now();
        there.cut(seconds(5.0)).await;
        assert!(ended.elapsed() < seconds(1.0), "round {round}: heard of only after {:?}", ended.elapsed());
        // The next round reaches the promoted server.
        server = if round == 0 { servers.change_their_mind().await } else { server };
    }
    assert!(server.ask::<String>("INFO keyspace").await.contains("db3:"));
    let switch = Request::new(ours.replicas[0].admin(), http::Method::PUT, "/mode");
    assert_eq!(switch.json(&json!({"mode": "observe", "fleet": true})).send().await.status, 200);
    let mode = async |proxy: &Idlegate| Request::get(proxy.admin(), "/mode").send().await.json()["mode"].clone();
    let asked = Instant::now();
    eventually("the other to learn of it", async || mode(&ours.replicas[1]).await == "observe").await;
    assert!(asked.elapsed() < seconds(1.0), "{:?}", asked.elapsed());
    // More than a report later it is still theirs.
    let mut cut = Tunnel::open(&theirs.replicas[0], "theirs").await;
    cut.cut(seconds(9.0)).await;
    assert_eq!(mode(&theirs.replicas[1]).await, "enforce");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_marks_are_junk_is_found_and_mends_them() {
    let cluster = Cluster::start().await;
    let owner = &cluster.nodes[cluster.owner];
    owner.ask::<()>("SET {idlegate}:replicas junk").await;
    let fleet = Fleet::start(cluster.url(), "{idlegate}");
    let _tunnel = Tunnel::open(&fleet.replicas[0], "shared").await;
    eventually("the marks to be there", async || {
        owner.ask::<String>("TYPE {idlegate}:replicas").await == "hash"
            && !fleet.session(owner, "shared").await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_sessions_and_a_node_of_it_may_die() {
    let mut cluster = Cluster::start().await;
    let fleet = Fleet::start(cluster.url(), "{idlegate}");
    let [one, two] = &fleet.replicas;
    let (dead, left) = (log_in(one.address, "ada", "lovelace").await, log_in(two.address, "bob", "builder").await);
    let (mut busy, mut watching) = (Tunnel::open(one, "shared").await, Tunnel::open(two, "shared").await);
    let mut there = Tunnel::open(two, &dead).await;
    busy.busy_for(seconds(2.0)).await;
    fleet.log_out(0, &dead).await;
    let ended = Instant::now();
    there.cut(seconds(5.0)).await;
    assert!(ended.elapsed() < seconds(1.0), "heard of only after {:?}", ended.elapsed());
    assert_eq!(fleet.session(&cluster.nodes[cluster.owner], &dead).await["reason"], "logout");

    let owner = cluster.owner;
    cluster.nodes[owner].kill();
    busy.busy_for(seconds(1.0)).await;
    fleet.log_out(1, &left).await;
    fleet.finds_the_new_server(&mut busy).await;
    let stand_in = &cluster.nodes[Cluster::STAND_IN];
    for token in [&dead, &left] {
        eventually("the dead to be reported", async || fleet.session(stand_in, token).await.contains_key("ended"))
            .await;
    }
    busy.busy_for(seconds(1.0)).await;
    watching.stays_open_for(seconds(0.05)).await;
    fleet.has_logged_once().await;
    fleet.are_refused(&[&dead, &left]).await;
    fleet.is_cut_once(stand_in, "shared", &mut busy, &mut watching).await;
}
