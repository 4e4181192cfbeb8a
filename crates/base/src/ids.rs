//! Newtypes for every identifier: ours are UUIDs or counters, never names that can be reused.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

macro_rules! counter_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id! {
    /// A table's identity for as long as it lives: ours, never Iceberg's `table-uuid`, never a name.
    TableId
}
uuid_id! {
    /// One life of a delivery stream: a stream that is deleted and created again is another one.
    StreamIncarnation
}
uuid_id! {
    /// One call, as it appears in headers, bodies and logs.
    RequestId
}
counter_id! {
    /// A lane: the unit of order in the log. A Direct PUT delivery stream has one.
    LaneId
}
counter_id! {
    /// Batches of one stream incarnation, counted from 1.
    BatchNumber
}
counter_id! {
    /// One start of a server on a data directory; each start raises it (fencing).
    Epoch
}
