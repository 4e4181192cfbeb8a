//! Whether a connection is still a conversation: the client is served, or speaks, or reads.
//!
//! A client that vanished without a word, that stops reading its answer, or that holds a connection
//! and asks nothing, would keep a slot, an open file and a call's place for ever. So each
//! connection knows how many requests it is answering, since when its socket takes no more, and
//! since when a long answer was not asked for its next piece (over HTTP/2 the socket cannot tell).

use alluvium_wire::{Reply, ReplyBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use parking_lot::Mutex;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A long answer is handed out in pieces of this size, so that a piece that is not asked for tells
/// of a client that does not read. Shorter answers fit into the connection's buffers.
const PIECE_BYTES: usize = 64 * 1024;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Conversation {
    began: Instant,
    in_flight: AtomicUsize,
    /// When the last request or its answer ended.
    active_ms: AtomicU64,
    /// Since when the socket takes nothing; 0 when it does.
    blocked_ms: AtomicU64,
    /// Since when each long answer waits for its client; 0 when it waits for us.
    answers: Mutex<Vec<Weak<AtomicU64>>>,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is served.
    Alive,
    /// Nobody asked anything for too long.
    Idle,
    /// The client does not read.
    Stalled,
}

impl Conversation {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            active_ms: AtomicU64::new(0),
            blocked_ms: AtomicU64::new(0),
            answers: Mutex::new(Vec::new()),
        })
    }

    /// Never 0, which stands for "not".
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(self.clone())
    }

    /// Hands an answer out in pieces, and keeps its request in flight until it has ended.
    pub(super) fn answer(self: &Arc<Self>, reply: Reply, in_flight: InFlight) -> Reply {
        let short = |body: &ReplyBody| {
            body.size_hint().upper().is_some_and(|size| size <= PIECE_BYTES as u64)
        };
        if short(reply.body()) {
            return reply;
        }
        let waits = Arc::new(AtomicU64::new(0));
        let mut answers = self.answers.lock();
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&waits));
        drop(answers);
        reply.map(|body| BoxBody::new(Answer { body, rest: Bytes::new(), waits, in_flight }))
    }

    /// What is to be done now.
    pub(super) fn verdict(&self, idle_max: Duration, stall_max: Duration) -> Verdict {
        let now = self.now_ms();
        let longer =
            |since: u64, limit: Duration| Duration::from_millis(now.saturating_sub(since)) > limit;
        let stalled = |since: u64| since != 0 && longer(since, stall_max);
        let unread = |answer: &Weak<AtomicU64>| {
            answer.upgrade().is_some_and(|waits| stalled(waits.load(Ordering::SeqCst)))
        };
        if stalled(self.blocked_ms.load(Ordering::SeqCst)) || self.answers.lock().iter().any(unread)
        {
            return Verdict::Stalled;
        }
        let at_work = self.in_flight.load(Ordering::SeqCst) > 0;
        if !at_work && longer(self.active_ms.load(Ordering::SeqCst), idle_max) {
            return Verdict::Idle;
        }
        Verdict::Alive
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Conversation>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.active_ms.store(self.0.now_ms(), Ordering::SeqCst);
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A long answer.
struct Answer {
    body: ReplyBody,
    rest: Bytes,
    waits: Arc<AtomicU64>,
    in_flight: InFlight,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.waits.store(0, Ordering::SeqCst);
        if self.rest.is_empty() {
            let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.rest = bytes,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let size = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(size);
        self.waits.store(self.in_flight.0.now_ms(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A connection's socket, which notes since when it takes nothing.
#[derive(Debug)]
pub(super) struct Noted<S> {
    pub(super) socket: S,
    pub(super) conversation: Arc<Conversation>,
}

impl<S> Noted<S> {
    fn note<T>(&self, polled: Poll<std::io::Result<T>>) -> Poll<std::io::Result<T>> {
        let blocked = &self.conversation.blocked_ms;
        if polled.is_ready() {
            blocked.store(0, Ordering::SeqCst);
        } else {
            let now = self.conversation.now_ms();
            // The first time that it takes nothing is the one that counts.
            let _ = blocked.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::AsyncWriteExt as _;

    /// Longer than a busy machine keeps a test from its next line.
    const LIMIT: Duration = Duration::from_secs(1);

    fn reply(size: usize) -> Reply {
        let body = Full::new(Bytes::from(vec![7u8; size]));
        http::Response::new(BoxBody::new(body.map_err(|never| match never {})))
    }

    async fn past_the_limit() {
        tokio::time::sleep(LIMIT + Duration::from_millis(20)).await;
    }

    #[tokio::test]
    async fn a_connection_is_idle_only_when_nothing_is_asked() {
        let conversation = Conversation::new();
        let request = conversation.request();
        past_the_limit().await;
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Alive);
        drop(request);
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Alive);
        past_the_limit().await;
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Idle);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_asked_for_its_next_piece_is_a_stall() {
        let conversation = Conversation::new();
        let request = conversation.request();
        let mut body = conversation.answer(reply(3 * PIECE_BYTES), request).into_body();
        assert_eq!(body.size_hint().exact(), Some(3 * PIECE_BYTES as u64));
        past_the_limit().await;
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Alive, "it waits for us");
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece.len(), PIECE_BYTES);
        past_the_limit().await;
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Stalled);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 2 * PIECE_BYTES);
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Alive);
    }

    #[tokio::test]
    async fn a_socket_that_takes_nothing_is_a_stall_until_it_does() {
        let conversation = Conversation::new();
        let _request = conversation.request();
        let (near, mut far) = tokio::io::duplex(8);
        let mut socket = Noted { socket: near, conversation: conversation.clone() };
        let sent = tokio::spawn(async move { socket.write_all(&[0; 16]).await });
        past_the_limit().await;
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Stalled);
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut [0; 16]).await.unwrap();
        sent.await.unwrap().unwrap();
        assert_eq!(conversation.verdict(LIMIT, LIMIT), Verdict::Alive);
    }
}
