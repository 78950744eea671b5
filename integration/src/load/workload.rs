//! What a run does: the operation, sizes, connections and its bound.

use std::time::Duration;

use serde::Serialize;

/// The kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// PUT of new keys.
    Put,
    /// GET of random prepared keys.
    Get,
    /// HEAD of random prepared keys.
    Head,
    /// Seven GETs of prepared keys to three PUTs of new ones, drawn at random.
    Mixed,
    /// GET of a random range of random prepared keys.
    Range,
    /// ListObjectsV2 through all prepared keys, page by page; an operation is a page.
    List,
    /// DELETE of prepared keys.
    Delete,
    /// Multipart uploads; an operation is a whole upload.
    Multipart,
}

impl Workload {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Mixed => "mixed",
            Self::Range => "range",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Multipart => "multipart",
        }
    }

    /// Whether objects must be there before.
    #[must_use]
    pub fn needs_objects(self) -> bool {
        !matches!(self, Self::Put | Self::Multipart)
    }
}

/// When a run ends: whichever bound is reached first. Both are always finite.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limit {
    /// Operations at most.
    pub operations: u64,
    /// Time at most.
    pub time: Duration,
}

/// A run in all its parameters.
#[derive(Clone, Debug, Serialize)]
pub struct Spec {
    /// The operation.
    pub workload: Workload,
    /// Object size in bytes.
    pub size: u64,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// Client threads that share the connections.
    pub threads: usize,
    /// When it ends.
    pub limit: Limit,
    /// Objects prepared before, where the workload needs them.
    pub keys: u64,
    /// Length of a range in bytes.
    pub range_bytes: u64,
    /// Length of a part in bytes.
    pub part_bytes: u64,
    /// Parts of one upload in flight at once.
    pub parts_in_flight: usize,
    /// Keys per page of a listing.
    pub page_keys: u32,
    /// Whether every byte, length and ETag is checked.
    pub verify: bool,
    /// Start of all randomness and contents.
    pub seed: u64,
}

impl Spec {
    /// A run with the usual values for the rest.
    #[must_use]
    pub fn new(workload: Workload, size: u64, connections: usize) -> Self {
        Self {
            workload,
            size,
            connections,
            threads: 2,
            limit: Limit {
                operations: u64::MAX,
                time: Duration::from_secs(5),
            },
            keys: 1_000,
            range_bytes: 64 << 10,
            part_bytes: 16 << 20,
            parts_in_flight: 4,
            page_keys: 1_000,
            verify: false,
            seed: 1,
        }
    }
}

/// A size for people: in the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    match bytes {
        0 => "0 B".to_owned(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        for (bytes, shown) in [
            (4096, "4 KiB"),
            (131_072, "128 KiB"),
            (1 << 20, "1 MiB"),
            (100, "100 B"),
        ] {
            assert_eq!(show_size(bytes), shown);
        }
    }
}
