//! What tunnels take of the heap, counted by an allocator that counts. In a binary of its own, since a program has but
//! one allocator; idlegate runs inside of it, so all ends of all connections are sockets without buffers, or they would
//! be counted too.
// A test that unwraps fails where it should; its clock is the one on the wall.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use dhat::HeapStats;
use idlegate::config::{Config, Variables};
use idlegate::server::Server;
use idlegate::systemd::HandedOver;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

/// One test at a time: what is counted is the heap of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// At `/in-band`, messages are examined; at `/ignored`, they are compared with what is no activity.
const CONFIG: &str = r#"
listen = "127.0.0.1:0"
[idle]
timeout = "1h"
[[token]]
from = "header"
name = "x-token"
[[token]]
from = "ws-client"
paths = ["/in-band"]
pointer = "/session_id"
when = { "/cmd" = "authenticate" }
accept_when = { "/type" = "auth_success" }
[[ignore]]
from = "client"
paths = ["/ignored"]
text = ["Hello", "3"]
[[ignore]]
from = "server"
paths = ["/ignored"]
text = "2"
"#;

/// A text frame with the payload "Hello", of the app and of the client (RFC 6455 §5.7).
const FROM_APP: &[u8] = b"\x81\x05Hello";
const FROM_CLIENT: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";

/// idlegate, with an app behind it that is the test itself.
struct World {
    app: TcpListener,
    address: SocketAddr,
    _proxy: Runtime,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = format!("upstream = \"http://{}\"\n{CONFIG}", app.local_addr().unwrap());
        let config = Config::parse(&config, "proxy.toml", &Variables::default()).unwrap();
        let proxy = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = proxy.block_on(Server::bind(config, HandedOver::default())).unwrap();
        let address = server.address().unwrap();
        proxy.spawn(async move { server.run().await });
        Self { app, address, _proxy: proxy, _alone: alone }
    }

    /// A tunnel: the client's end and the app's.
    fn open(&self, path: &str, more: &str) -> [TcpStream; 2] {
        let mut client = TcpStream::connect(self.address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}\r\n");
        client.write_all(request.as_bytes()).unwrap();
        let (mut app, _) = self.app.accept().unwrap();
        take_head(&mut app);
        app.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            .unwrap();
        take_head(&mut client);
        for end in [&client, &app] {
            end.set_nodelay(true).unwrap();
            end.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        [client, app]
    }

    /// Many tunnels, each with something that no other has in its head.
    fn open_many(&self, path: &str, count: usize, more: impl Fn(usize) -> String) -> Vec<[TcpStream; 2]> {
        (0..count).map(|number| self.open(path, &more(number))).collect()
    }
}

fn take_head(stream: &mut TcpStream) {
    let mut last = [0; 4];
    while &last != b"\r\n\r\n" {
        last.rotate_left(1);
        stream.read_exact(&mut last[3..]).unwrap();
    }
}

/// A frame from one end arrives at the other.
fn pass(from: &mut TcpStream, to: &mut TcpStream, frame: &[u8]) {
    let mut arrived = [0; 32];
    let arrived = &mut arrived[..frame.len()];
    from.write_all(frame).unwrap();
    to.read_exact(arrived).unwrap();
    assert_eq!(arrived, frame);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// How many tunnels are opened to see what each takes. With those that are there before, three quarters of a power of
/// two: the tables of sessions are then neither just enlarged nor about to be.
const MANY: usize = 736;
const BEFORE: usize = 32;

/// What each of many idle tunnels takes of the heap, in bytes: of themselves, with their share of what is kept by session.
fn each_takes(path: &str, more: impl Fn(usize) -> String) -> usize {
    let world = World::start();
    let _before = world.open_many(path, BEFORE, |number| more(MANY + number));
    let _profiler = dhat::Profiler::builder().testing().build();
    let (files, bytes) = (open_files(), HeapStats::get().curr_bytes);
    let tunnels = world.open_many(path, MANY, more);
    // The test's own ends are files as well.
    assert_eq!(open_files() - files, 4 * MANY, "two file descriptors for each tunnel, and two for its peers");
    // The last handshakes may not be freed yet, and a round of the registry allocates for a moment.
    let started = Instant::now();
    let mut least = usize::MAX;
    while started.elapsed() < Duration::from_secs(2) {
        least = least.min(HeapStats::get().curr_bytes.saturating_sub(bytes) / MANY);
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("an idle tunnel at {path} takes {least} bytes of the heap");
    drop(tunnels);
    least
}

/// Half of it are the two sockets as tokio knows them, 256 bytes each. A release build takes some bytes less, for mio
/// adds to each socket what helps in debugging; all else is the same in both. A session keeps the last activity of each
/// source, and who came last.
#[test]
fn an_idle_tunnel_takes_about_a_kilobyte() {
    let token = |number| format!("x-token: {number}\r\n");
    let nobodys = each_takes("/plain", |_| String::new());
    assert!(nobodys <= 1280, "{nobodys} bytes for a tunnel without a session");
    let with_session = each_takes("/plain", token);
    assert!(with_session <= 1280 + 630, "{with_session} bytes for a tunnel with a session of its own");
    let examined = each_takes("/in-band", token);
    assert!(examined <= 1280 + 630 + 130, "{examined} bytes for a tunnel whose messages are examined as well");
    let compared = each_takes("/ignored", token);
    assert!(compared <= 1280 + 630 + 160, "{compared} bytes for a tunnel with rules of [[ignore]] for both sides");
}

/// What is counted are the registry's rounds, about one a second, and nothing else.
#[test]
fn frames_are_relayed_without_allocating() {
    const TOKEN: &str = "x-token: ada\r\n";
    let world = World::start();
    for (path, more) in [("/plain", ""), ("/plain", TOKEN), ("/in-band", TOKEN), ("/ignored", TOKEN)] {
        let [mut client, mut app] = world.open(path, more);
        let mut pass_a_hundred = || {
            for _ in 0..50 {
                pass(&mut client, &mut app, FROM_CLIENT);
                pass(&mut app, &mut client, FROM_APP);
            }
        };
        // What is kept from frame to frame is there after the first ones.
        pass_a_hundred();
        let _profiler = dhat::Profiler::builder().testing().build();
        let mut quiet = 0;
        for _ in 0..100 {
            let before = HeapStats::get();
            pass_a_hundred();
            let after = HeapStats::get();
            quiet += u64::from((after.total_blocks, after.total_bytes) == (before.total_blocks, before.total_bytes));
        }
        let blocks = HeapStats::get().total_blocks;
        eprintln!("{path} {more:?}: {blocks} blocks for 10,000 frames; {quiet} of 100 times none for a hundred");
        assert!(
            blocks < 100 && quiet > 50,
            "{blocks} blocks for 10,000 frames; {quiet} of 100 times none for a hundred"
        );
    }
}
