//! The Rust crate `object_store`: whole and in parts, listings, ranges, conditional puts, copies and renames.

use std::ops::Range;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3CopyIfNotExists};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, UpdateVersion, WriteMultipart,
};
use ullage_integration::standalone::Standalone;
use ullage_integration::trees::large;

use crate::store;

const BUCKET: &str = "object-store";

fn client(store: &Standalone, copies: S3CopyIfNotExists) -> anyhow::Result<AmazonS3> {
    let credentials = store.credentials()?;
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{}", store.s3_address()))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(credentials.access_key)
        .with_secret_access_key(credentials.secret_key)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_copy_if_not_exists(copies)
        .build()
        .context("make a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn object_store_puts_lists_reads_and_copies() -> anyhow::Result<()> {
    let store = store().await?;
    store.s3()?.create_bucket(BUCKET).await?;
    let by_header = S3CopyIfNotExists::Header("if-none-match".into(), "*".into());
    let by_parts = client(&store, S3CopyIfNotExists::Multipart)?;
    let client = client(&store, by_header)?;
    whole_objects(&client).await?;
    conditional_puts(&client).await?;
    objects_in_parts(&client).await?;
    listings(&client).await?;
    copies(&client, &by_parts).await?;
    let all = client.list(None).map_ok(|meta| meta.location).boxed();
    let gone: Vec<_> = client.delete_stream(all).try_collect().await?;
    assert!(gone.len() > 25, "{gone:?}");
    assert!(client.list(None).next().await.is_none());
    store.s3()?.delete(BUCKET, "").await?;
    Ok(())
}

async fn whole_objects(client: &AmazonS3) -> anyhow::Result<()> {
    let path = Path::parse("odd key/+ %20 \u{fc}n\u{ef}/\u{65e5}\u{672c}&=#?")?;
    let attributes = Attributes::from_iter([
        (Attribute::ContentType, "application/x-wine"),
        (Attribute::CacheControl, "no-cache"),
        (Attribute::Metadata("vintage".into()), "1961"),
    ]);
    let body = Bytes::from_static(large().slice(0, 100_000));
    let put = client
        .put_opts(&path, body.clone().into(), attributes.clone().into())
        .await?;
    let got = client.get(&path).await?;
    assert_eq!(got.attributes, attributes);
    assert_eq!(got.meta.e_tag, put.e_tag);
    ensure!(got.bytes().await? == body, "the body differs");
    let ranges: [Range<u64>; 3] = [0..10, 99_990..100_000, 50_000..50_001];
    let parts = client.get_ranges(&path, &ranges).await?;
    for (range, part) in ranges.iter().zip(&parts) {
        let (start, end) = (usize::try_from(range.start)?, usize::try_from(range.end)?);
        ensure!(part == &body[start..end], "bytes {range:?} differ");
    }
    let unchanged = GetOptions {
        if_none_match: put.e_tag.clone(),
        ..GetOptions::default()
    };
    assert!(matches!(
        client.get_opts(&path, unchanged).await,
        Err(Error::NotModified { .. })
    ));
    let other = GetOptions {
        if_match: Some("\"other\"".into()),
        ..GetOptions::default()
    };
    assert!(matches!(
        client.get_opts(&path, other).await,
        Err(Error::Precondition { .. })
    ));
    let nothing = Path::from("nothing");
    assert!(matches!(client.head(&nothing).await, Err(Error::NotFound { .. })));
    assert!(matches!(client.get(&nothing).await, Err(Error::NotFound { .. })));
    Ok(())
}

/// What table formats build their commits on.
async fn conditional_puts(client: &AmazonS3) -> anyhow::Result<()> {
    let path = Path::from("log/00000.json");
    let put = async |body: &'static str, mode: PutMode| {
        client
            .put_opts(
                &path,
                PutPayload::from_static(body.as_bytes()),
                PutOptions::from(mode),
            )
            .await
    };
    let first = put("first", PutMode::Create).await?;
    let again = put("again", PutMode::Create).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    let second = put("second", PutMode::Update(first.clone().into())).await?;
    let late = put("late", PutMode::Update(first.into())).await;
    assert!(matches!(late, Err(Error::Precondition { .. })), "{late:?}");
    assert_eq!(client.get(&path).await?.bytes().await?, "second");
    client.delete(&path).await?;
    let gone: UpdateVersion = second.into();
    assert!(put("gone", PutMode::Update(gone)).await.is_err());
    assert!(matches!(client.head(&path).await, Err(Error::NotFound { .. })));
    Ok(())
}

