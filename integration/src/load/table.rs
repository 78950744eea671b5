//! The rows of the published table: what is compared with other servers, and the goals.

use std::time::Duration;

use crate::load::workload::{Spec, Workload};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// One row: its name, its run and its goal against the other server.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name, also what selects the row on the command line.
    pub name: &'static str,
    /// The run.
    pub spec: Spec,
    /// First and later goal as ratios.
    pub goal: &'static str,
}

/// All rows. `seconds` is the length of a timed run; deletes and uploads end by count as well.
#[must_use]
pub fn rows(seconds: u64) -> Vec<Row> {
    let timed = |name, workload, size, connections, goal| {
        let mut spec = Spec::new(workload, size, connections);
        spec.limit.time = Duration::from_secs(seconds);
        // Enough objects that no row is one hot object, few enough to stay within a gigabyte.
        spec.keys = (MIB * 1024 / size.max(1)).clamp(16, 10_000);
        Row { name, spec, goal }
    };
    let mut rows = vec![
        timed("put-4k", Workload::Put, 4 * KIB, 64, "3 ×, then 8 ×"),
        timed("get-4k", Workload::Get, 4 * KIB, 64, "2 ×, then 5 ×"),
        timed("put-4k-256", Workload::Put, 4 * KIB, 256, "base of the next two"),
        timed(
            "put-8k-256",
            Workload::Put,
            8 * KIB,
            256,
            "CPU ≤ 2.5 ×, then 1.5 × of 4 KiB",
        ),
        timed(
            "put-16k-256",
            Workload::Put,
            16 * KIB,
            256,
            "CPU ≤ 2.5 ×, then 1.5 × of 4 KiB",
        ),
        timed("head", Workload::Head, 4 * KIB, 64, "1 ×, then 1.5 ×"),
        timed("put-128k", Workload::Put, 128 * KIB, 32, "1.5 ×, then 3 ×"),
        timed("get-128k", Workload::Get, 128 * KIB, 32, "1.3 ×, then 2.5 ×"),
        timed("mixed-64k", Workload::Mixed, 64 * KIB, 32, "1.5 ×, then 3 ×"),
        timed("put-1m", Workload::Put, MIB, 16, "1 ×, then 2 ×"),
        timed("get-1m", Workload::Get, MIB, 16, "1 ×, then 1.6 ×"),
        timed("put-16m", Workload::Put, 16 * MIB, 8, "1 ×, then 2 ×"),
        timed("get-16m", Workload::Get, 16 * MIB, 8, "1 ×, then 1.6 ×"),
        timed("range-64k", Workload::Range, 16 * MIB, 16, "3 ×, then 8 ×"),
        timed(
            "multipart-256m",
            Workload::Multipart,
            256 * MIB,
            1,
            "1 ×, then 1.6 ×",
        ),
        timed("list-100k", Workload::List, 100, 1, "1.5 ×, then 4 ×"),
        timed("delete-4k", Workload::Delete, 4 * KIB, 64, "1.5 ×, then 4 ×"),
    ];
    for row in &mut rows {
        match row.name {
            "list-100k" => row.spec.keys = 100_000,
            "delete-4k" => row.spec.keys = 10_000,
            _ => {}
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own_and_finite_bounds() {
        let rows = rows(5);
        let names: std::collections::BTreeSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
        assert!(
            rows.iter()
                .all(|row| row.spec.limit.time <= Duration::from_secs(5) && row.spec.keys <= 100_000)
        );
    }
}
