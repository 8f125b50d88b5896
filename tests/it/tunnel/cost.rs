//! What tunnels cost: nothing that stays, and next to nothing while nothing moves.

use crate::harness::{Ends, TEXT, Wire, eventually, masked};
use std::time::Duration;

/// The processor time that a process has used, in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The memory that a process has of its own, in KiB.
fn own_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn open_many(ends: &mut Ends, count: usize) -> Vec<(Wire, Wire)> {
    let mut tunnels = Vec::new();
    for number in 0..count {
        tunnels.push(ends.open_as(&number.to_string(), "/ws").await);
    }
    tunnels
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tunnels_come_and_go_without_a_trace() {
    let mut ends = Ends::start().await;
    let before = ends.proxy.open_files();
    for number in 0..1000 {
        let path = if number % 2 == 0 { "/ws" } else { "/plain" };
        let (mut client, mut app) = ends.open(path, "").await;
        client.send(masked(TEXT, b"hello")).await;
        assert_eq!(app.frame().await.1, b"hello");
        if number % 3 == 0 { drop(app) } else { drop(client) }
    }
    eventually("all sockets to be closed", async || ends.proxy.open_files() <= before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_tunnels_do_no_work_and_need_little_memory() {
    let mut ends = Ends::start().await;
    let warm = open_many(&mut ends, 50).await;
    let (before, files) = (own_memory(ends.proxy.pid()), ends.proxy.open_files());
    let tunnels = open_many(&mut ends, 400).await;
    eventually("the handshakes to be done with", async || ends.proxy.open_files() == files + 2 * 400).await;
    eventually("what the handshakes left to do to be done", async || {
        let used = ticks(ends.proxy.pid());
        tokio::time::sleep(Duration::from_millis(500)).await;
        ticks(ends.proxy.pid()) - used <= 1
    })
    .await;
    let each = own_memory(ends.proxy.pid()).saturating_sub(before) * 1024 / 400;
    let used = ticks(ends.proxy.pid());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = ticks(ends.proxy.pid()) - used;
    eprintln!("an idle tunnel has {each} bytes; 450 of them used {used} ticks in 3 s");
    assert!(used <= 3, "{used} ticks of 10 ms in 3 s, for {} idle tunnels", tunnels.len() + warm.len());
    // With its session, and with what the allocator loses to alignment. To the byte it is counted in tests/heap.
    assert!(each < 4000, "{each} bytes for each idle tunnel");
}
