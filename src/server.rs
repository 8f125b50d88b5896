//! Accepting connections, and speaking HTTP on them.

use crate::accept::Accepting;
use crate::address::Listen;
use crate::admin::{Access, Api, Health, Listener};
use crate::clock::{Clock, boot_id, epoch_milliseconds};
use crate::config::{Config, Current};
use crate::listen::{StartError, beside, clients, operators};
use crate::metrics::Metrics;
use crate::proxy::{Client, Downstream, MAX_BUFFERED_BYTES, Proxy, causes};
use crate::registry::{Registry, Services};
use crate::replica;
use crate::shutdown::Shutdown;
use crate::sock_diag::SockDiag;
use crate::store::{EndsBound, FileStore, MemoryStore, RedisStore, Store, StoreSettings};
use crate::stream::prepare;
use crate::systemd::HandedOver;
use http::{Request, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long a connection may stay open without a request, and how long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How many ended sessions a memory or file store remembers for each live one of `max_sessions`.
const ENDS_FOR_A_SESSION: usize = 10;

/// How long a client may still take to send its first request, once idle connections close.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How large the head of a request may be, in bytes.
const MAX_HEAD_BYTES: usize = MAX_BUFFERED_BYTES;

/// A proxy that listens.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    health: Option<Listener>,
    admin: Option<(Listener, Access)>,
    config: Config,
    current: Current,
    registry: Arc<Registry>,
    shutdown: Shutdown,
    system: SockDiag,
}

impl Server {
    /// Opens the store and begins to listen, where no socket was handed over for that. Connections wait until
    /// [`Server::run`].
    ///
    /// # Errors
    /// Where an address cannot be had or a socket that was handed over cannot be used, the token of operators cannot be
    /// read or is missing, or the store cannot be opened.
    pub async fn bind(config: Config, handed_over: HandedOver) -> Result<Self, StartError> {
        let listener = clients(&config, handed_over.listen).await?;
        let health = beside("`health.listen`", config.health.as_ref(), handed_over.health).await?;
        let admin = operators(config.admin.as_ref(), handed_over.admin).await?;
        let metrics = Arc::<Metrics>::default();
        let replica = replica::new_name();
        let clock = Clock::system();
        let epoch = epoch_milliseconds();
        let bound =
            EndsBound { max: config.max_sessions.saturating_mul(ENDS_FOR_A_SESSION), metrics: metrics.store.clone() };
        let store: Box<dyn Store> = match &config.store {
            StoreSettings::Memory => Box::new(MemoryStore::new(config.idle, clock.clone(), epoch).bounded(bound)),
            StoreSettings::Redis(settings) => {
                let store = RedisStore::new(settings.clone(), config.idle, clock.clone());
                let store = store.map_err(StartError::store)?;
                Box::new(store.named(replica.clone()).with_ids(&config.ids).with_metrics(metrics.store.clone()))
            }
            StoreSettings::File(path) => Box::new(
                FileStore::open(path, config.idle, clock.clone(), epoch, boot_id())
                    .map_err(StartError::store)?
                    .bounded(bound),
            ),
        };
        let services = Services::new(store, clock, config.idle)
            .with_exchange(config.exchange)
            .named(replica)
            .with_metrics(metrics)
            .with_ignore_rules(config.ignore.iter().map(|rule| rule.name.clone()).collect());
        let registry = Registry::new(services, config.max_sessions);
        registry.modes.set_initial(config.reloadable.mode);
        let current = Current::new(config.reloadable.clone());
        let shutdown = Shutdown::new(registry.clock().clone(), current.clone(), Arc::clone(registry.metrics()));
        let (registry, system) = (Arc::new(registry), SockDiag::open());
        Ok(Self { listener, health, admin, config, current, registry, shutdown, system })
    }

    /// The address it listens on; where `listen` had port 0, with the port that the system chose.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where health and metrics are served, if anywhere.
    ///
    /// # Errors
    /// The system's.
    pub fn health_address(&self) -> io::Result<Option<Listen>> {
        self.health.as_ref().map(Listener::address).transpose()
    }

    /// Where operators ask and switch, if anywhere.
    ///
    /// # Errors
    /// The system's.
    pub fn admin_address(&self) -> io::Result<Option<Listen>> {
        self.admin.as_ref().map(|(listener, _)| listener.address()).transpose()
    }

