//! The audit trail: sealed, proved, and taken elsewhere.

mod syslog;

use crate::shared::Shared;
use contract::Millis;
use domain::Result;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{
    Reason,
    audit_chain::{NO_HASH, Seal, SealedEvent},
};

/// Events that are sealed or read at a time.
const PAGE: u32 = 1_000;

/// What became of a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Every event is there as it was sealed. Keep the head elsewhere: with it, nobody can make the chain anew unnoticed.
    Whole { head: Option<Seal> },
    /// The chain is broken.
    Broken {
        /// The first seal that is wrong.
        number: u64,
        fault: Fault,
    },
    /// The chain is whole, but does not have the seal that was expected.
    Foreign { number: u64 },
    /// The chain is whole, but so many older events are not in it.
    Unsealed { events: u64 },
}

/// What is wrong with a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Seals are missing before it.
    Gap,
    /// Its event is gone.
    Missing,
    /// Its event, or one before it, is not what was sealed.
    Changed,
}

/// How an event is written on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A JSON object.
    Json,
    /// A message of syslog (RFC 5424). Its structured data have this private enterprise number.
    Syslog { enterprise: u32 },
}

impl Form {
    fn line(self, sealed: &SealedEvent) -> String {
        match self {
            Self::Json => json_line(sealed).to_string(),
            Self::Syslog { enterprise } => syslog::line(sealed, enterprise),
        }
    }
}

/// An event as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of its seal.
    pub number: u64,
    /// Without the end of a line.
    pub text: String,
}

/// Some events, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    pub lines: Vec<Line>,
    /// The number to go on after, whether or not its event is among them.
    pub last: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Audits {
    shared: Arc<Shared>,
}

impl Audits {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Proves the chain from its beginning. `expected` is a seal that was kept elsewhere.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn prove(&self, by: &str, expected: Option<Seal>) -> Result<Proof> {
        seal(&self.shared).await?;
        let mut last = Seal { number: 0, hash: NO_HASH };
        let mut met = expected.is_none();
        loop {
            let page = self.page(by, last.number).await?;
            for sealed in &page {
                if let Some(fault) = fault(sealed, &last) {
                    return Ok(Proof::Broken { number: sealed.seal.number, fault });
                }
                last = sealed.seal;
                met = met || expected == Some(last);
            }
            if page.is_empty() {
                break;
            }
        }
        if let Some(expected) = expected.filter(|_| !met) {
            return Ok(Proof::Foreign { number: expected.number });
        }
        let tx = self.shared.db.begin_system(by, Reason::Audit).await?;
        let forgotten = tx.audit_chain().forgotten().await?;
        tx.commit().await?;
        Ok(match forgotten {
            0 => Proof::Whole { head: Some(last).filter(|last| last.number > 0) },
            events => Proof::Unsealed { events },
        })
    }

    /// The number of the newest seal, now that all events have one; 0 if there is no event.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn newest(&self, by: &str) -> Result<u64> {
        seal(&self.shared).await?;
        let tx = self.shared.db.begin_system(by, Reason::Audit).await?;
        let head = tx.audit_chain().head().await?;
        tx.commit().await?;
        Ok(head.map_or(0, |head| head.number))
    }

    /// The next sealed events beyond a number, of these the ones from `since` on; `None` if there are no more.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn lines(&self, by: &str, after: u64, since: Millis, form: Form) -> Result<Option<Lines>> {
        let page = self.page(by, after).await?;
        let Some(last) = page.last().map(|last| last.seal.number) else { return Ok(None) };
        let wanted = page.iter().filter(|sealed| sealed.event.as_ref().is_none_or(|event| event.at() >= since));
        let line = |sealed: &SealedEvent| Line { number: sealed.seal.number, text: form.line(sealed) };
        Ok(Some(Lines { lines: wanted.map(line).collect(), last }))
    }

    async fn page(&self, by: &str, after: u64) -> Result<Vec<SealedEvent>> {
        let tx = self.shared.db.begin_system(by, Reason::Audit).await?;
        let page = tx.audit_chain().page(after, PAGE).await?;
        tx.commit().await?;
        Ok(page)
    }
}

/// Seals what is not sealed yet.
pub(crate) async fn seal(shared: &Shared) -> Result<()> {
    loop {
        let tx = shared.db.begin_system("audit chain", Reason::Audit).await?;
        let sealed = tx.audit_chain().seal(PAGE).await?;
        tx.commit().await?;
        if sealed < u64::from(PAGE) {
            return Ok(());
        }
    }
}

/// Tells where the chain is, for whoever keeps the log elsewhere.
pub(crate) async fn tell_head(shared: &Shared) -> Result<()> {
    let tx = shared.db.begin_system("audit chain", Reason::Audit).await?;
    let head = tx.audit_chain().head().await?;
    tx.commit().await?;
    if let Some(head) = head {
        tracing::info!(number = head.number, hash = hex(&head.hash), "the audit chain's head");
    }
    Ok(())
}

fn fault(sealed: &SealedEvent, before: &Seal) -> Option<Fault> {
    let number = before.number + 1;
    match &sealed.event {
        _ if sealed.seal.number != number => Some(Fault::Gap),
        None => Some(Fault::Missing),
        Some(event) if event.hash(&before.hash, number) != sealed.seal.hash => Some(Fault::Changed),
        Some(_) => None,
    }
}

fn json_line(sealed: &SealedEvent) -> Value {
    let (number, hash) = (sealed.seal.number, hex(&sealed.seal.hash));
    let Some(event) = &sealed.event else { return json!({ "number": number, "hash": hash, "missing": true }) };
    json!({
        "number": number, "hash": hash, "id": event.id, "at": event.at(), "tenant": event.tenant, "actor": event.actor,
        "action": event.action, "target": event.target, "detail": event.detail(), "request": event.request,
    })
}

/// As people write hashes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
