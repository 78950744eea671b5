//! Where an object's bytes are: pages of spans, asked for as they are needed and again when they turned out old.

use crate::error::Error;
use crate::session::Session;
use std::collections::VecDeque;
use std::sync::Arc;
use ullage_model::namespace::rows::Content;
use ullage_model::wire::metad::{Answer, LocateSource, LocatedSpan, Query};

/// Spans of one version's bytes.
#[derive(Debug)]
pub struct Locator {
    source: Option<LocateSource>,
    spans: VecDeque<LocatedSpan>,
    /// One past the last plaintext byte wanted.
    end: u64,
}

impl Locator {
    /// Spans of `content` up to `end`, of which `spans` are known already.
    #[must_use]
    pub fn new(content: &Content, spans: Vec<LocatedSpan>, end: u64) -> Self {
        let source = match content {
            Content::Empty => None,
            Content::Single(extent) | Content::Shared(extent) | Content::Held(extent, _) => {
                Some(LocateSource::Extent(extent.clone()))
            }
            Content::Manifest(manifest) => Some(LocateSource::Manifest(*manifest)),
        };
        Self {
            source,
            spans: spans.into(),
            end,
        }
    }

    /// The span that holds byte `offset`. Spans before it are forgotten.
    ///
    /// # Errors
    /// `Error::Cut` when the version's bytes are gone; or when the metadata service does not answer.
    pub async fn span_at(&mut self, session: &Arc<Session>, offset: u64) -> Result<LocatedSpan, Error> {
        while self
            .spans
            .front()
            .is_some_and(|span| span.offset + span.bytes <= offset)
        {
            self.spans.pop_front();
        }
        if self.spans.front().is_none_or(|span| span.offset > offset) {
            self.spans = self
                .ask(session, offset, self.end.saturating_sub(offset))
                .await?
                .into();
        }
        match self.spans.front() {
            Some(span) if span.offset <= offset && offset < span.offset + span.bytes => Ok(span.clone()),
            Some(_) => Err(Error::UnexpectedAnswer("where bytes are")),
            None => Err(Error::Cut("its bytes are not there any more")),
        }
    }

    /// The span that holds byte `offset` as it is now, whatever was known of it.
    ///
    /// # Errors
    /// As [`Locator::span_at`].
    pub async fn again(
        source: &LocateSource,
        session: &Arc<Session>,
        offset: u64,
    ) -> Result<LocatedSpan, Error> {
        let mut fresh = Self {
            source: Some(source.clone()),
            spans: VecDeque::new(),
            end: offset + 1,
        };
        fresh.span_at(session, offset).await
    }

    /// What later questions go by; `None` for no bytes.
    #[must_use]
    pub fn source(&self) -> Option<&LocateSource> {
        self.source.as_ref()
    }

    async fn ask(&self, session: &Arc<Session>, offset: u64, bytes: u64) -> Result<Vec<LocatedSpan>, Error> {
        let Some(source) = self.source.clone() else {
            return Ok(Vec::new());
        };
        let reply = session
            .query(Query::Locate {
                source,
                offset,
                bytes,
            })
            .await?;
        match reply.answer {
            Answer::Located(spans) => Ok(spans),
            _ => Err(Error::UnexpectedAnswer("where bytes are")),
        }
    }
}
