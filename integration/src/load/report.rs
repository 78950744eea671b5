//! Tables for people and JSON for programs.

use serde::Serialize;

use crate::load::compare::Comparison;
use crate::load::disk::DiskBound;
use crate::load::stats::{Summary, median};
use crate::load::workload::show_size;

/// Everything that one invocation measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The machine's disk.
    pub disk: Vec<DiskBound>,
    /// The workloads.
    pub rows: Vec<Comparison>,
}

/// A rate for people.
#[must_use]
pub fn show_rate(value: f64, in_bytes: bool) -> String {
    let (value, unit) = match (value, in_bytes) {
        (v, true) if v >= 1024.0 * 1024.0 * 1024.0 => (v / (1024.0 * 1024.0 * 1024.0), " GiB/s"),
        (v, true) => (v / (1024.0 * 1024.0), " MiB/s"),
        (v, false) if v >= 1_000.0 => (v / 1_000.0, " k/s"),
        (v, false) => (v, " /s"),
    };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

/// A time for people.
#[must_use]
pub fn show_time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn middle(summaries: &[Summary], of: impl Fn(&Summary) -> f64) -> f64 {
    median(&summaries.iter().map(of).collect::<Vec<_>>())
}

fn cells(row: &Comparison, summaries: &[Summary]) -> String {
    if summaries.is_empty() {
        return String::new();
    }
    let rate = if row.in_bytes() {
        show_rate(middle(summaries, |s| s.bytes_per_second), true)
    } else {
        show_rate(middle(summaries, |s| s.operations_per_second), false)
    };
    let processor: Vec<f64> = summaries
        .iter()
        .filter_map(|s| s.server_seconds_per_operation)
        .collect();
    let processor = if processor.is_empty() {
        "–".to_owned()
    } else {
        show_time(median(&processor))
    };
    let failures: u64 = summaries.iter().map(|s| s.errors).sum();
    let refusals: u64 = summaries.iter().map(|s| s.refused).sum();
    let mut cells = format!(
        " {rate} | {} | {} | {processor} |",
        show_time(middle(summaries, |s| s.p50_seconds)),
        show_time(middle(summaries, |s| s.p99_seconds)),
    );
    if failures + refusals > 0 {
        cells.push_str(&format!(" ({failures} errors, {refusals} × 503) |"));
    }
    cells
}

impl Report {
    /// As a Markdown table: medians over the rounds.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        if !self.disk.is_empty() {
            text.push_str(
                "Disk, one thread, append and fdatasync:\n\n| write | p50 | rate | |\n|---|---|---|---|\n",
            );
            for bound in &self.disk {
                text.push_str(&format!(
                    "| {} | {} | {} | {} |\n",
                    show_size(bound.write_bytes),
                    show_time(bound.p50_seconds),
                    show_rate(bound.writes_per_second, false),
                    show_rate(bound.bytes_per_second, true)
                ));
            }
            text.push('\n');
        }
        let label = |pick: fn(&Comparison) -> &[Summary]| {
            let summary = self.rows.iter().find_map(|row| pick(row).first());
            summary.map(|summary| summary.target.clone())
        };
        if let Some(a) = label(|row| &row.a) {
            let b = label(|row| &row.b);
            let second = b.as_ref().map_or(String::new(), |b| {
                format!(" {b} | p50 | p99 | server CPU | ratio | goal |")
            });
            text.push_str(&format!("| workload | {a} | p50 | p99 | server CPU |{second}\n"));
            text.push_str(&format!(
                "|---|---|---|---|---|{}\n",
                if b.is_some() {
                    "---|---|---|---|---|---|"
                } else {
                    ""
                }
            ));
        }
        for row in &self.rows {
            text.push_str(&self.row(row));
        }
        text
    }

    fn row(&self, row: &Comparison) -> String {
        let mut text = format!("| {} |{}", row.name, cells(row, &row.a));
        if let Some(ratio) = row.ratio() {
            let goal = row.goal.as_deref().unwrap_or("–");
            text.push_str(&format!("{} {ratio:.2} × | {goal} |", cells(row, &row.b)));
        }
        text.push('\n');
        let first_error = row.a.iter().chain(&row.b).find_map(|summary| {
            summary
                .first_error
                .as_ref()
                .map(|words| format!("  first error at {}: {words}\n", summary.target))
        });
        text + &first_error.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_readable() {
        assert_eq!(show_rate(2_800.0, false), "2.80 k/s");
        assert_eq!(show_rate(550.0, false), "550 /s");
        assert_eq!(show_rate(466.0 * 1024.0 * 1024.0, true), "466 MiB/s");
        assert_eq!(show_rate(1.85 * 1024.0 * 1024.0 * 1024.0, true), "1.85 GiB/s");
        assert_eq!(
            (show_time(0.00022), show_time(0.0123), show_time(2.0)),
            ("220 µs".into(), "12.30 ms".into(), "2.00 s".into())
        );
    }
}