    /// The sessions.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What ends it.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// What an edit of the configuration changes.
    #[must_use]
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Serves until it is stopped, all work has finished or used up its time, and the store has the last report. Health
    /// and the admin API answer until the process ends.
    pub async fn run(self) {
        let Self { listener, health, admin, config, current, registry, shutdown, system } = self;
        if let Some((listener, access)) = admin {
            tokio::spawn(Api::new(Arc::clone(&registry), access, shutdown.clone()).serve(listener));
        }
        if let Some(listener) = health {
            tokio::spawn(Health::new(Arc::clone(registry.metrics()), shutdown.clone()).serve(listener));
        }
        registry.exchange.first_report().await;
        let proxy = Arc::new(Proxy::new(config, current, Arc::clone(&registry), shutdown.clone(), system));
        // Biased: a client that was accepted in the moment of the stop is one of those that are waited for.
        let serving = async { tokio::join!(biased; accept(listener, proxy, shutdown.clone()), shutdown.conduct()) };
        // The registry's rounds go on to the end: sessions are cut in a drain too, and other replicas wait for this
        // one's reports.
        let enough = CancellationToken::new();
        let mut keeping = pin!(registry.exchange.run_rounds(&enough));
        let left = tokio::select! {
            ((), left) = serving => left,
            () = &mut keeping => 0,
            never = registry.listen() => match never {},
        };
        enough.cancel();
        let last = async {
            keeping.await;
            registry.exchange.last_round().await;
        };
        if shutdown.before_the_end(last).await.is_err() {
            tracing::error!(
                "the store did not accept the last report in time; activity and ends that it does not \
            know are lost"
            );
        }
        registry.metrics().log_stopped(left);
    }
}

/// Accepts connections until idlegate is to stop. Nothing that a client does ends or delays this loop.
async fn accept(listener: TcpListener, proxy: Arc<Proxy>, shutdown: Shutdown) {
    let mut accepting = Accepting::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        if let Some((socket, address)) = accepting.take(accepted).await {
            tokio::select! {
                // Where there is room, also a client that was accepted in the moment of the stop is served: it would not
                // send its request again on another connection.
                biased;
                () = accepting.wait_for_room(&socket) => {}
                () = shutdown.stopping() => return,
            }
            shutdown.spawn_connection(serve(socket, address, Arc::clone(&proxy), shutdown.clone()));
        }
    }
}

/// Speaks HTTP/1.1 with one client until it leaves, upgrades, or is cut.
async fn serve(socket: TcpStream, address: SocketAddr, proxy: Arc<Proxy>, shutdown: Shutdown) {
    let local = match prepare(&socket).and_then(|()| socket.local_addr()) {
        Ok(local) => local,
        Err(error) => return tracing::debug!(%error, "the client went at once"),
    };
    let _counted = proxy.metrics().connection();
    let client = Client::new(address, local);
    let (kill, line) = (client.kill.clone(), Arc::clone(&client.line));
    let downstream = Downstream::new(socket, proxy.current().clone(), Arc::clone(&line));
    let used = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        used.store(true, Ordering::Relaxed);
        let (proxy, client, under_way) = (Arc::clone(&proxy), client.clone(), shutdown.request());
        // Boxed: a connection that waits for its next request does not carry the room that an exchange takes.
        Box::pin(async move {
            let (old, line) = (request.version() == Version::HTTP_10, Arc::clone(&client.line));
            let answer = proxy.exchange(client, request).await;
            // It knows no chunks: without a length the answer ends with the connection.
            let with_connection = old && !answer.headers().contains_key(header::CONTENT_LENGTH);
            Ok::<_, Infallible>(answer.map(|body| line.answer(body, with_connection, under_way)))
        })
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFERED_BYTES)
        // A client that has left is still noticed, see `Downstream`.
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(downstream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = kill.cancelled() => return line.reset(),
        () = shutdown.closing() => {
            // A client repeats its request if a reused connection was closed. On a new one it would not: its first
            // request is waited for, but not as long as a client may take that never sends all of it.
            let new = !used.load(Ordering::Relaxed);
            let first = tokio::time::timeout(if new { FIRST_REQUEST } else { Duration::ZERO }, &mut connection).await;
            match first {
                Ok(served) => served,
                Err(_) if used.load(Ordering::Relaxed) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
                Err(_) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = causes(&error), "a client's connection ended");
    }
}
