//! How fast files are put by those who must not disturb others.

use alluvium_store::objects::Body;
use futures::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;

/// A body whose pieces come at a pace.
pub(super) fn paced(body: Body, pace: Option<&Arc<dyn Pace>>) -> Body {
    let Some(pace) = pace.map(Arc::clone) else { return body };
    let rested = body.then(move |piece| {
        let pace = Arc::clone(&pace);
        async move {
            let rest = piece.as_ref().map_or(Duration::ZERO, |piece| pace.rest(piece.len() as u64));
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
            piece
        }
    });
    rested.boxed()
}

/// How fast files are put by those who must not disturb others.
pub trait Pace: Send + Sync + std::fmt::Debug {
    /// How long to rest after so many bytes were moved.
    fn rest(&self, bytes: u64) -> Duration;
    /// After how many bytes a file is written to the disk.
    fn sync_bytes(&self) -> u64;
}
