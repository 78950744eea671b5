//! Held against another implementation of MD5, the crate `md-5`.

use super::{
    ALONG_BYTES, Inbox, Md5Digest, Md5Hasher, Message, Messages, PIECES, Shared, lock, md5, take_first,
};
use bytes::Bytes;
use md5::{Digest as _, Md5};
use proptest::prelude::*;
use std::mem;
use std::sync::{Arc, Mutex};

fn expected(bytes: &[u8]) -> Md5Digest {
    Md5::digest(bytes).into()
}

fn body(seed: u64, bytes: usize) -> Bytes {
    (0..bytes as u64)
        .map(|at| (at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0])
        .collect()
}

#[test]
fn the_vectors_of_the_rfc_hold() {
    // RFC 1321, appendix A.5.
    for (text, digest) in [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    ] {
        assert_eq!(hex::encode(md5(text.as_bytes())), digest, "{text:?}");
    }
}

#[test]
fn every_length_around_blocks_is_padded_right() {
    let bytes = body(1, 300);
    for length in 0..=bytes.len() {
        assert_eq!(
            md5(&bytes[..length]),
            expected(&bytes[..length]),
            "{length} bytes"
        );
    }
}

/// However few bytes a piece has, what it was cut from may be many.
#[test]
fn bytes_that_come_in_small_pieces_wait_in_few() {
    let bytes = body(3, 100_000);
    // With and without enough others for it to be worth while to wait.
    for others in [0, 20] {
        let others: Vec<Md5Hasher> = (0..others)
            .map(|seed| {
                let mut hasher = Md5Hasher::new();
                hasher.update(&body(seed, 5000));
                hasher
            })
            .collect();
        let mut hasher = Md5Hasher::new();
        for (at, _) in bytes.iter().enumerate() {
            hasher.update(&bytes.slice(at..=at));
            let pieces = hasher
                .shared
                .iter()
                .map(|message| lock(&message.inbox).pieces.len());
            assert!(pieces.sum::<usize>() <= PIECES, "{at}, beside {}", others.len());
        }
        assert_eq!(hasher.finish(), expected(&bytes));
    }
}

#[test]
fn a_few_bodies_wait_for_nobodys_turn() {
    let shared = Shared {
        messages: Mutex::new(Messages {
            all: Vec::new(),
            swept: 0,
        }),
        turn: Mutex::new(()),
    };
    let _of_somebody_else = lock(&shared.turn);
    for seed in 0..2 {
        let message = Arc::new(Message::default());
        shared.join(&message);
        let piece = body(seed, 700_000);
        *lock(&message.inbox) = Inbox {
            bytes: piece.len(),
            pieces: [piece].into(),
        };
        shared.hash(&message, message.waiting_bytes());
        let digest = mem::take(&mut *lock(&message.stream)).finish();
        assert_eq!(digest, expected(&body(seed, 700_000)));
    }
}

#[test]
fn whoever_has_the_turn_takes_along_what_waits_elsewhere_and_leaves_the_rest_for_later() {
    let shared = Shared {
        messages: Mutex::new(Messages {
            all: Vec::new(),
            swept: 0,
        }),
        turn: Mutex::new(()),
    };
    let lengths = [
        64_000,
        64_000,
        64_000,
        64_000,
        64_000,
        64_000,
        200_000,
        ALONG_BYTES - 1,
    ];
    let messages: Vec<Arc<Message>> = lengths
        .iter()
        .map(|length| {
            let message = Arc::new(Message::default());
            let piece = body(1, *length);
            *lock(&message.inbox) = Inbox {
                bytes: piece.len(),
                pieces: [piece].into(),
            };
            shared.join(&message);
            message
        })
        .collect();
    assert!(shared.is_company());
    shared.turn(&messages[0]);
    let waiting: Vec<usize> = messages.iter().map(|message| message.waiting_bytes()).collect();
    assert_eq!(waiting, [0, 0, 0, 0, 0, 0, 136_000, ALONG_BYTES - 1]);
    for (message, length) in messages.iter().zip(lengths) {
        let mut stream = lock(&message.stream);
        take_first(&mut [message.waiting(&mut stream)]);
        let digest = mem::take(&mut *stream).finish();
        assert_eq!(digest, expected(&body(1, length)), "{length} bytes");
    }
}

/// Many bodies at a time from several threads, cut in all ways: whoever has the turn, nobody's bytes are mixed up,
/// lost or taken twice.
#[test]
fn bodies_hashed_side_by_side_are_hashed_right() {
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            scope.spawn(move || {
                for round in 0..3 {
                    let bodies: Vec<Bytes> = (0..9)
                        .map(|at| {
                            let seed = thread * 100 + round * 10 + at;
                            body(seed as u64, (seed * 77_777) % 900_000)
                        })
                        .collect();
                    let mut rest: Vec<Bytes> = bodies.clone();
                    let mut hashers: Vec<Md5Hasher> = bodies.iter().map(|_| Md5Hasher::new()).collect();
                    let mut step = 1;
                    while rest.iter().any(|body| !body.is_empty()) {
                        for (hasher, rest) in hashers.iter_mut().zip(&mut rest) {
                            step = (step * 31 + 17) % 70_001;
                            hasher.update(&rest.split_to(rest.len().min(step)));
                        }
                    }
                    for (hasher, body) in hashers.into_iter().zip(&bodies) {
                        assert_eq!(hasher.finish(), expected(body), "{} bytes", body.len());
                    }
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_cutting_of_bodies_in_turns_gives_their_digests(
        lengths in prop::collection::vec(0_usize..400_000, 1..24),
        cuts in prop::collection::vec(1_usize..100_000, 1..8),
    ) {
        let bodies: Vec<Bytes> = lengths.iter().enumerate().map(|(at, bytes)| body(at as u64, *bytes)).collect();
        let mut hashers: Vec<Md5Hasher> = bodies.iter().map(|_| Md5Hasher::new()).collect();
        let mut rest = bodies.clone();
        let mut cuts = cuts.iter().cycle();
        while rest.iter().any(|body| !body.is_empty()) {
            for (hasher, rest) in hashers.iter_mut().zip(&mut rest) {
                let cut = cuts.next().copied().unwrap_or(1);
                hasher.update(&rest.split_to(rest.len().min(cut)));
            }
        }
        for (hasher, body) in hashers.into_iter().zip(&bodies) {
            prop_assert_eq!(hasher.finish(), expected(body));
        }
    }
}
