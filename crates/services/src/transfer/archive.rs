//! Everything of a user as a ZIP file.

use super::{document::Document, file_name, markdown};
use crate::usage::table;
use contract::{
    Millis,
    account::{Language, Profile},
    ids::UserId,
};
use domain::{Error, Result};
use serde::Serialize;
use std::io::{Cursor, Write};
use store::TenantTx;
use time::OffsetDateTime;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// `profile.json`.
#[derive(Serialize)]
pub(crate) struct Person<'a> {
    pub email: &'a str,
    pub profile: &'a Profile,
    pub created_at: Millis,
}

/// A ZIP file in the making.
pub(crate) struct Archive {
    zip: ZipWriter<Cursor<Vec<u8>>>,
}

impl Default for Archive {
    fn default() -> Self {
        Self { zip: ZipWriter::new(Cursor::new(Vec::new())) }
    }
}

impl Archive {
    /// Adds a file.
    pub(crate) fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        self.zip.start_file(name, options).map_err(Error::internal)?;
        self.zip.write_all(&bytes).map_err(Error::internal)
    }

    /// Adds a value as JSON.
    pub(crate) fn json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.add(name, serde_json::to_vec_pretty(value).map_err(Error::internal)?)
    }

    /// Adds a chat in both forms. Compression takes its time, so it happens beside the request threads.
    pub(crate) async fn chat(mut self, number: usize, document: Document, language: Language) -> Result<Self> {
        let work = tokio::task::spawn_blocking(move || {
            let stem = format!("chats/{number:05}-{}", file_name(&document.conversation.title, ""));
            let stem = stem.trim_end_matches('.');
            self.json(&format!("{stem}.json"), &document)?;
            self.add(&format!("{stem}.md"), markdown::render(&document, language).into_bytes())?;
            Ok(self)
        });
        work.await.map_err(Error::internal)?
    }

    /// The finished file.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.zip.finish().map_err(Error::internal)?.into_inner())
    }
}

/// All usage of a user as CSV.
pub(crate) async fn usage(tx: &TenantTx, user: UserId, since: Millis, now: Millis) -> Result<String> {
    let day = |at: Millis| Ok::<_, Error>(OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).map_err(Error::internal)?.date());
    table(&tx.usage().report(user, day(since)?, day(now)?).await?)
}
