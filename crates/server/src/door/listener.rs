//! Connections: HTTP/1.1 and HTTP/2 with prior knowledge on one plain-text port.
//!
//! Bounded are the connections at once (more wait in the kernel), the time until the first request
//! and between requests, the size of a head, the streams of an HTTP/2 connection, and how long a
//! client may leave its answer unread ([`conversation`](super::conversation)).

use super::Door;
use super::conversation::{Conversation, Noted, Verdict};
use alluvium_wire::limits::HEAD_BYTES_MAX;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The limits of connections.
#[derive(Debug, Clone)]
pub(crate) struct ListenLimits {
    pub(crate) connections_max: u32,
    pub(crate) head_timeout: Duration,
    /// Longest pause of a client that reads its answer.
    pub(crate) stall_timeout: Duration,
}

/// Headers of a request. SDKs send about twenty, and each entry of an S3 object's metadata is one:
/// AWS's 2 KB of it and 8 KB of headers hold about 400.
const HEADERS_MAX: usize = 512;
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
        let connections = TaskTracker::new();
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
                        limits: self.limits.clone(),
                        local: self.local,
                        stop: stop.clone(),
                    };
                    connections.spawn(connection.run(stream, slot));
                }
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.socket);
        let ended = async {
            connections.close();
            connections.wait().await;
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
    limits: ListenLimits,
    local: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn run(self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let Self { door, builder, limits, local, stop } = self;
        let conversation = Conversation::new();
        let asked = conversation.clone();
        let service = service_fn(move |request| {
            let (door, conversation) = (door.clone(), asked.clone());
            let in_flight = conversation.request();
            async move {
                let reply = door.answer(request, local).await;
                Ok::<_, Infallible>(conversation.answer(reply, in_flight))
            }
        });
        let socket = Noted { socket: stream, conversation: conversation.clone() };
        let served = builder.serve_connection(TokioIo::new(socket), service).into_owned();
        tokio::pin!(served);
        let mut looks = tokio::time::interval(look_every(&limits));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closing: Option<Instant> = None;
        let ended = loop {
            tokio::select! {
                ended = served.as_mut() => break ended,
                () = stop.cancelled(), if closing.is_none() => {
                    served.as_mut().graceful_shutdown();
                    closing = Some(Instant::now());
                }
                _ = looks.tick() => {
                    match conversation.verdict(limits.head_timeout, limits.stall_timeout) {
                        Verdict::Alive => {}
                        Verdict::Idle if closing.is_none() => {
                            served.as_mut().graceful_shutdown();
                            closing = Some(Instant::now());
                        }
                        // It was told to end, and nothing is being answered.
                        Verdict::Idle
                            if closing.is_some_and(|at| at.elapsed() < limits.head_timeout) => {}
                        verdict @ (Verdict::Idle | Verdict::Stalled) => {
                            tracing::debug!("a connection was cut: {verdict:?}");
                            drop(slot);
                            return;
                        }
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended early: {error}");
        }
        drop(slot);
    }
}

/// How often a connection is looked at: often enough to keep its limits within a quarter.
fn look_every(limits: &ListenLimits) -> Duration {
    let shortest = limits.head_timeout.min(limits.stall_timeout);
    (shortest / 4).clamp(Duration::from_millis(20), Duration::from_secs(5))
}
