//! A small HTTP server for the `[admin]` and `[health]` listeners, on TCP or a Unix socket. It serves one request per
//! connection and bounds everything, so that load here cannot affect the app's clients.

use crate::accept::Accepting;
use crate::address::Listen;
use crate::stream::Stream;
use crate::systemd::Socket;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest request head, in bytes and in fields.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// The limits of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenerLimits {
    /// The largest number of connections.
    pub(crate) connections: usize,
    /// How long a connection may last, up to the last byte of its response.
    pub(crate) life: Duration,
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A listening Unix socket. Its file is removed on drop, unless the service manager made it.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    listener: UnixListener,
    file: Box<Path>,
    handed_over: bool,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        // If this fails, the next bind finds a dead socket and removes it.
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Listener {
    /// Binds and listens. Connections queue until [`Listener::serve`].
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(crate) async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Listen::Unix(path) => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                Ok(Self::Unix(UnixSocket { listener, file: path.as_path().into(), handed_over: false }))
            }
        }
    }

    /// A socket that the service manager passed in.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn handed_over(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(listener) => TcpListener::from_std(listener).map(Self::Tcp),
            Socket::Unix(listener) => {
                let address = listener.local_addr()?;
                let file = address.as_pathname().unwrap_or(Path::new("")).into();
                Ok(Self::Unix(UnixSocket { listener: UnixListener::from_std(listener)?, file, handed_over: true }))
            }
        }
    }

    /// The address. If the configured port was 0, it has the port that the system chose.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(socket) => Ok(Listen::Unix(socket.file.to_path_buf())),
        }
    }

    /// Serves every request with `handler`, forever. At the connection limit the oldest connection is closed, so idle
    /// connections cannot lock others out.
    pub(crate) async fn serve<A, F, B>(self, limits: ListenerLimits, handler: A)
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let mut accepting = Accepting::default();
        let mut connections = VecDeque::with_capacity(limits.connections);
        loop {
            let accepted = self.accept().await;
            let Some(stream) = accepting.take(accepted).await else { continue };
            connections.retain(|connection: &tokio::task::AbortHandle| !connection.is_finished());
            if connections.len() >= limits.connections
                && let Some(oldest) = connections.pop_front()
            {
                oldest.abort();
            }
            let connection = tokio::time::timeout(limits.life, connection(stream, handler.clone()));
            let task = tokio::spawn(async {
                if connection.await.is_err() {
                    tracing::debug!("an admin or health connection took too long");
                }
            });
            connections.push_back(task.abort_handle());
        }
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(socket) => socket.listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Serves one HTTP request on one connection.
async fn connection<A, F, B>(stream: Stream, handler: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async { Ok::<_, Infallible>(response.await) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin or health connection failed");
    }
}

/// Whether no process listens on a socket file: it is left over from a process that was killed.
fn is_dead(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
