//! What changes on the way through idlegate, beside nginx and `HAProxy`: name by name, with order and case. What idlegate
//! changes and neither of them does is meant, and stands here with its reason.

use crate::harness::{Fake, Idlegate, Wire, eventually, soon};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// A name, the fields of a request in their order, and the answer of the app.
type Case = (&'static str, &'static str, &'static str);

const OK: &str = "HTTP/1.1 200 OK\r\nServer: app\r\nDate: Thu, 26 Nov 2026 10:00:00 GMT\r\nContent-Length: 2\r\n\r\nok";

const CASES: &[Case] = &[
    ("plain", "GET /a HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-two: 2\r\nACCEPT: */*\r\n\r\n", OK),
    ("query and escapes", "GET /a%2Fb//c/../d?x=%20+y&&z HTTP/1.1\r\nHost: a\r\n\r\n", OK),
    ("repeated fields", "GET /a HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\n\r\n", OK),
    (
        "fields of one hop",
        "GET /a HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, keep-alive\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n",
        OK,
    ),
    ("proxy connection", "GET /a HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\nX-End: 2\r\n\r\n", OK),
    (
        "who the client is",
        "GET /a HTTP/1.1\r\nHost: a\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
        OK,
    ),
    ("underscores", "GET /a HTTP/1.1\r\nHost: a\r\nX_Plain: 1\r\nX_Real_IP: 6.6.6.6\r\nSCRIPT_NAME: /x\r\n\r\n", OK),
    ("an empty value", "GET /a HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-End: 2\r\n\r\n", OK),
    (
        "a body with a length",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
        OK,
    ),
    (
        "two cookies set",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Z: 1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "the app's own case",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-lower: 1\r\nX-UPPER: 2\r\nEtag: \"x\"\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "hops of an answer",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "not modified",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 2\r\n\r\n",
    ),
    ("no content", "GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"),
    (
        "an unknown phrase",
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HTTP/1.1 299 Odd Enough\r\nContent-Length: 2\r\n\r\nok",
    ),
];

/// What idlegate changes and neither of the others does: the case, the change, and why.
const MEANT: &[(&str, &str, &str)] = &[
    ("repeated fields", "request: order", "lines of one name stand together: that is how the http crate keeps them"),
    ("fields of one hop", "request: -x-hop", "what Connection names is for this hop only (RFC 9110 §7.6.1)"),
    ("proxy connection", "request: -proxy-connection", "it was never meant for the app (RFC 9110 §7.6.1)"),
    ("who the client is", "request: -forwarded", "apps may believe it, and the client is not in trusted_proxies"),
    ("who the client is", "request: -x-real-ip", "the same"),
    ("hops of an answer", "answer: -connection", "it is for the hop between idlegate and the app"),
    ("hops of an answer", "answer: -x-hop", "what Connection names is for one hop only"),
];

/// The lines of a head: the first, and the others as name and value.
fn lines(head: &str) -> (String, Vec<(String, String)>) {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let fields = lines.map(|line| line.split_once(':').unwrap_or((line, "")));
    (first, fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

/// How a head differs from the one that was sent: `-name`, `+name`, `~name` for another value, `case name`, `order`, `first
/// line`. Fields that a proxy adds of itself are compared by name alone.
fn changes(sent: &str, got: &str) -> BTreeSet<String> {
    let ((first, sent), (got_first, got)) = (lines(sent), lines(got));
    let lower = |fields: &[(String, String)]| -> Vec<String> {
        fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    };
    let values = |fields: &[(String, String)], wanted: &str| -> Vec<String> {
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.clone()).collect()
    };
    let (sent_names, got_names) = (lower(&sent), lower(&got));
    let mut changes = BTreeSet::new();
    for name in &sent_names {
        if !got_names.contains(name) {
            changes.insert(format!("-{name}"));
        } else if values(&sent, name) != values(&got, name) {
            changes.insert(format!("~{name}"));
        }
    }
    for name in got_names.iter().filter(|name| !sent_names.contains(name)) {
        changes.insert(format!("+{name}"));
    }
    let exact: BTreeSet<&str> = sent.iter().map(|(name, _)| name.as_str()).collect();
    for (name, _) in got.iter().filter(|(name, _)| sent_names.contains(&name.to_ascii_lowercase())) {
        if !exact.contains(name.as_str()) {
            changes.insert(format!("case {}", name.to_ascii_lowercase()));
        }
    }
    let common = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| others.contains(name)).cloned().collect()
    };
    if common(&sent_names, &got_names) != common(&got_names, &sent_names) {
        changes.insert("order".to_owned());
    }
    if first != got_first {
        changes.insert(format!("first line: {got_first}"));
    }
    changes
}

