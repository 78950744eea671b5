//! MD5's compression (RFC 1321, section 3.4), of one message or of several side by side: one chain is a sequence
//! of steps that wait for each other, so that only independent messages fill a processor. Written as loops over
//! `L` lanes, which the compiler turns into vector instructions.

/// Bytes of a block.
pub(super) const BLOCK_BYTES: usize = 64;
/// Messages side by side: 16 32-bit words fill a vector of AVX-512 and two of AVX2.
pub(super) const LANES: usize = 16;

/// With fewer messages than this side by side, one after the other is as fast. Measured: all lanes together take what
/// 2.5 single messages take with AVX-512 and what 5 take with AVX2.
pub(super) fn worth_while() -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") && std::arch::is_x86_feature_detected!("avx512vl") {
        return 3;
    }
    6
}

/// A, B, C and D before the first block (RFC 1321, section 3.3).
pub(super) const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// T of RFC 1321, section 3.4: `floor(2^32 * abs(sin(i + 1)))`.
const T: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];
/// Rotations of each round's four steps.
const ROTATIONS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

type Words<const L: usize> = [u32; L];

/// The word of the block that a step takes.
const fn word(step: usize) -> usize {
    match step / 16 {
        0 => step,
        1 => (5 * step + 1) % 16,
        2 => (3 * step + 5) % 16,
        _ => (7 * step) % 16,
    }
}

#[inline(always)]
fn lanes<const L: usize>(value: impl Fn(usize) -> u32) -> Words<L> {
    let mut words = [0; L];
    let mut lane = 0;
    // A `while` over a constant: what is made of iterators here is not turned into vectors.
    while lane < L {
        words[lane] = value(lane);
        lane += 1;
    }
    words
}

/// Takes the next blocks of `L` messages: `messages[l]` are the bytes of lane `l`, whole blocks, as many as the
/// others have.
#[inline(always)]
fn compress<const L: usize>(states: &mut [Words<L>; 4], messages: &[&[u8]; L]) {
    let blocks = messages.iter().map(|bytes| bytes.len() / BLOCK_BYTES).min();
    for block in 0..blocks.unwrap_or(0) {
        let mut m = [[0; L]; 16];
        for (lane, bytes) in messages.iter().enumerate() {
            let bytes = &bytes[block * BLOCK_BYTES..][..BLOCK_BYTES];
            for (word, bytes) in bytes.chunks_exact(4).enumerate() {
                m[word][lane] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        let [mut a, mut b, mut c, mut d] = *states;
        macro_rules! step {
            ($a:ident $b:ident $c:ident $d:ident $step:expr) => {{
                const ROUND: usize = $step / 16;
                let mixed: Words<L> = match ROUND {
                    0 => lanes(|l| $d[l] ^ ($b[l] & ($c[l] ^ $d[l]))),
                    1 => lanes(|l| $c[l] ^ ($d[l] & ($b[l] ^ $c[l]))),
                    2 => lanes(|l| $b[l] ^ $c[l] ^ $d[l]),
                    _ => lanes(|l| $c[l] ^ ($b[l] | !$d[l])),
                };
                let m = &m[const { word($step) }];
                let sum: Words<L> = lanes(|l| {
                    $a[l]
                        .wrapping_add(mixed[l])
                        .wrapping_add(m[l])
                        .wrapping_add(T[$step])
                });
                $a = lanes(|l| {
                    sum[l]
                        .rotate_left(ROTATIONS[ROUND][$step % 4])
                        .wrapping_add($b[l])
                });
            }};
        }
        macro_rules! steps {
            ($($first:literal)*) => {$(
                step!(a b c d $first);
                step!(d a b c $first + 1);
                step!(c d a b $first + 2);
                step!(b c d a $first + 3);
            )*};
        }
        steps!(0 4 8 12 16 20 24 28 32 36 40 44 48 52 56 60);
        for (state, now) in states.iter_mut().zip([a, b, c, d]) {
            *state = lanes(|l| state[l].wrapping_add(now[l]));
        }
    }
}

/// Takes whole blocks of one message.
pub(super) fn one(state: &mut [u32; 4], bytes: &[u8]) {
    let mut states = state.map(|word| [word]);
    compress::<1>(&mut states, &[bytes]);
    *state = states.map(|[word]| word);
}

/// Takes as many whole blocks of each message as the shortest one has.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(super) fn many(states: &mut [[u32; LANES]; 4], messages: &[&[u8]; LANES]) {
    compress::<LANES>(states, messages);
}
