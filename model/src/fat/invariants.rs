//! The table's own sums.