/// A proxy of another maker; ended when dropped.
struct Peer(Child, SocketAddr, #[expect(dead_code, reason = "removed with it")] tempfile::TempDir);

impl Peer {
    /// Starts it with this configuration, in which PORT, UPSTREAM and FOLDER stand for what they are.
    async fn start(program: &str, arguments: &[&str], config: &str, upstream: SocketAddr) -> Self {
        for _ in 0..5 {
            if let Some(peer) = Self::try_start(program, arguments, config, upstream).await {
                return peer;
            }
        }
        panic!("{program} does not start");
    }

    /// `None` where it ends at once: another process was given its port in the moment between.
    async fn try_start(program: &str, arguments: &[&str], config: &str, upstream: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = folder.path().join("config");
        let config = config.replace("PORT", &address.port().to_string()).replace("UPSTREAM", &upstream.to_string());
        std::fs::write(&file, config.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        let paths = [PathBuf::from("/usr/sbin").join(program), PathBuf::from("/usr/bin").join(program)];
        let path = paths.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
        let mut command = Command::new(path);
        command.args(arguments).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut peer = Self(command.spawn().unwrap(), address, folder);
        let mut is_alive = true;
        eventually(program, async || {
            is_alive = peer.0.try_wait().unwrap().is_none();
            !is_alive || tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        is_alive.then_some(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const NGINX: &str = "daemon off; master_process off; pid FOLDER/pid; error_log /dev/null; events {}
http {
    access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c;
    uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e;
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_pass http://UPSTREAM; proxy_http_version 1.1; proxy_set_header Host $http_host;
            proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto http; proxy_set_header X-Forwarded-Host $http_host;
        }
    }
}";

const HAPROXY: &str = "defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend f
    bind 127.0.0.1:PORT
    option forwardfor
    default_backend b
backend b
    server s UPSTREAM
";

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_transit_are_those_of_nginx_or_haproxy_or_intended() {
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let answer: Arc<Mutex<&'static str>> = Arc::new(Mutex::new(OK));
    let (seen, answering) = (Arc::clone(&got), Arc::clone(&answer));
    let app = Fake::start(move |_, mut wire| {
        let (seen, answering) = (Arc::clone(&seen), Arc::clone(&answering));
        async move {
            while let Some(head) = wire.next_head().await {
                let Some(message) = wire.with_body(head).await else { return };
                seen.lock().unwrap().push(message.head);
                let answer = *answering.lock().unwrap();
                wire.send(answer).await;
            }
        }
    })
    .await;
    let nginx = Peer::start("nginx", &["-c"], NGINX, app.address).await;
    let haproxy = Peer::start("haproxy", &["-db", "-f"], HAPROXY, app.address).await;
    let config = format!("upstream = {:?}\n[[token]]\nfrom = \"header\"\nname = \"x-token\"\n", app.upstream());
    let idlegate = Idlegate::start(&config);
    let (mut unmeant, mut met) = (Vec::new(), BTreeSet::new());
    for (case, request, reply) in CASES {
        *answer.lock().unwrap() = reply;
        let mut all = Vec::new();
        for address in [idlegate.address, nginx.1, haproxy.1] {
            let mut client = Wire::connect(address).await;
            client.send(request).await;
            let head = soon("an answer", client.head()).await;
            let at_app = got.lock().unwrap().pop().expect("the app got it");
            let to_app = changes(request.split_once("\r\n\r\n").unwrap().0, &at_app);
            let to_client = changes(reply.split_once("\r\n\r\n").unwrap().0, &head);
            let to_app = to_app.into_iter().map(|change| format!("request: {change}"));
            all.push(
                to_app.chain(to_client.into_iter().map(|change| format!("answer: {change}"))).collect::<BTreeSet<_>>(),
            );
        }
        for change in &all[0] {
            if all[1].contains(change) || all[2].contains(change) {
                continue;
            }
            let meant = MEANT.iter().find(|(name, meant, _)| (name == case || *name == "all") && meant == change);
            match meant {
                Some(entry) => drop(met.insert((entry.0, entry.1))),
                None => unmeant.push(format!("({case:?}, {change:?}, \"\"),")),
            }
        }
    }
    assert!(unmeant.is_empty(), "neither nginx nor HAProxy does:\n{}", unmeant.join("\n"));
    let all: BTreeSet<_> = MEANT.iter().map(|(case, change, _)| (*case, *change)).collect();
    assert_eq!(met, all, "what is meant does not happen any more");
}
