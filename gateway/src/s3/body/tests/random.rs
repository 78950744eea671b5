//! Bodies that are cut anywhere, and bodies of which something was changed on the way.

use proptest::prelude::*;

use super::*;

/// What is slipped in.
const SPLINTERS: [&[u8]; 8] = [
    b"\r\n",
    b"\n",
    b"0;chunk-signature=",
    b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n",
    b"ffffffffffffffff;",
    b"00000000000000000000000000000000",
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n",
    b"\0",
];

/// Where the frames are rather than the data, mostly.
fn place() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..100usize, 3 => 65_600..65_800usize, 3 => 66_700..67_100usize, 1 => 0..67_100usize]
}

fn change(body: &mut Vec<u8>, (what, at, far, splinter): (u8, usize, usize, usize)) {
    let at = at.min(body.len());
    let end = (at + far).min(body.len());
    match what {
        0 if at < body.len() => body[at] ^= 1 << (far % 8),
        0 | 1 => drop(body.drain(at..end)),
        2 => body.truncate(at),
        3 => {
            let again = body[at..end].to_vec();
            body.splice(at..at, again);
        }
        // Two pieces change places.
        4 => body[at..end].rotate_left(far.min(end - at) / 2),
        _ => drop(body.splice(at..at, SPLINTERS[splinter].iter().copied())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is changed: the bytes that were signed come through to the end, or the body fails.
    #[test]
    fn changed_bodies_in_signed_chunks_fail_or_are_what_was_signed(
        trailer in any::<bool>(),
        changes in proptest::collection::vec((0..6u8, place(), 0..200usize, 0..SPLINTERS.len()), 1..4),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let (mut body, plan) = match trailer {
            true => (example_body(TRAILER_CHUNKS, TRAILER), example_plan(true).unwrap()),
            false => (example_body(CHUNKS, "\r\n"), example_plan(false).unwrap()),
        };
        for made in changes {
            change(&mut body, made);
        }
        let mut decoder = BodyDecoder::new(plan, WantedDigests::default());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).chain([0, body.len()]).collect();
        cuts.sort_unstable();
        let (body, mut out, mut whole) = (Bytes::from(body), Vec::new(), true);
        for window in cuts.windows(2) {
            whole &= decoder.push(body.slice(window[0]..window[1]), &mut out).is_ok();
            // Nothing is kept but a line, nothing is handed on but what was announced.
            prop_assert!(out.iter().map(Bytes::len).sum::<usize>() <= 66_560);
        }
        if decoder.finish().is_ok() && whole {
            let bytes = out.concat();
            prop_assert!(bytes.len() == 66_560 && bytes.iter().all(|byte| *byte == b'a'));
        }
    }
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_bytes(
        data in proptest::collection::vec(any::<u8>(), 0..300),
        chunk in 1usize..64,
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let algorithm = ChecksumAlgorithm::Crc64Nvme;
        let body = unsigned_body(&data, chunk, algorithm);
        let (got, digests) =
            decode(unsigned_plan(data.len(), algorithm), WantedDigests::default(), &body, &cuts).unwrap();
        prop_assert_eq!(digests.bytes, data.len() as u64);
        prop_assert_eq!(got, data);
    }

    #[test]
    fn signed_chunks_do_not_care_for_cuts(cuts in proptest::collection::vec(any::<usize>(), 0..20)) {
        let body = example_body(TRAILER_CHUNKS, TRAILER);
        let (got, _) = decode(example_plan(true).unwrap(), WantedDigests::default(), &body, &cuts).unwrap();
        prop_assert_eq!(got.len(), 66_560);
    }

    #[test]
    fn broken_bodies_fail_the_same_way_however_they_are_cut(
        at in any::<usize>(),
        byte in any::<u8>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..20),
    ) {
        let algorithm = ChecksumAlgorithm::Crc32;
        let mut body = unsigned_body(b"some bytes of an object", 7, algorithm);
        let at = at % body.len();
        body[at] = byte;
        let run = |cuts: &[usize]| {
            decode(unsigned_plan(23, algorithm), WantedDigests::default(), &body, cuts)
                .map_err(|e| e.code())
        };
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    #[test]
    fn nothing_makes_the_decoder_panic_or_grow(
        noise in proptest::collection::vec(
            prop_oneof![Just(b"\r\n".to_vec()), Just(b"0".to_vec()), Just(b"5\r\n".to_vec()),
                Just(b"x-amz-checksum-crc32:AAAAAA==\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..9)],
            0..60),
        signed in any::<bool>(),
    ) {
        let plan = if signed { example_plan(true).unwrap() } else { unsigned_plan(64, ChecksumAlgorithm::Crc32) };
        let length = plan.decoded_length().unwrap();
        let mut decoder = BodyDecoder::new(plan, WantedDigests::default());
        let mut out = Vec::new();
        for piece in noise {
            if decoder.push(Bytes::from(piece), &mut out).is_err() {
                break;
            }
            let bytes: usize = out.iter().map(Bytes::len).sum();
            prop_assert!(bytes as u64 <= length);
        }
        let _ = decoder.finish();
    }
}
