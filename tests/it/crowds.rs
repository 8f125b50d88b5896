//! More clients at once than expected.

use crate::harness::{Recorder, Request, Wire, eventually, soon};
use crate::http::{get, plain};
use std::time::Duration;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_are_served_at_once() {
    let app = Recorder::with(|_| OK.to_owned()).await;
    let proxy = plain(&app.upstream());
    let clients = (0..500).map(|_| async {
        let mut client = Wire::connect(proxy.address).await;
        for _ in 0..5 {
            assert_eq!(client.ask(get("/", "")).await.text(), "ok");
        }
    });
    soon("2500 answers", futures_util::future::join_all(clients)).await;
    assert_eq!(app.got().len(), 2500);
    eventually("the connections to be closed", async || proxy.open_files() < 600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_file_descriptors_passes() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let app = Recorder::answering(OK).await;
    let proxy = plain(&app.upstream());
    let pid = Pid::from_raw(i32::try_from(proxy.pid()).unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Wire::connect(proxy.address).await);
    }
    eventually("the log line of it", async || proxy.logged("ulimit -n").len() == 1).await;
    // Other listeners are not affected: an orchestrator would restart the Pod, and an operator could not drain it.
    for _ in 0..5 {
        assert_eq!(Request::get(proxy.health(), "/healthz").send().await.status, 200);
        assert_eq!(Request::get(proxy.admin(), "/mode").send().await.status, 200);
    }
    drop(crowd);
    let served = async {
        loop {
            let mut client = Wire::connect(proxy.address).await;
            client.send(get("/", "Connection: close\r\n")).await;
            if client.rest().await.ends_with(b"\r\n\r\nok") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("an answer", served).await;
    assert_eq!(proxy.logged("ulimit -n").len(), 1);
}
