//! A form (`multipart/form-data`) off the wire: its fields first, in bounded memory and time, and then its file as
//! a body to pull from. What comes behind the file is not looked at.

use super::body::ByteSource;
use super::limits::DOCUMENT_IDLE;
use crate::limits::BODY_BYTES_PER_S_MIN;
use crate::s3::S3Error;
use crate::s3::error::{ErrorCode, Result};
use crate::s3::form::FormFields;
use crate::s3::limits::{FORM_FIELDS_BYTES_MAX, FORM_HEAD_BYTES_MAX};
use bytes::Bytes;
use futures::Stream;
use futures::stream;
use multer::{Field, Multipart};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// The field whose value is the object.
const FILE: &str = "file";
/// While fields are read, so many bytes at a time are handed on.
const SLICE_BYTES: usize = 4096;

/// A form up to its file.
pub(crate) struct Form<'a> {
    /// The fields before the file, with the file's name put in where they ask for it.
    pub(crate) fields: FormFields,
    /// The file.
    pub(crate) file: FormFile<'a>,
}

/// A form's file: its bytes end where the form says, or they fail.
pub(crate) struct FormFile<'a>(Field<'a>);

/// Memory that reading the fields may take: as they come, and as they are kept.
pub(crate) const FORM_MEMORY: u64 = 2 * FORM_HEAD_BYTES_MAX;

/// What parts the fields of a form of this type.
///
/// # Errors
/// PreconditionFailed when this is no form.
pub(crate) fn boundary(content_type: Option<&str>) -> Result<String> {
    let boundary = content_type.and_then(|text| multer::parse_boundary(text).ok());
    boundary
        .ok_or_else(|| S3Error::precondition("Bucket POST must be of the enclosure-type multipart/form-data"))
}

impl<'a> Form<'a> {
    /// Reads the fields up to the file.
    ///
    /// # Errors
    /// MalformedPOSTRequest; MaxPostPreDataLengthExceeded; InvalidArgument; RequestTimeout for a client that sends
    /// too slowly.
    pub(crate) async fn read<S: ByteSource>(body: &'a mut S, boundary: String) -> Result<Self> {
        let left = Arc::new(AtomicU64::new(FORM_HEAD_BYTES_MAX));
        let form = Multipart::new(wire(body, Arc::clone(&left)), boundary);
        let within = DOCUMENT_IDLE + Duration::from_secs(FORM_HEAD_BYTES_MAX / BODY_BYTES_PER_S_MIN);
        let read = timeout(within, read_fields(form)).await;
        let form = read.map_err(|_| S3Error::from(ErrorCode::RequestTimeout))??;
        // From here on it is the file's bytes that come, whose bound is the policy's.
        left.store(u64::MAX, Ordering::Relaxed);
        Ok(form)
    }
}

async fn read_fields(mut form: Multipart<'_>) -> Result<Form<'_>> {
    let mut fields = FormFields::default();
    loop {
        let field = form.next_field().await.map_err(of_form)?.ok_or_else(|| {
            S3Error::argument(FILE, "", "POST requires exactly one file upload per request.")
        })?;
        let name = field.name().unwrap_or("").to_owned();
        if name.is_empty() {
            return Err(ErrorCode::MalformedPOSTRequest.into());
        }
        if name.eq_ignore_ascii_case(FILE) {
            fields.set_filename(field.file_name().unwrap_or(""))?;
            let file = FormFile(field);
            return Ok(Form { fields, file });
        }
        let value = field.bytes().await.map_err(of_form)?;
        let value = String::from_utf8(value.into())
            .map_err(|_| S3Error::argument(&name, "", "A field of a form must be UTF-8."))?;
        fields.add(&name, value)?;
    }
}

/// The body's bytes. One piece at a time: the reader of the form takes in whatever is there at once. Before the
/// file they come in slices, and not more than `left` of them.
fn wire<S: ByteSource>(body: &mut S, left: Arc<AtomicU64>) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold((body, Bytes::new(), left), |(body, mut rest, left)| async move {
        tokio::task::yield_now().await;
        if rest.is_empty() {
            match body.read().await {
                Ok(Some(data)) => rest = data,
                Ok(None) => return None,
                Err(error) => return Some((Err(error), (body, rest, left))),
            }
        }
        let allowed = left.load(Ordering::Relaxed);
        if allowed == u64::MAX {
            let data = std::mem::take(&mut rest);
            return Some((Ok(data), (body, rest, left)));
        }
        let slice = rest.split_to(rest.len().min(SLICE_BYTES));
        match allowed.checked_sub(slice.len() as u64) {
            Some(allowed) => {
                left.store(allowed, Ordering::Relaxed);
                Some((Ok(slice), (body, rest, left)))
            }
            None => {
                let error = S3Error::from(ErrorCode::MaxPostPreDataLengthExceeded);
                Some((Err(error), (body, rest, left)))
            }
        }
    })
}

impl ByteSource for FormFile<'_> {
    async fn read(&mut self) -> Result<Option<Bytes>> {
        self.0.chunk().await.map_err(of_form)
    }
}

/// What is wrong with a form; what the wire itself failed with comes through as it was.
fn of_form(error: multer::Error) -> S3Error {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<S3Error>() {
            Ok(error) => *error,
            Err(_) => ErrorCode::IncompleteBody.into(),
        },
        multer::Error::IncompleteFieldData { .. } | multer::Error::IncompleteStream => {
            ErrorCode::IncompleteBody.into()
        }
        _ => ErrorCode::MalformedPOSTRequest.into(),
    }
}

