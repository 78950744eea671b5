//! A GET that takes its time while its object is deleted or overwritten: it ends byte-identical.

use std::time::Duration;

use ullage_integration::content::Content;
use ullage_integration::http1::{Body, Connection, Head};
use ullage_integration::s3::{Request, S3};
use ullage_integration::standalone::Standalone;
use ullage_integration::{patient, seed};

const BUCKET: &str = "slow";
/// Receive buffer of the slow reader: what the kernel takes off the server without being read.
const RECEIVE_BYTES: u32 = 64 << 10;

struct SlowReader {
    connection: Connection,
    head: Head,
    content: Content,
    offset: u64,
}

impl SlowReader {
    async fn start(s3: &S3, key: &str, content: Content) -> anyhow::Result<Self> {
        let mut connection = Connection::open_narrow(s3.address(), RECEIVE_BYTES).await?;
        connection
            .send(
                s3.head_bytes(&Request::object("GET", BUCKET, key), 0),
                Body::Empty,
            )
            .await?;
        let head = connection.read_head(false).await?;
        assert_eq!((head.status, head.content_length()), (200, Some(content.length)));
        Ok(Self {
            connection,
            head,
            content,
            offset: 0,
        })
    }

    /// Reads on until `end`, checking each byte, with a pause after each `pause_every` bytes.
    async fn read_to(&mut self, end: u64, pause_every: u64, pause: Duration) -> anyhow::Result<()> {
        let mut next_pause = self.offset + pause_every;
        while self.offset < end {
            let Some(piece) = self.connection.next_piece(&mut self.head).await? else {
                break;
            };
            assert_eq!(
                self.content.check(self.offset, piece),
                Ok(()),
                "wrong byte after the object changed"
            );
            self.offset += piece.len() as u64;
            if self.offset >= next_pause {
                next_pause += pause_every;
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    async fn read_to_end(&mut self) -> anyhow::Result<()> {
        let sixteenth = (self.content.length / 16).max(1);
        self.read_to(u64::MAX, sixteenth, Duration::from_millis(500))
            .await?;
        assert_eq!(self.offset, self.content.length, "the GET must end whole");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_get_survives_delete_and_overwrite() -> anyhow::Result<()> {
    let seed = seed::announce("a_slow_get_survives_delete_and_overwrite");
    let length = seed::number_from_env("ULLAGE_TEST_LARGE_MIB", 1024) << 20;
    let standalone = Standalone::start_default().await?;
    let s3 = standalone.s3()?;
    s3.create_bucket(BUCKET).await?;
    let old = Content::new(seed, "old", length);
    for key in ["deleted", "overwritten"] {
        s3.put_multipart(BUCKET, key, old, 64 << 20).await?;
    }
    let mut of_deleted = SlowReader::start(&s3, "deleted", old).await?;
    let mut of_overwritten = SlowReader::start(&s3, "overwritten", old).await?;
    let first = length / 8;
    of_deleted.read_to(first, u64::MAX / 2, Duration::ZERO).await?;
    of_overwritten
        .read_to(first, u64::MAX / 2, Duration::ZERO)
        .await?;

    s3.delete(BUCKET, "deleted").await?;
    let new = Content::new(seed, "new", 5 << 20);
    patient::put(&s3, BUCKET, "overwritten", Body::Content(new)).await?;
    assert_eq!(
        s3.get(BUCKET, "deleted").await?.status(),
        404,
        "the delete shows at once"
    );
    s3.check(BUCKET, "overwritten", new).await?;
    // Other work goes on meanwhile, so that the log moves and releases are looked at.
    for index in 0..50 {
        let content = Content::new(seed, &format!("{index}"), 200_000);
        patient::put(&s3, BUCKET, &format!("other/{index}"), Body::Content(content)).await?;
        s3.delete(BUCKET, &format!("other/{index}")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (one, other) = tokio::join!(of_deleted.read_to_end(), of_overwritten.read_to_end());
    one?;
    other?;
    s3.check(BUCKET, "overwritten", new).await
}
