//! Connections: HTTP/1.1 and HTTP/2 with prior knowledge on one plain-text port.
//!
//! Bounded are the connections at once (more wait in the kernel), the time until the first request
//! and between requests, the size of a head, and the streams of an HTTP/2 connection.

use super::Door;
use alluvium_wire::limits::HEAD_BYTES_MAX;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The limits of connections.
#[derive(Debug, Clone)]
pub(crate) struct ListenLimits {
    pub(crate) connections_max: u32,
    pub(crate) head_timeout: Duration,
}

/// Headers of a request; SDKs send about twenty.
const HEADERS_MAX: usize = 128;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// One read of an HTTP/1.1 connection; also the most that a head may have.
const READ_BYTES_MAX: usize = 128 * 1024;
/// After an error of `accept` (no descriptors left) the next try waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    limits: ListenLimits,
}

impl Listener {
    /// Binds the address.
    pub(crate) async fn bind(address: SocketAddr, limits: ListenLimits) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local, limits })
    }

    /// Where it listens.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Serves until `stop`, then waits up to `drain` for calls in flight. True when all ended.
    pub(crate) async fn serve(
        self,
        door: Arc<Door>,
        stop: CancellationToken,
        drain: Duration,
    ) -> bool {
        let slots = Arc::new(Semaphore::new(self.limits.connections_max as usize));
        let graceful = GracefulShutdown::new();
        let builder = Arc::new(builder(self.limits.head_timeout));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(&self.socket, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let connection = Connection {
                        door: door.clone(),
                        builder: builder.clone(),
                        head_timeout: self.limits.head_timeout,
                        local: self.local,
                    };
                    tokio::spawn(connection.run(stream, slot, graceful.watcher()));
                }
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        let ended = async {
            graceful.shutdown().await;
            door.idle().await;
        };
        tokio::time::timeout(drain, ended).await.is_ok()
    }
}

async fn accept(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = socket.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn builder(head_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(READ_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(head_timeout)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

struct Connection {
    door: Arc<Door>,
    builder: Arc<auto::Builder<TokioExecutor>>,
    head_timeout: Duration,
    local: SocketAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream, slot: OwnedSemaphorePermit, watcher: Watcher) {
        let Self { door, builder, head_timeout, local } = self;
        let begun = Arc::new(AtomicBool::new(false));
        let seen = begun.clone();
        let service = service_fn(move |request| {
            seen.store(true, Ordering::Relaxed);
            let door = door.clone();
            async move { Ok::<_, Infallible>(door.answer(request, local).await) }
        });
        let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let served = watcher.watch(served);
        tokio::pin!(served);
        // The protocol is told by the first bytes, and that wait has no limit of its own.
        let first = tokio::time::timeout(head_timeout, served.as_mut()).await;
        let ended = match first {
            Ok(ended) => Some(ended),
            Err(_) if begun.load(Ordering::Relaxed) => Some(served.await),
            Err(_) => None,
        };
        if let Some(Err(error)) = ended {
            tracing::debug!("a connection ended early: {error}");
        }
        drop(slot);
    }
}
