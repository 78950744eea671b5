//! Randomness that libraries take from the operating system behind everybody's back: the order of hash maps, the
//! branch that `select!` polls first, `rand`'s generators. All of it comes from `getrandom`, whose place in this
//! test binary the function below takes. Nothing is exempt but what calls the kernel directly (AWS-LC, for keys and
//! nonces, which change bytes but not lengths or order).
//!
//! tokio also counts its runtimes process-wide when it seeds them, so a seed is exactly repeatable only in a process
//! of its own: see [`super::process`].

use std::cell::Cell;

thread_local! {
    static STREAM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on this thread's random bytes follow from `seed`.
pub fn seed_this_thread(seed: u64) {
    STREAM.set(Some(seed));
}

/// SplitMix64.
pub fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn fill(bytes: &mut [u8], flags: u32) -> isize {
    let seeded = STREAM.try_with(|stream| {
        let Some(mut state) = stream.get() else {
            return false;
        };
        for part in bytes.chunks_mut(8) {
            let draw = mix(&mut state).to_le_bytes();
            part.copy_from_slice(&draw[..part.len()]);
        }
        stream.set(Some(state));
        true
    });
    if seeded.unwrap_or(false) {
        return isize::try_from(bytes.len()).unwrap_or(isize::MAX);
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(bytes, flags) {
        Ok(filled) => isize::try_from(filled).unwrap_or(isize::MAX),
        Err(_) => -1,
    }
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// As for the C library's: `buffer` points to `length` bytes that may be written.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller gives `length` writable bytes at `buffer`, by the contract of getrandom(2).
    let bytes = unsafe {
        std::ptr::write_bytes(buffer, 0, length);
        std::slice::from_raw_parts_mut(buffer, length)
    };
    fill(bytes, flags)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    fn order(seed: u64) -> Vec<u32> {
        let on_its_own = thread::spawn(move || {
            super::seed_this_thread(seed);
            let map: HashMap<u32, ()> = (0..100).map(|number| (number, ())).collect();
            let drawn: u32 = rand::random();
            map.into_keys().chain([drawn]).collect()
        });
        on_its_own.join().unwrap()
    }

    #[test]
    fn hash_order_and_random_numbers_follow_from_the_seed() {
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
