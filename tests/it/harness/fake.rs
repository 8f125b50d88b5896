//! An app that does what no real one would be brought to do.

use super::Wire;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// A faked app; ended when dropped. What panics in it fails the test.
pub struct Fake {
    pub address: SocketAddr,
    failures: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl Fake {
    /// Serves each connection by `serve`, which gets its number (from 0) and the connection.
    pub async fn start<F, S>(serve: S) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(usize, Wire) -> F + Send + 'static,
    {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), serve)
    }

    /// The same, on a port that the test chose.
    pub fn start_on<F, S>(listener: TcpListener, serve: S) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(usize, Wire) -> F + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let failures = Arc::new(Mutex::new(Vec::new()));
        let failed = Arc::clone(&failures);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        connections.spawn(serve(number, Wire::new(stream)));
                        number += 1;
                    }
                    Some(Err(error)) = connections.join_next() => failed.lock().unwrap().push(error.to_string()),
                }
            }
        });
        Self { address, failures, accepting: accepting.abort_handle() }
    }

    /// As idlegate's `upstream` says it.
    pub fn upstream(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// An app that accepts no connection and refuses none: its backlog is full.
pub struct Deaf {
    address: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl Deaf {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(Ok(connected)) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
            backlog.push(connected);
        }
        Self { address, _listener: listener, _backlog: backlog }
    }

    /// As idlegate's `upstream` says it.
    pub fn upstream(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
        let failures = self.failures.lock().unwrap();
        if !std::thread::panicking() {
            assert!(failures.is_empty(), "in the faked app: {failures:#?}");
        }
    }
}
