//! Addresses for nodes that come back at the same one.

use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses that nobody else uses: of a loopback network of this process, which answers at all of them. A free port
/// of 127.0.0.1 would not do: while its node is away, any outgoing connection may take it.
pub fn addresses(count: usize) -> Vec<String> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let process = std::process::id();
    let of = |_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = (process % 16_384 * 4 + number / 250).to_be_bytes();
        format!("127.{}.{}.{}:9310", 64 + high % 128, low, 1 + number % 250)
    };
    (0..count).map(of).collect()
}
