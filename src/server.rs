//! Accepting connections, and speaking HTTP on them.

use crate::clock::{Clock, epoch_milliseconds};
use crate::config::{Config, Store as StoreConfig};
use crate::keeper::{Keeper, Switch};
use crate::proxy::{Client, HEADERS_AT_MOST, Proxy, Stream};
use crate::shutdown::Shutdown;
use crate::store::{FileStore, MemoryStore, RedisStore, Store};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may stay open without a request, and how long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How large the head of a request may be, in bytes.
const HEAD_AT_MOST: usize = 64 * 1024;

/// How long accepting pauses when the system has no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A proxy that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    config: Config,
    keeper: Arc<Keeper>,
}

impl Server {
    /// Opens the store and begins to listen. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// Where the address of `listen` cannot be had, or the store cannot be opened.
    pub async fn bind(config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let clock = Clock::system();
        let epoch = epoch_milliseconds();
        let store: Box<dyn Store> = match &config.store {
            StoreConfig::Memory => Box::new(MemoryStore::new(config.idle, clock.clone(), epoch)),
            StoreConfig::Redis(settings) => {
                Box::new(RedisStore::new(settings.clone(), config.idle, clock.clone()).map_err(io::Error::other)?)
            }
            StoreConfig::File(path) => {
                Box::new(FileStore::open(path, config.idle, clock.clone(), epoch).map_err(io::Error::other)?)
            }
        };
        let keeper = Keeper::new(store, clock, config.idle.timeout, config.max_sessions).dealing(config.dealings);
        keeper.switch(Switch::File, config.mode, None);
        Ok(Self { listener, config, keeper: Arc::new(keeper) })
    }

    /// The address it listens on; where `listen` had port 0, with the port that the system chose.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The sessions.
    #[must_use]
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Serves until `shutdown` begins. Connections that are left then are `shutdown`'s to wait for, and the keeper's
    /// last round comes after them.
    pub async fn run(self, shutdown: &Shutdown) {
        let Self { listener, config, keeper } = self;
        let proxy = Arc::new(Proxy::new(config, Arc::clone(&keeper), shutdown.clone()));
        tokio::select! {
            () = keeper.keep() => {}
            () = keeper.listen() => {}
            () = accept(listener, proxy, shutdown.clone()) => {}
        }
    }
}

/// Accepts connections until stopping begins. Nothing that a client does ends or delays this loop.
pub(crate) async fn accept(listener: TcpListener, proxy: Arc<Proxy>, shutdown: Shutdown) {
    let mut pausing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        match accepted {
            Ok((socket, address)) => {
                pausing = false;
                shutdown.spawn(serve(socket, address, Arc::clone(&proxy), shutdown.clone()));
            }
            // The client went before it was served. Nothing is wrong here.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Out of file descriptors, most likely: once said, and tried again when some may have been closed.
                if !std::mem::replace(&mut pausing, true) {
                    tracing::error!(%error, "no connection can be accepted; raise the limit of open files (ulimit -n)");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Speaks HTTP/1.1 with one client until it leaves, upgrades, or is cut.
async fn serve(socket: TcpStream, address: SocketAddr, proxy: Arc<Proxy>, shutdown: Shutdown) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the client went at once");
        return;
    }
    let client = Client::at(address);
    let kill = client.kill.clone();
    let service = service_fn(move |request| {
        let (proxy, client) = (Arc::clone(&proxy), client.clone());
        async move { Ok::<_, Infallible>(proxy.exchange(client, request).await) }
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(HEADERS_AT_MOST)
        .max_header_size(HEAD_AT_MOST)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(Stream::Tcp(socket)), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = kill.cancelled() => return,
        () = shutdown.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a client's connection ended");
    }
}
