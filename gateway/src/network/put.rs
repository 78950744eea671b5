//! A chunk on the wire, as `ullage_model::wire::routes::CHUNK_PUT` says: the header as a framed message, the stored
//! bytes, their digest; back come framed reports, as they arise.

use crate::agent_client::{ChunkStream, ReportStream};
use crate::limits::REPORT_BYTES_MAX;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::io;
use ullage_model::codec;
use ullage_model::ids::VendorId;
use ullage_model::wire::chunk::{ChunkHeader, ChunkPart, HopReport};
use ullage_transport::client::{Answer, StreamBody as RequestBody};
use ullage_transport::frame::{framed, messages};

/// The request's body. It ends with the digest; an error of the sender resets the stream, so that nobody takes what
/// came for a chunk.
pub(super) fn body(header: &ChunkHeader, parts: ChunkStream) -> RequestBody {
    let head = stream::once(std::future::ready(Ok(framed(&codec::encode(header)))));
    let parts = parts.map(|part| match part {
        Ok(ChunkPart::Data(bytes)) => Ok(bytes),
        Ok(ChunkPart::End(digest)) => Ok(Bytes::copy_from_slice(&digest.0)),
        Err(refusal) => Err(io::Error::other(refusal)),
    });
    StreamBody::new(head.chain(parts).map(|bytes| bytes.map(Frame::data))).boxed_unsync()
}

/// The reports in a response's body. What is no report ends them, as a broken connection does: hops that were not
/// heard of until then have not stored.
pub(super) fn reports(from: VendorId, body: Answer) -> ReportStream {
    let reports = messages(body, REPORT_BYTES_MAX).map(move |message| {
        let message = message.map_err(|error| error.to_string())?;
        codec::decode::<HopReport>(&message).map_err(|error| error.to_string())
    });
    let sound = reports.scan((), move |(), report| {
        std::future::ready(match report {
            Ok(report) => Some(report),
            Err(reason) => {
                tracing::debug!(vendor = %from, reason, "the reports of a chunk broke off");
                None
            }
        })
    });
    sound.boxed()
}
