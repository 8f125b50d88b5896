//! What stands between a replica and its Redis server.

use super::Redis;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// Another way to a server, which may be long, and can be cut off.
pub struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    /// How often all connections were ended.
    drops: watch::Sender<u64>,
}

impl Way {
    /// One on which every message takes so long in either direction.
    pub async fn to(redis: &Redis, delay: Duration) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, socket) = (door.local_addr().unwrap(), redis.socket());
        let (is_open, watched) = watch::channel(true);
        let drops = watch::Sender::new(0);
        let dropping = drops.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = door.accept().await {
                let (mut open, mut dropped) = (watched.clone(), dropping.subscribe());
                let Ok(server) = UnixStream::connect(&socket).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(async move {
                    tokio::select! {
                        // The way is gone with its test.
                        _ = open.wait_for(|open| !*open) => {}
                        _ = dropped.changed() => {}
                        _ = async { tokio::join!(carry(from_client, to_server, delay), carry(from_server, to_client, delay)) } => {}
                    }
                });
            }
        });
        Self { address, is_open, drops }
    }

    /// As `[store] url` says it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends all connections, and all that are made from now on.
    pub fn cut_off(&self) {
        self.is_open.send_replace(false);
    }

    /// Ends all connections. New ones can be made at once.
    pub fn drop_connections(&self) {
        self.drops.send_modify(|drops| *drops += 1);
    }

    pub fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

/// Passes bytes on, each after so long.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let reading = async move {
        let mut chunk = vec![0; 65536];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            sender.send((tokio::time::Instant::from_std(Instant::now()) + delay, chunk[..count].to_vec())).unwrap();
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reading, writing);
}