const _: () = assert!(FORM_FIELDS_BYTES_MAX as u64 + SLICE_BYTES as u64 <= FORM_HEAD_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, proptest};
    use proptest::{prop_assert, prop_assert_eq, prop_oneof};

    const CONTENT_TYPE: &str = "multipart/form-data; boundary=edge";

    #[test]
    fn what_is_no_form_has_no_boundary() {
        for content_type in [None, Some("text/plain"), Some("multipart/form-data")] {
            assert!(boundary(content_type).is_err(), "{content_type:?}");
        }
    }

    /// Bytes in pieces of these lengths, over and over.
    struct Pieces(Bytes, Vec<usize>, usize);

    impl ByteSource for Pieces {
        async fn read(&mut self) -> Result<Option<Bytes>> {
            if self.0.is_empty() {
                return Ok(None);
            }
            let length = self.1.get(self.2 % self.1.len().max(1)).copied().unwrap_or(1);
            self.2 += 1;
            Ok(Some(self.0.split_to(length.clamp(1, self.0.len()))))
        }
    }

    /// The fields and the file of a form, or what is wrong with it.
    fn read(form: &[u8], pieces: Vec<usize>) -> Result<(FormFields, Vec<u8>)> {
        let mut source = Pieces(Bytes::copy_from_slice(form), pieces, 0);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let Form { fields, mut file } = Form::read(&mut source, boundary(Some(CONTENT_TYPE))?).await?;
            let mut bytes = Vec::new();
            while let Some(data) = file.read().await? {
                bytes.extend_from_slice(&data);
            }
            Ok((fields, bytes))
        })
    }

    fn form(fields: &[(String, String)], file: &[u8]) -> Vec<u8> {
        let mut form = Vec::new();
        for (name, value) in fields {
            let part =
                format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            form.extend_from_slice(part.as_bytes());
        }
        form.extend_from_slice(
            b"--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
        );
        form.extend_from_slice(file);
        form.extend_from_slice(b"\r\n--edge--\r\n");
        form
    }

    /// Bytes among which pieces of a border are frequent, but no whole one.
    fn file() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            vec(any::<u8>(), 0..9),
            proptest::sample::select(vec![
                "\r",
                "\n",
                "\r\n",
                "\r\n-",
                "\r\n--",
                "\r\n--edg",
                "--edge",
                "-"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ];
        vec(piece, 0..20)
            .prop_map(|pieces| pieces.concat())
            .prop_filter("a whole border", |bytes| {
                // The border behind the file may begin with the file's own end.
                !bytes.windows(8).any(|window| window == b"\r\n--edge")
            })
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        vec(prop_oneof![4 => 1..12_usize, 1 => 12..9000_usize], 1..6)
    }

    proptest! {
        #[test]
        fn forms_come_through_however_they_are_cut(
            names in proptest::collection::btree_map("[a-z]{1,8}x", "[ -~]{0,20}", 0..5),
            file in file(),
            lengths in lengths(),
        ) {
            let fields: Vec<(String, String)> = names.into_iter().collect();
            let (read, bytes) = read(&form(&fields, &file), lengths).expect("a form");
            prop_assert_eq!(bytes, file);
            for (name, value) in &fields {
                prop_assert_eq!(read.get(name), Some(value.as_str()));
            }
        }

        #[test]
        fn a_form_that_is_cut_off_is_no_form(file in file(), lengths in lengths(), cut in 9..200_usize) {
            let whole = form(&[("key".to_owned(), "k".to_owned())], &file);
            let end = whole.len().saturating_sub(cut);
            prop_assert!(read(&whole[..end], lengths).is_err());
        }

        #[test]
        fn nothing_makes_the_reader_panic(
            noise in vec(prop_oneof![
                vec(any::<u8>(), 0..30),
                proptest::sample::select(vec![
                    "--edge", "\r\n", "--", "Content-Disposition: form-data", "; name=\"file\"", "; name=key", ":",
                ]).prop_map(|text| text.as_bytes().to_vec()),
            ], 0..30),
            lengths in lengths(),
        ) {
            let _ = read(&noise.concat(), lengths);
        }
    }

    #[test]
    fn what_comes_before_the_file_is_bounded() {
        let code = |form: &[u8]| read(form, vec![7000]).map(|_| ()).map_err(|error| error.code());
        let field = |bytes: usize| form(&[("key".to_owned(), "k".repeat(bytes))], b"x");
        assert_eq!(code(&field(20_000)), Ok(()));
        let too_long = Err(ErrorCode::MaxPostPreDataLengthExceeded);
        for bytes in [20 * 1024, 40_000, 10_000_000] {
            assert_eq!(code(&field(bytes)), too_long, "{bytes}");
        }
        // A part whose head never ends, a form that never begins, and parts without number.
        let endless = format!("--edge\r\nContent-Disposition: {}", "x".repeat(10_000_000));
        assert_eq!(code(endless.as_bytes()), too_long);
        assert_eq!(code(&vec![b'-'; 10_000_000]), too_long);
        let many: Vec<_> = (0..100_000)
            .map(|n| (format!("x-ignore-{n}"), String::new()))
            .collect();
        assert_eq!(code(&form(&many, b"x")), too_long);
    }
}
