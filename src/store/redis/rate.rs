//! How fast the server's clock runs, as `idlegate doctor` measures it.

use super::call::Server;
use super::drift::{REPORTED, gained};
use crate::clock::microseconds;
use crate::finding::Finding;
use redis::RedisResult;
use std::time::Duration;

/// How long it is measured, in microseconds.
const MEASURED_OVER: u64 = 3_000_000;

/// How often the time is read at the beginning and at the end. The quickest answer says most.
const READINGS: usize = 5;

/// A reading of the server's clock, all in microseconds: its time, and when it was asked and answered by ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    server: u64,
    sent: u64,
    received: u64,
}

pub(super) async fn read_clock(server: &Server) -> RedisResult<Read> {
    let mut best: Option<Read> = None;
    for _ in 0..READINGS {
        let sent = microseconds();
        let time = server.connections.run(|_| redis::cmd("TIME")).await?;
        let (seconds, rest): (u64, u64) = redis::from_redis_value(time)?;
        let read = Read { server: seconds * 1_000_000 + rest, sent, received: microseconds() };
        best = Some(best.filter(|best| best.received - best.sent <= read.received - read.sent).unwrap_or(read));
    }
    best.ok_or_else(|| (redis::ErrorKind::Client, "the clock was not read").into())
}

/// Whether the server's clock has run at the rate of this host's since `from`, some seconds ago.
pub(super) async fn rate(server: &Server, from: Read) -> RedisResult<Finding> {
    let measured = microseconds().saturating_sub(from.received);
    tokio::time::sleep(Duration::from_micros(MEASURED_OVER.saturating_sub(measured))).await;
    Ok(finding(from, read_clock(server).await?))
}

fn finding(from: Read, to: Read) -> Finding {
    let (least, most) = (to.sent.saturating_sub(from.received), to.received.saturating_sub(from.sent));
    let millionths = gained(to.server.saturating_sub(from.server), least, most);
    if millionths.abs() <= REPORTED {
        return Finding::Good("its clock runs as fast as this host's, to within 0.1 %".to_owned());
    }
    let percent = millionths.unsigned_abs();
    let (whole, tenths) = (percent / 10_000, percent % 10_000 / 1_000);
    let faster = if millionths > 0 { "faster" } else { "slower" };
    Finding::wrong(
        format!("its clock runs {whole}.{tenths} % {faster} than this host's"),
        "check NTP on both hosts: sessions are not cut early by it, but may end later",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_at_another_rate_is_wrong_and_message_delay_is_not() {
        let read = |server, sent, received| Read { server, sent, received };
        let from = read(1_000_000, 500, 900);
        for (server, is_wrong) in
            [(4_000_000, false), (4_003_000, false), (4_004_000, true), (3_996_000, true), (4_150_000, true)]
        {
            assert_eq!(finding(from, read(server, 3_000_500, 3_000_900)).is_wrong(), is_wrong, "{server}");
        }
        // The answer took 200 ms.
        assert!(!finding(from, read(4_150_000, 3_000_500, 3_200_500)).is_wrong());
        let fast = finding(from, read(4_150_000, 3_000_500, 3_000_900));
        assert!(format!("{fast:?}").contains("4.9 % faster"), "{fast:?}");
    }
}
