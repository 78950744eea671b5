//! Bits that flip in segment files: a read succeeds from the other copy and the bad one is reported;
//! with all copies bad it fails, and no wrong byte was sent.

use std::path::PathBuf;

use anyhow::ensure;
use rand::seq::SliceRandom as _;
use ullage_integration::admin_json::Admin;
use ullage_integration::content::Content;
use ullage_integration::faults::{flip_random_bit, ruin, written_blocks};
use ullage_integration::http1::Body;
use ullage_integration::layout;
use ullage_integration::s3::{Request, S3};
use ullage_integration::standalone::Standalone;
use ullage_integration::{seed, settle};

const BUCKET: &str = "flipped";
/// Lengths that go to vendors, packed and aligned records, one chunk and several.
const LENGTHS: [u64; 6] = [20_000, 65_536, 300_000, 4 << 20, (4 << 20) + 1, 13_000_000];
/// Bad copies that reads must have reported.
const REPORTED: usize = 3;

async fn filled(standalone: &Standalone, seed: u64) -> anyhow::Result<(S3, Vec<(String, Content)>)> {
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    let mut objects = Vec::new();
    for length in LENGTHS {
        let key = format!("object-{length}");
        let content = Content::new(seed, &key, length);
        s3.put(BUCKET, &key, Body::Content(content)).await?;
        objects.push((key, content));
    }
    Ok((s3, objects))
}

/// The segment files of one vendor that hold anything.
fn written_segments(directory: &std::path::Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in layout::segment_files(directory) {
        if !written_blocks(&path)?.is_empty() {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_anywhere_harms_no_read() -> anyhow::Result<()> {
    let seed = seed::announce("one_flipped_bit_anywhere_harms_no_read");
    let rounds = seed::number_from_env("ULLAGE_TEST_FLIP_ROUNDS", 30);
    let standalone = Standalone::start_default().await?;
    let (s3, objects) = filled(&standalone, seed).await?;
    let mut random = seed::generator(seed, 1);
    // Only one vendor's files: the other copy of each chunk is elsewhere and stays whole.
    let vendors = layout::vendor_directories(standalone.data())?;
    let segments = written_segments(&vendors[0])?;
    ensure!(!segments.is_empty(), "the first vendor has no data");
    for round in 0..rounds {
        let index = usize::try_from(round)? % segments.len();
        let offset = flip_random_bit(&segments[index], &mut random)?;
        println!(
            "round {round}: a bit of byte {offset} of {}",
            segments[index].display()
        );
        for (key, content) in &objects {
            s3.check(BUCKET, key, *content).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ruined_vendor_is_read_around_and_its_copies_are_reported() -> anyhow::Result<()> {
    let seed = seed::announce("a_ruined_vendor_is_read_around_and_its_copies_are_reported");
    let mut standalone = Standalone::start_default().await?;
    let (s3, mut objects) = filled(&standalone, seed).await?;
    // Of so many objects, a few have their first copy at whatever vendor is ruined.
    for number in 0..60 {
        let key = format!("small-{number}");
        let content = Content::new(seed, &key, 20_000);
        s3.put(BUCKET, &key, Body::Content(content)).await?;
        objects.push((key, content));
    }
    let admin = Admin::of(&standalone)?;
    let mut random = seed::generator(seed, 2);
    let vendors = admin.vendors()?;
    let ruined = vendors.first().expect("a vendor");
    for device in &ruined.devices {
        for segment in layout::segment_files(device.path.as_ref()) {
            ruin(&segment, &mut random)?;
        }
    }
    // Which copy is read first is the gateway's choice, always the same one among equals, and a vendor that failed is
    // left alone as long as others do well. A gateway that starts knows nothing of that: read, and start again, until
    // enough bad copies were met.
    let end = std::time::Instant::now() + settle::deadline();
    loop {
        let s3 = standalone.s3()?;
        objects.shuffle(&mut random);
        // Reports are on their way for a moment after the read.
        let reported = settle::until(std::time::Duration::from_secs(3), async || {
            let mut reported = 0;
            for (key, content) in &objects {
                s3.check(BUCKET, key, *content).await?;
                for chunk in admin.fat_show(BUCKET, key)?.chunks {
                    for copy in &chunk.copies {
                        let is_bad = copy.state != "good";
                        ensure!(
                            !is_bad || copy.vendor == ruined.vendor,
                            "{key}: {copy:?} is whole"
                        );
                        reported += usize::from(is_bad);
                    }
                }
            }
            ensure!(
                reported >= REPORTED,
                "{reported} copies at {} were reported, not {REPORTED}",
                ruined.name
            );
            Ok(())
        });
        match reported.await {
            Err(_) if std::time::Instant::now() < end => {
                standalone.stop().await?;
                standalone.restart().await?;
            }
            reported => return reported,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_all_copies_bad_a_read_fails_and_sends_no_wrong_byte() -> anyhow::Result<()> {
    let seed = seed::announce("with_all_copies_bad_a_read_fails_and_sends_no_wrong_byte");
    let standalone = Standalone::start_default().await?;
    let (s3, objects) = filled(&standalone, seed).await?;
    let mut random = seed::generator(seed, 3);
    for segment in layout::segment_files(&layout::vendors(standalone.data())) {
        ruin(&segment, &mut random)?;
    }
    for (key, content) in &objects {
        let (mut connection, mut head) = s3.open(&Request::object("GET", BUCKET, key), Body::Empty).await?;
        if head.status != 200 {
            assert!(head.status >= 500, "{key}: status {}", head.status);
            continue;
        }
        let mut sent = 0;
        let cut = loop {
            match connection.next_piece(&mut head).await {
                Ok(Some(piece)) => {
                    assert_eq!(content.check(sent, piece), Ok(()), "{key}: a wrong byte was sent");
                    sent += piece.len() as u64;
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(
            cut && sent < content.length,
            "{key}: {sent} bytes and a clean end"
        );
    }
    // What needs no vendor still works.
    s3.put(BUCKET, "inline", Body::Bytes(b"small")).await?;
    assert_eq!(s3.get(BUCKET, "inline").await?.body, b"small");
    Ok(())
}
