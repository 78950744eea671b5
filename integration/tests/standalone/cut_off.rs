//! Uploads cut off in the middle, or refused at their end: once their leases have closed, the FAT's room is back, the bytes on
//! disk are back, and the vendors' own tables equal the FAT copy by copy.

use anyhow::ensure;
use rand::Rng as _;
use ullage_integration::admin_json::{Admin, Status};
use ullage_integration::content::Content;
use ullage_integration::http1::{Body, Connection};
use ullage_integration::layout;
use ullage_integration::process::disk_bytes;
use ullage_integration::s3::{Request, S3};
use ullage_integration::standalone::{Options, Standalone};
use ullage_integration::{seed, settle};

const BUCKET: &str = "cut";
const MIB: u64 = 1 << 20;
/// A segment file.
const SEGMENT_BYTES: u64 = 64 * MIB;
/// What a vendor's index and its garbage may take beyond two segments for each device.
const INDEX_BYTES: u64 = 64 * MIB;

/// Sends the head and a part of a body, then leaves: by a reset, or by closing as if all was well.
async fn cut_off(s3: &S3, key: &str, content: Content, sent: u64, reset: bool) -> anyhow::Result<()> {
    let mut connection = Connection::open(s3.address()).await?;
    connection
        .send_raw(&s3.head_bytes(&Request::object("PUT", BUCKET, key), content.length))
        .await?;
    let mut offset = 0;
    while offset < sent {
        let limit = usize::try_from((sent - offset).min(MIB))?;
        let slice = content.slice(offset, limit);
        connection.send_raw(slice).await?;
        offset += slice.len() as u64;
    }
    if reset {
        connection.reset();
    }
    Ok(())
}

/// Cuts uploads off side by side; returns the bytes that were sent in vain.
async fn cut_many_off(s3: &S3, seed: u64, uploads: u64, largest: u64) -> anyhow::Result<u64> {
    let mut random = seed::generator(seed, 3);
    let mut total = 0;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..uploads {
        let length = random.random_range(5 * MIB..largest);
        let sent = random.random_range(1..length);
        let key = format!("cut/{index}");
        let content = Content::new(seed, &key, length);
        let (s3, reset) = (s3.clone(), random.random());
        tasks.spawn(async move { cut_off(&s3, &key, content, sent, reset).await });
        total += sent;
        if tasks.len() >= 8
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(total)
}

/// Sends bodies whole, of one chunk and of several, that are not what their heads say: the vendors have them when they
/// are refused.
async fn refused_many(s3: &S3, seed: u64) -> anyhow::Result<()> {
    for (index, length) in (0..).zip([100_000, MIB, 3 * MIB, 9 * MIB]) {
        let key = format!("refused/{index}");
        let content = Content::new(seed, &key, length);
        // The digest of nothing.
        let headers = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
        let request = Request::object("PUT", BUCKET, &key).headers(&headers);
        let answer = s3.send(&request, Body::Content(content)).await?.expect(400)?;
        ensure!(answer.text().contains("BadDigest"), "{}", answer.text());
    }
    Ok(())
}

/// Waits until the FAT's room is what it was and nothing waits to be erased.
async fn wait_for_room(admin: &Admin, before: &Status) -> anyhow::Result<Status> {
    settle::until(settle::deadline(), async || {
        let now = admin.status()?;
        let back = now.room.used == before.room.used && now.room.erasing == 0 && now.release_queue == 0;
        ensure!(
            back,
            "room was {:?} and is {:?}, release queue {}",
            before.room,
            now.room,
            now.release_queue
        );
        Ok(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn room_and_tables_agree_after_uploads_were_cut_off() -> anyhow::Result<()> {
    let seed = seed::announce("room_and_tables_agree_after_uploads_were_cut_off");
    let standalone = Standalone::start_default().await?;
    let (s3, admin) = (standalone.s3()?, Admin::of(&standalone)?);
    s3.create_bucket(BUCKET).await?;
    let kept = Content::new(seed, "kept", 20 * MIB);
    s3.put(BUCKET, "kept", Body::Content(kept)).await?;
    let before = wait_for_room(&admin, &admin.status()?).await?;
    let total = before.room.free + before.room.leased + before.room.used + before.room.erasing;

    cut_many_off(&s3, seed, 30, 40 * MIB).await?;
    refused_many(&s3, seed).await?;
    let upload = s3.create_upload(BUCKET, "aborted").await?;
    for number in 1..=3 {
        s3.put_part(BUCKET, "aborted", &upload, number, kept.part(0, 6 * MIB))
            .await?;
    }
    let query = [("uploadId", upload.as_str())];
    s3.send(
        &Request::object("DELETE", BUCKET, "aborted").query(&query),
        Body::Empty,
    )
    .await?
    .expect(204)?;

    let after = wait_for_room(&admin, &before).await?;
    assert_eq!(
        after.room.free + after.room.leased + after.room.used + after.room.erasing,
        total,
        "no room is lost"
    );
    settle::until(settle::deadline(), async || admin.compare_local_fats()).await?;
    assert_eq!(s3.list_keys(BUCKET, "").await?, ["kept"]);
    s3.check(BUCKET, "kept", kept).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_has_its_bytes_back_after_uploads_were_cut_off() -> anyhow::Result<()> {
    let seed = seed::announce("the_disk_has_its_bytes_back_after_uploads_were_cut_off");
    let standalone = Standalone::start(Options::single()).await?;
    let (s3, admin) = (standalone.s3()?, Admin::of(&standalone)?);
    s3.create_bucket(BUCKET).await?;
    let before = admin.status()?;
    let vendors = layout::vendors(standalone.data());
    let disk_before = disk_bytes(&vendors);
    let sent = cut_many_off(&s3, seed, 40, 80 * MIB).await?;
    // Two segments of the one device, the index and the garbage bound.
    let allowed = disk_before + 2 * SEGMENT_BYTES + INDEX_BYTES;
    assert!(
        sent > 2 * (allowed - disk_before),
        "only {sent} bytes were cut off: too few to show anything"
    );
    wait_for_room(&admin, &before).await?;
    settle::until(settle::deadline(), async || {
        let disk = disk_bytes(&vendors);
        ensure!(
            disk <= allowed,
            "{disk} bytes on disk, {allowed} allowed, {disk_before} before"
        );
        Ok(())
    })
    .await?;
    // The last lease may still be closing: what it left behind is in no account of room.
    settle::until(settle::deadline(), async || admin.compare_local_fats()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn room_comes_back_after_deletes_and_overwrites() -> anyhow::Result<()> {
    let seed = seed::announce("room_comes_back_after_deletes_and_overwrites");
    let standalone = Standalone::start_default().await?;
    let (s3, admin) = (standalone.s3()?, Admin::of(&standalone)?);
    s3.create_bucket(BUCKET).await?;
    let before = admin.status()?;
    for index in 0..20 {
        let content = Content::new(seed, &format!("{index}"), 5 * MIB + index);
        s3.put(BUCKET, &format!("key-{}", index % 10), Body::Content(content))
            .await?;
    }
    let one_each = admin.status()?;
    assert!(one_each.room.used > before.room.used);
    for index in 0..10 {
        s3.delete(BUCKET, &format!("key-{index}")).await?;
    }
    wait_for_room(&admin, &before).await?;
    settle::until(settle::deadline(), async || admin.compare_local_fats()).await
}
