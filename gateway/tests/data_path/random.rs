//! Seeded randomness for the tests and, as the gateway's randomness, for keys and choices.

use std::sync::Mutex;
use ullage_gateway::environment::Randomness;

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines, the same on every platform.
#[derive(Debug)]
pub struct Random(Mutex<u64>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn percent(&self, chance: u64) -> bool {
        chance > 0 && self.below(100) < chance
    }
}

impl Randomness for Random {
    fn fill(&self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_be_bytes()[..part.len()]);
        }
    }
}
