//! A plain HTTP server from memory: what the machine, its loopback and this client allow at most, and
//! the stub that the load generator's own tests run against. It checks nothing and stores only lengths:
//! the bytes of a GET are the generated ones of that key. It is no S3 server and must not become one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, ensure};
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::content::Content;

/// The most bytes of a request head.
const HEAD_BYTES: usize = 16 << 10;
/// The most bytes written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Lengths of objects by `bucket/key`, and of uploads' parts together.
#[derive(Default)]
struct Store {
    objects: Mutex<BTreeMap<String, u64>>,
    uploads: Mutex<BTreeMap<String, u64>>,
}

/// What the server does beyond the least.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Makes the bodies those that a client with the same seed expects.
    pub seed: u64,
    /// Whether a PUT answers with the MD5 of its body; that costs more than everything else.
    pub etags: bool,
}

/// A running server; it ends when the runtime does.
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bound {
    /// Starts on an address.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start(address: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr().context("find the address")?;
        let store = Arc::new(Store::default());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    // The client left or sent nonsense: that ends its connection and nobody else's.
                    let _ = serve(stream, &store, options).await;
                });
            }
        });
        Ok(Self { address })
    }
}

struct Parsed {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    length: u64,
    range: Option<(u64, u64)>,
    etag: Option<String>,
}

async fn serve(mut stream: TcpStream, store: &Store, options: Options) -> anyhow::Result<()> {
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let mut buffer = vec![0; 256 << 10];
    let mut have = 0;
    loop {
        let head_end = loop {
            if let Some(at) = buffer[..have].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(have < HEAD_BYTES, "head too large");
            let read = stream.read(&mut buffer[have..]).await?;
            if read == 0 {
                return Ok(());
            }
            have += read;
        };
        let mut parsed = parse(&buffer[..head_end])?;
        let mut digest = options.etags.then(Md5::new);
        let mut left = parsed.length;
        let here = left.min((have - head_end) as u64);
        left -= here;
        let used = head_end + usize::try_from(here)?;
        if let Some(digest) = &mut digest {
            digest.update(&buffer[head_end..used]);
        }
        buffer.copy_within(used..have, 0);
        have -= used;
        while left > 0 {
            let limit = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = stream.read(&mut buffer[..limit]).await?;
            ensure!(read > 0, "connection closed inside a body");
            if let Some(digest) = &mut digest {
                digest.update(&buffer[..read]);
            }
            left -= read as u64;
        }
        parsed.etag = digest.map(|digest| hex::encode(digest.finalize()));
        answer(&mut stream, store, options.seed, &parsed).await?;
    }
}

fn parse(head: &[u8]) -> anyhow::Result<Parsed> {
    let text = std::str::from_utf8(head).context("head is not UTF-8")?;
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)));
    let mut parsed = Parsed {
        method,
        key: decode(path.trim_start_matches('/')),
        query: query.collect(),
        length: 0,
        range: None,
        etag: None,
    };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.length = value.parse().context("content-length")?;
        } else if name.eq_ignore_ascii_case("range") {
            let (first, last) = value
                .trim_start_matches("bytes=")
                .split_once('-')
                .context("range")?;
            parsed.range = Some((first.parse().context("range")?, last.parse().context("range")?));
        }
    }
    Ok(parsed)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn answer(stream: &mut TcpStream, store: &Store, seed: u64, parsed: &Parsed) -> anyhow::Result<()> {
    let is_bucket = !parsed.key.trim_end_matches('/').contains('/');
    let upload = parsed.query.get("uploadId");
    match (parsed.method.as_str(), upload) {
        ("GET", _) if is_bucket => send(stream, 200, "", list(store, parsed).as_bytes()).await,
        ("PUT" | "HEAD", _) if is_bucket => send(stream, 200, "", b"").await,
        ("POST", None) => {
            let id = format!("{:016x}", rand::random::<u64>());
            let xml = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            locked(&store.uploads).insert(id, 0);
            send(stream, 200, "", xml.as_bytes()).await
        }
        ("PUT", Some(id)) => {
            *locked(&store.uploads).entry(id.clone()).or_default() += parsed.length;
            send(stream, 200, "etag: \"part\"\r\n", b"").await
        }
        ("POST", Some(id)) => {
            let length = locked(&store.uploads).remove(id).unwrap_or(0);
            locked(&store.objects).insert(parsed.key.clone(), length);
            let xml =
                b"<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
            send(stream, 200, "", xml).await
        }
        ("PUT", None) => {
            locked(&store.objects).insert(parsed.key.clone(), parsed.length);
            let etag = parsed.etag.as_deref().unwrap_or("none");
            send(stream, 200, &format!("etag: \"{etag}\"\r\n"), b"").await
        }
        ("DELETE", _) => {
            locked(&store.objects).remove(&parsed.key);
            send(stream, 204, "", b"").await
        }
        (method, _) => {
            let length = locked(&store.objects).get(&parsed.key).copied();
            match length {
                None => send(stream, 404, "", b"<Error><Code>NoSuchKey</Code></Error>").await,
                Some(length) => object(stream, seed, parsed, length, method == "HEAD").await,
            }
        }
    }
}