async fn objects_in_parts(client: &AmazonS3) -> anyhow::Result<()> {
    let path = Path::from("parts/large");
    let mut upload = WriteMultipart::new_with_chunk_size(client.put_multipart(&path).await?, 5 << 20);
    let mut sent = 0;
    while sent < large().length {
        let piece = large().slice(sent, 100_000);
        upload.wait_for_capacity(3).await?;
        upload.write(piece);
        sent += piece.len() as u64;
    }
    upload.finish().await?;
    let mut stream = client.get(&path).await?.into_stream();
    let mut received = 0;
    while let Some(piece) = stream.try_next().await? {
        assert_eq!(large().check(received, &piece), Ok(()));
        received += piece.len() as u64;
    }
    assert_eq!(received, large().length);

    let aborted = Path::from("parts/aborted");
    let mut upload = WriteMultipart::new_with_chunk_size(client.put_multipart(&aborted).await?, 5 << 20);
    upload.write(large().slice(0, 1 << 20));
    upload.abort().await?;
    assert!(matches!(client.head(&aborted).await, Err(Error::NotFound { .. })));
    Ok(())
}

async fn listings(client: &AmazonS3) -> anyhow::Result<()> {
    let names: Vec<_> = (0..25)
        .map(|number| Path::from(format!("many/{}/{number:02}", number % 3)))
        .collect();
    for name in &names {
        client.put(name, PutPayload::from_static(b"m")).await?;
    }
    let many = Path::from("many");
    let mut sorted = names.clone();
    sorted.sort_unstable();
    let listed: Vec<_> = client
        .list(Some(&many))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await?;
    assert_eq!(listed, sorted);
    let rest = client.list_with_offset(Some(&many), &sorted[19]);
    let rest: Vec<_> = rest.map_ok(|meta| meta.location).try_collect().await?;
    assert_eq!(rest, sorted[20..]);
    let folders = client.list_with_delimiter(Some(&many)).await?;
    assert_eq!(folders.objects, []);
    assert_eq!(
        folders.common_prefixes,
        ["many/0", "many/1", "many/2"].map(Path::from)
    );
    // The last of a name is no prefix of it here.
    assert!(client.list(Some(&Path::from("man"))).next().await.is_none());
    Ok(())
}

async fn copies(client: &AmazonS3, by_parts: &AmazonS3) -> anyhow::Result<()> {
    let (source, target) = (Path::from("parts/large"), Path::from("copies/a + b%"));
    client.copy(&source, &target).await?;
    assert_eq!(client.head(&target).await?.size, large().length);
    let fresh = Path::from("copies/fresh");
    let parts = Path::from("copies/parts");
    for (client, fresh) in [(client, &fresh), (by_parts, &parts)] {
        let onto = client.copy_if_not_exists(&source, &target).await;
        assert!(matches!(onto, Err(Error::AlreadyExists { .. })), "{onto:?}");
        client.copy_if_not_exists(&source, fresh).await?;
    }
    client.rename(&target, &Path::from("copies/renamed")).await?;
    assert!(matches!(client.head(&target).await, Err(Error::NotFound { .. })));
    client.delete(&source).await?;
    for name in ["copies/fresh", "copies/parts", "copies/renamed"] {
        let end = client
            .get_range(&Path::from(name), 11_999_990..12_000_000)
            .await?;
        assert_eq!(large().check(11_999_990, &end), Ok(()));
    }
    assert!(matches!(
        client.copy(&source, &fresh).await,
        Err(Error::NotFound { .. })
    ));
    Ok(())
}
