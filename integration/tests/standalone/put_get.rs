//! The first thing that anybody does: store an object and get it back. Sizes around every border,
//! ranges, overwriting, deleting, listing, conditions, keys that other stores choke on.

use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, S3, elements};
use ullage_integration::seed;
use ullage_integration::standalone::Standalone;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

async fn bucket(standalone: &Standalone) -> anyhow::Result<S3> {
    let s3 = standalone.s3()?;
    s3.create_bucket("first").await?;
    Ok(s3)
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_all_sizes_come_back_byte_identical() -> anyhow::Result<()> {
    let seed = seed::announce("objects_of_all_sizes_come_back_byte_identical");
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    // Around the inline limit, the frame, the chunk.
    let borders = [4 * KIB, 32 * KIB, 64 * KIB, 4 * MIB, 8 * MIB];
    let around = borders
        .into_iter()
        .flat_map(|border| [border - 1, border, border + 1]);
    for length in [0, 1, 2, 100].into_iter().chain(around).chain([33 * MIB + 7]) {
        let key = format!("sizes/{length}");
        let content = Content::new(seed, &key, length);
        let answer = s3.put("first", &key, Body::Content(content)).await?;
        assert_eq!(answer.etag(), content.md5_hex(), "the ETag of {key} is its MD5");
        s3.check("first", &key, content).await?;
        let head = s3
            .send(&Request::object("HEAD", "first", &key), Body::Empty)
            .await?
            .expect(200)?;
        assert_eq!(head.head.content_length(), Some(length));
        assert_eq!(head.etag(), content.md5_hex());
        assert!(
            head.head.header("last-modified").is_some() && head.head.header("x-amz-request-id").is_some()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_give_just_the_bytes_asked_for() -> anyhow::Result<()> {
    let seed = seed::announce("ranges_give_just_the_bytes_asked_for");
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let length = 9 * MIB + 123;
    let content = Content::new(seed, "ranged", length);
    s3.put("first", "ranged", Body::Content(content)).await?;
    for (range, offset, count) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=32767-32768".to_owned(), 32_767, 2),
        (format!("bytes={}-{}", 4 * MIB - 1, 4 * MIB), 4 * MIB - 1, 2),
        (format!("bytes={}-", length - 5), length - 5, 5),
        ("bytes=-100".to_owned(), length - 100, 100),
        (format!("bytes=1-{}", 10 * length), 1, length - 1),
        (format!("bytes={}-{}", 3 * MIB, 9 * MIB), 3 * MIB, 6 * MIB + 1),
    ] {
        let headers = [("range", range.as_str())];
        let request = Request::object("GET", "first", "ranged").headers(&headers);
        let answer = s3.send(&request, Body::Empty).await?.expect(206)?;
        assert_eq!(answer.body.len() as u64, count, "{range}");
        assert_eq!(content.check(offset, &answer.body), Ok(()), "{range}");
        let want = format!("bytes {offset}-{}/{length}", offset + count - 1);
        assert_eq!(answer.head.header("content-range"), Some(want.as_str()));
    }
    let headers = [("range", "bytes=99999999-")];
    let answer = s3
        .send(
            &Request::object("GET", "first", "ranged").headers(&headers),
            Body::Empty,
        )
        .await?;
    assert_eq!(
        (answer.status(), answer.element("Code").as_deref()),
        (416, Some("InvalidRange"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_and_deleting_show_at_once_everywhere() -> anyhow::Result<()> {
    let seed = seed::announce("overwriting_and_deleting_show_at_once_everywhere");
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    for length in [100, 100_000, 6 * MIB] {
        let key = format!("overwritten/{length}");
        for version in 0..4 {
            let content = Content::new(seed, &format!("{key}#{version}"), length + version);
            s3.put("first", &key, Body::Content(content)).await?;
            s3.check("first", &key, content).await?;
        }
        assert_eq!(
            s3.list_keys("first", "overwritten/").await?,
            std::slice::from_ref(&key)
        );
        s3.delete("first", &key).await?;
        assert_eq!(s3.get("first", &key).await?.status(), 404);
        assert!(s3.list_keys("first", "overwritten/").await?.is_empty());
        s3.delete("first", &key).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_kept_literally_and_listed_in_byte_order() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let long = "k".repeat(1024);
    let mut keys = vec![
        "..",
        "../up",
        "./here",
        "a//b",
        "a/",
        "a",
        "a b",
        "a+b",
        "a%2Fb",
        "a&b<c>\"d'",
        "ü/日本/🦀",
        "tab\tin",
        "new\nline",
        "\u{1}",
        "~",
        "*",
        "?x=y#z",
        "\\",
        "-",
        &long,
    ];
    for key in &keys {
        s3.put("first", key, Body::Bytes(key.as_bytes())).await?;
    }
    for key in &keys {
        let answer = s3.get("first", key).await?.expect(200)?;
        assert_eq!(answer.body, key.as_bytes(), "{key:?}");
    }
    keys.sort_unstable_by_key(|key| key.as_bytes());
    assert_eq!(s3.list_keys("first", "").await?, keys);
    let query = [("list-type", "2"), ("delimiter", "/"), ("encoding-type", "url")];
    let page = s3
        .send(&Request::object("GET", "first", "").query(&query), Body::Empty)
        .await?
        .expect(200)?;
    let prefixes: Vec<String> = elements(&page.body, "Prefix")
        .into_iter()
        .filter(|prefix| !prefix.is_empty())
        .collect();
    assert_eq!(prefixes, ["../", "./", "a/", "%C3%BC/"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_decided_by_what_is_stored() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let none_yet = [("if-none-match", "*")];
    let put = Request::object("PUT", "first", "once").headers(&none_yet);
    let first = s3.send(&put, Body::Bytes(b"one")).await?.expect(200)?;
    let second = s3.send(&put, Body::Bytes(b"two")).await?;
    assert_eq!(
        (second.status(), second.element("Code").as_deref()),
        (412, Some("PreconditionFailed"))
    );
    assert_eq!(s3.get("first", "once").await?.body, b"one");
    let etag = format!("\"{}\"", first.etag());
    let same = [("if-none-match", etag.as_str())];
    let unchanged = s3
        .send(
            &Request::object("GET", "first", "once").headers(&same),
            Body::Empty,
        )
        .await?;
    assert_eq!((unchanged.status(), unchanged.body.len()), (304, 0));
    let expected = [("if-match", etag.as_str())];
    s3.send(
        &Request::object("PUT", "first", "once").headers(&expected),
        Body::Bytes(b"three"),
    )
    .await?
    .expect(200)?;
    let late = s3
        .send(
            &Request::object("PUT", "first", "once").headers(&expected),
            Body::Bytes(b"four"),
        )
        .await?;
    assert_eq!(late.status(), 412);
    assert_eq!(s3.get("first", "once").await?.body, b"three");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_conditional_puts_at_once_exactly_one_wins() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    for round in 0..10 {
        let key = format!("raced/{round}");
        let mut racers = Vec::new();
        for racer in 0..8_u64 {
            let (s3, key) = (s3.clone(), key.clone());
            racers.push(tokio::spawn(async move {
                let headers = [("if-none-match", "*")];
                let content = Content::new(racer, "racer", if racer % 2 == 0 { 100 } else { 50_000 });
                let request = Request::object("PUT", "first", &key).headers(&headers);
                anyhow::Ok((content, s3.send(&request, Body::Content(content)).await?.status()))
            }));
        }
        let mut winner = None;
        for racer in racers {
            match racer.await?? {
                (content, 200) => assert_eq!(winner.replace(content), None, "two winners of {key}"),
                // S3 names both: 412 to those that came late, 409 to those that came at the same time.
                (_, status) => assert!(matches!(status, 409 | 412), "status {status}"),
            }
        }
        s3.check("first", &key, winner.expect("a winner")).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_system_headers_come_back() -> anyhow::Result<()> {
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let headers = [
        ("cache-control", "max-age=60"),
        ("content-disposition", "attachment; filename=\"x\""),
        ("content-language", "en"),
        ("content-type", "text/x-odd"),
        ("x-amz-meta-colour", "amber"),
        ("x-amz-meta-cask", "12"),
    ];
    let mut sorted = headers;
    sorted.sort_unstable();
    s3.send(
        &Request::object("PUT", "first", "described").headers(&sorted),
        Body::Bytes(b"x"),
    )
    .await?
    .expect(200)?;
    for method in ["GET", "HEAD"] {
        let answer = s3
            .send(&Request::object(method, "first", "described"), Body::Empty)
            .await?
            .expect(200)?;
        for (name, value) in headers {
            assert_eq!(answer.head.header(name), Some(value), "{method} {name}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_uploads_are_complete_or_absent() -> anyhow::Result<()> {
    let seed = seed::announce("multipart_uploads_are_complete_or_absent");
    let standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let content = Content::new(seed, "parts", 23 * MIB + 11);
    let upload = s3.create_upload("first", "parts").await?;
    let mut etags = Vec::new();
    for (index, offset) in (0..content.length).step_by(5 << 20).enumerate() {
        etags.push(
            s3.put_part(
                "first",
                "parts",
                &upload,
                index + 1,
                content.part(offset, 5 * MIB),
            )
            .await?,
        );
        assert_eq!(
            s3.get("first", "parts").await?.status(),
            404,
            "nothing shows before it is complete"
        );
    }
    let done = s3.complete_upload("first", "parts", &upload, &etags).await?;
    let etag = done.element("ETag").unwrap_or_default();
    assert!(etag.trim_matches('"').ends_with("-5"), "{etag}");
    s3.check("first", "parts", content).await?;
    let again = s3.complete_upload("first", "parts", &upload, &etags).await?;
    assert_eq!(
        again.element("ETag").unwrap_or_default(),
        etag,
        "a repeated complete answers the same"
    );

    let aborted = s3.create_upload("first", "aborted").await?;
    s3.put_part("first", "aborted", &aborted, 1, content.part(0, 5 * MIB))
        .await?;
    let query = [("uploadId", aborted.as_str())];
    let abort = Request::object("DELETE", "first", "aborted").query(&query);
    s3.send(&abort, Body::Empty).await?.expect(204)?;
    let gone = s3.send(&abort, Body::Empty).await?;
    assert_eq!(
        (gone.status(), gone.element("Code").as_deref()),
        (404, Some("NoSuchUpload"))
    );
    assert_eq!(s3.get("first", "aborted").await?.status(), 404);
    s3.check("first", "parts", content).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() -> anyhow::Result<()> {
    let seed = seed::announce("everything_is_there_after_a_restart");
    let mut standalone = Standalone::start_default().await?;
    let s3 = bucket(&standalone).await?;
    let contents: Vec<_> = [0, 10, 5_000, 70_000, 5 * MIB]
        .map(|length| Content::new(seed, "kept", length))
        .to_vec();
    for content in &contents {
        s3.put(
            "first",
            &format!("kept/{}", content.length),
            Body::Content(*content),
        )
        .await?;
    }
    let credentials = standalone.credentials()?;
    standalone.stop().await?;
    standalone.restart().await?;
    assert_eq!(standalone.credentials()?, credentials);
    let s3 = standalone.s3()?;
    for content in &contents {
        s3.check("first", &format!("kept/{}", content.length), *content)
            .await?;
    }
    assert_eq!(s3.list_keys("first", "").await?.len(), contents.len());
    Ok(())
}