async fn object(
    stream: &mut TcpStream,
    seed: u64,
    parsed: &Parsed,
    length: u64,
    only_head: bool,
) -> anyhow::Result<()> {
    let name = parsed.key.split_once('/').map_or("", |(_, key)| key);
    let whole = Content::new(seed, name, length);
    let (status, content) = match parsed.range {
        None => ("200 OK", whole),
        Some((first, last)) => (
            "206 Partial Content",
            whole.part(first, (last + 1).saturating_sub(first)),
        ),
    };
    let mut out = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", content.length).into_bytes();
    let mut offset = 0;
    while !only_head && offset < content.length {
        let slice = content.slice(offset, WRITE_BYTES);
        offset += slice.len() as u64;
        if out.is_empty() {
            stream.write_all(slice).await?;
        } else {
            out.extend_from_slice(slice);
            stream.write_all(&out).await?;
            out.clear();
        }
    }
    if !out.is_empty() {
        stream.write_all(&out).await?;
    }
    Ok(())
}

fn list(store: &Store, parsed: &Parsed) -> String {
    let bucket = format!("{}/", parsed.key.trim_end_matches('/'));
    let text = |name: &str| parsed.query.get(name).map_or("", String::as_str);
    let prefix = format!("{bucket}{}", text("prefix"));
    let limit: usize = text("max-keys").parse().unwrap_or(1_000);
    let token = text("continuation-token");
    let start = if token.is_empty() {
        prefix.clone()
    } else {
        format!("{bucket}{token}\0")
    };
    let objects = locked(&store.objects);
    let mut found = objects
        .range(start..)
        .take_while(|(key, _)| key.starts_with(&prefix));
    let mut xml = String::from("<ListBucketResult>");
    let mut last = "";
    for (key, length) in found.by_ref().take(limit) {
        last = &key[bucket.len()..];
        xml.push_str(&format!(
            "<Contents><Key>{last}</Key><Size>{length}</Size></Contents>"
        ));
    }
    if found.next().is_some() {
        xml.push_str(&format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>{last}</NextContinuationToken>"
        ));
    }
    xml.push_str("</ListBucketResult>");
    xml
}

async fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> anyhow::Result<()> {
    let mut out = format!("HTTP/1.1 {status} x\r\n{headers}").into_bytes();
    if status != 204 {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    stream.write_all(&out).await.context("send")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::run::Prepared;
    use crate::load::target::Target;
    use crate::load::workload::{Spec, Workload};

    /// Every workload, verified, against the stub.
    #[test]
    fn every_workload_runs_verifies_counts_and_cleans_up() {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let address = "127.0.0.1:0".parse().expect("address");
        let bound = runtime
            .block_on(Bound::start(address, Options { seed: 1, etags: true }))
            .expect("server");
        let target = Target::parse(&format!("http://{}", bound.address)).expect("target");
        for workload in [
            Workload::Put,
            Workload::Get,
            Workload::Head,
            Workload::Mixed,
            Workload::Range,
            Workload::List,
            Workload::Delete,
            Workload::Multipart,
        ] {
            let mut spec = Spec::new(workload, 300_000, 5);
            spec.limit.operations = 40;
            spec.keys = 40;
            spec.page_keys = 7;
            spec.part_bytes = 70_000;
            spec.verify = true;
            let mut prepared = Prepared::new(&target, &spec, workload.name()).expect("prepare");
            for round in 0..2 {
                let summary = prepared.run().expect("run");
                assert_eq!(
                    (summary.errors, summary.refused),
                    (0, 0),
                    "{workload:?} {round}: {:?}",
                    summary.first_error
                );
                assert_eq!(summary.operations, 40, "{workload:?}");
                assert!(summary.p50_seconds > 0.0 && summary.p50_seconds <= summary.p99_seconds);
            }
            prepared.clean_up().expect("clean up");
            let s3 = crate::s3::S3::new(bound.address, target.credentials.clone());
            let left = runtime.block_on(s3.list_keys("bench", "")).expect("list");
            assert!(left.is_empty(), "{workload:?} left {left:?}");
        }
    }

    /// A server whose bytes are not the expected ones must be found out.
    #[test]
    fn a_wrong_byte_is_an_error_when_verifying() {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let address = "127.0.0.1:0".parse().expect("address");
        let bound = runtime
            .block_on(Bound::start(address, Options { seed: 2, etags: true }))
            .expect("server");
        let target = Target::parse(&format!("http://{}", bound.address)).expect("target");
        let mut spec = Spec::new(Workload::Get, 5_000, 2);
        spec.limit.operations = 5;
        spec.keys = 3;
        spec.verify = true;
        let summary = Prepared::new(&target, &spec, "wrong")
            .expect("prepare")
            .run()
            .expect("run");
        assert_eq!((summary.operations, summary.errors), (0, 5));
        assert!(
            summary
                .first_error
                .is_some_and(|words| words.contains("wrong byte"))
        );
    }
}
