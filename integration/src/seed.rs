//! Seeds: where a test's randomness starts, printed so that a failure can be had again.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The environment variable that sets the seed of every test.
pub const SEED_VARIABLE: &str = "ULLAGE_TEST_SEED";

/// The seed of a test: from `ULLAGE_TEST_SEED`, or drawn, and printed either way. The test harness shows
/// what a test printed when it fails.
///
/// # Panics
/// If the variable is set but is not a number.
#[must_use]
pub fn announce(test: &str) -> u64 {
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text} is not a number")),
        Err(_) => rand::random::<u32>().into(),
    };
    println!("{test}: {SEED_VARIABLE}={seed}");
    seed
}

/// A generator for one part of a test, so that parts do not disturb each other's draws.
#[must_use]
pub fn generator(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// A number from the environment, or `default`; how the size of a test is set.
///
/// # Panics
/// If the variable is set but is not a number.
#[must_use]
pub fn number_from_env(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}
