//! What every other crate speaks about: identifiers, names, time, randomness, kinds of error.
//!
//! No I/O happens here except reading the operating system's clock and randomness, and those only
//! behind the traits [`Clock`] and [`Random`], so that a test can own them.

pub mod arn;
pub mod clock;
pub mod error_kind;
pub mod ids;
pub mod kill_point;
pub mod random;
pub mod secret;
pub mod sequence;

pub use arn::{AccountId, Arn, Region};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error_kind::ErrorKind;
pub use ids::{BatchNumber, Epoch, LaneId, RequestId, StreamIncarnation, TableId};
pub use kill_point::kill_point;
pub use random::{OsRandom, Random};
pub use secret::Secret;
pub use sequence::SequenceNumber;
