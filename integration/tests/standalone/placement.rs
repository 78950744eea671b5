//! Placement by class, seen from outside: S3 clients name a class, the FAT shows that every chunk lies as the
//! class says, listings show the class, and what no vendor can keep is refused, by the rule's name.

use anyhow::{Context as _, ensure};
use ullage_integration::admin_json::{Admin, FatObject};
use ullage_integration::content::Content;
use ullage_integration::http1::Body;
use ullage_integration::s3::{Request, Response, S3, elements};
use ullage_integration::seed;
use ullage_integration::standalone::{Options, Standalone};

const BUCKET: &str = "cellar";
/// Two chunks and a bit.
const BYTES: u64 = (8 << 20) + 17;

async fn put(s3: &S3, class: &str, key: &str, content: Content) -> anyhow::Result<Response> {
    let headers = [("x-amz-storage-class", class)];
    let request = Request::object("PUT", BUCKET, key).headers(&headers);
    s3.send(&request, Body::Content(content)).await
}

/// Stores an object of a class, reads it by GET, HEAD and a listing, and answers where it lies.
async fn stored(s3: &S3, admin: &Admin, class: &str, content: Content) -> anyhow::Result<FatObject> {
    let key = format!("of-{class}");
    put(s3, class, &key, content).await?.expect(200)?;
    s3.check(BUCKET, &key, content).await?;
    for method in ["HEAD", "GET"] {
        let answer = s3
            .send(&Request::object(method, BUCKET, &key), Body::Empty)
            .await?;
        let shown = answer
            .expect(200)?
            .head
            .header("x-amz-storage-class")
            .map(str::to_owned);
        ensure!(
            shown.as_deref() == Some(class),
            "{method} shows {shown:?}, not {class}"
        );
    }
    let query = [("list-type", "2"), ("prefix", key.as_str())];
    let listing = s3
        .send(&Request::object("GET", BUCKET, "").query(&query), Body::Empty)
        .await?;
    let classes = elements(&listing.expect(200)?.body, "StorageClass");
    ensure!(classes == [class], "the listing shows {classes:?}");
    let object = admin.fat_show(BUCKET, &key)?;
    ensure!(
        !object.inline && object.class == class && object.chunks.len() == 3,
        "{object:?}"
    );
    Ok(object)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_decides_where_objects_lie_and_what_cannot_be_kept_is_refused() -> anyhow::Result<()> {
    let seed = seed::announce("a_class_decides_where_objects_lie_and_what_cannot_be_kept_is_refused");
    // Three vendors of two ssd devices each, every one in a zone of its own.
    let standalone = Standalone::start(Options::default()).await?;
    let (s3, admin) = (standalone.s3()?, Admin::of(&standalone)?);
    s3.create_bucket(BUCKET).await?.expect(200)?;
    let content = |name: &str| Content::new(seed, name, BYTES);

    admin.run(&["class", "set", "SPREAD", "--copies", "3", "--zones", "3"])?;
    let object = stored(&s3, &admin, "SPREAD", content("SPREAD")).await?;
    for chunk in &object.chunks {
        let mut vendors: Vec<_> = chunk.copies.iter().map(|copy| copy.vendor.clone()).collect();
        vendors.sort();
        vendors.dedup();
        ensure!(vendors.len() == 3, "{chunk:?}");
    }
    admin.run(&[
        "class",
        "set",
        "CUT",
        "--copies",
        "1",
        "--pieces",
        "2",
        "--device-class",
        "ssd",
    ])?;
    let object = stored(&s3, &admin, "CUT", content("CUT")).await?;
    for chunk in &object.chunks {
        // The last chunk is one frame, which cannot be cut.
        let least = if chunk.length > 32 << 10 { 2 } else { 1 };
        ensure!(
            chunk.copies.len() == 1 && chunk.copies[0].pieces >= least,
            "{chunk:?}"
        );
    }

    let impossible: [(&str, &[&str]); 3] = [
        ("DISK", &["--copies", "1", "--device-class", "hdd"]),
        ("SHREDS", &["--copies", "1", "--pieces", "3"]),
        ("MANY", &["--copies", "4"]),
    ];
    for (class, rule) in impossible {
        admin.run(&[&["class", "set", class], rule].concat())?;
        let answer = put(&s3, class, class, content(class)).await?;
        let code = answer.element("Code").context("no code")?;
        ensure!(answer.status() == 507, "{class}: {} {code}", answer.status());
        let missing = s3
            .send(&Request::object("HEAD", BUCKET, class), Body::Empty)
            .await?;
        ensure!(missing.status() == 404, "{class} was stored after all");
    }

    let unknown = put(&s3, "NONE", "unknown", content("NONE")).await?.expect(400)?;
    ensure!(
        unknown.element("Code").as_deref() == Some("InvalidStorageClass"),
        "{}",
        unknown.text()
    );
    // A rule out of bounds is not taken.
    for rule in [
        ["--copies", "0"],
        ["--copies", "17"],
        ["--pieces", "17"],
        ["--zones", "2"],
    ] {
        let arguments = [&["class", "set", "WRONG", "--copies", "1"][..], &rule].concat();
        let arguments = if rule[0] == "--copies" {
            [&["class", "set", "WRONG"][..], &rule].concat()
        } else {
            arguments
        };
        ensure!(admin.run(&arguments).is_err(), "{rule:?} was taken");
    }

    // A class that is given another rule: what comes from then on lies by that one.
    admin.run(&["class", "set", "SPREAD", "--copies", "1"])?;
    let object = stored(&s3, &admin, "SPREAD", content("again")).await?;
    ensure!(
        object.chunks.iter().all(|chunk| chunk.copies.len() == 1),
        "{object:?}"
    );
    admin.run(&[
        "class", "set", "SPREAD", "--copies", "2", "--zones", "2", "--pieces", "2",
    ])?;
    let object = stored(&s3, &admin, "SPREAD", content("once more")).await?;
    ensure!(
        object.chunks.iter().all(|chunk| chunk.copies.len() == 2),
        "{object:?}"
    );
    Ok(())
}
