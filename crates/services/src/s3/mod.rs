//! Amazon S3: buckets and objects over `alluvium_store::objects`, on the `s3s` protocol library.
//!
//! The way of a request: `gateway` gives it an id and a place in the queue; `admission` verifies
//! its signature, which nothing turns off, and refuses what is repeated or not covered by it; the
//! library parses; `access` refuses operations and members that are not built, by name (I7, lists
//! in `members`), and what the bucket of a table does not allow (`warehouse`); then one of
//! `reading`, `writing`, `deleting`, `copying`, `multipart`, `listing`, `versions` (`version_order`), `tagging`,
//! `lifecycle`, `cors`, `bucket_policy`, `settings` and `buckets` does the work;
//! `envelope` puts the request's id into header and XML.
//!
//! Bodies stream both ways (I8). A write is answered after it is on stable storage (I1), and only
//! if length, hash, MD5, checksum, chunk signatures and trailer agree (`arrival`, `intake`,
//! `checksums`).
//!
//! Left to others: durability and atomicity (`alluvium_store::objects`), which tables exist
//! (the lake's catalog), connection limits and the time of heads (the server's door).
//!
//! Differences from AWS, chosen: a bucket answers in every region (names are global here and there
//! is one endpoint, so there is nothing to redirect to); `AES256` is kept and returned where a call or
//! the bucket asked for it, and objects are not encrypted.

mod access;
mod admission;
mod arrival;
mod attributes;
mod bucket_calls;
mod bucket_policy;
mod buckets;
mod checksums;
mod completion;
mod configuration;
mod copying;
mod cors;
mod deleting;
mod envelope;
mod error;
mod gateway;
mod host;
mod intake;
mod lifecycle;
mod listing;
mod members;
mod multipart;
mod operations;
mod reading;
mod settings;
mod subresources;
mod tagging;
mod uploads;
mod version_order;
mod versions;
mod warehouse;
mod witness;
mod writing;

pub use gateway::{S3Dependencies, S3Gateway};
pub use lifecycle::{LifecycleJob, Swept};

#[cfg(test)]
mod tests;
