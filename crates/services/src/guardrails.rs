//! Guardrails, for whoever administers them, and what they find in a text.

use crate::shared::Shared;
use contract::ids::TenantId;
use domain::{Action, Actor, Error, Result};
use inference::{
    Limits,
    guard::{Guard, Policy},
};
use serde_json::Value;
use std::sync::Arc;
use store::{Reason, audit::AuditEvent};

/// What stands for a model in answers and limits of moderation.
pub const MODERATION: &str = "kontor-guardrails";
/// Texts of one call.
pub const MOST_TEXTS: usize = 256;
/// Bytes of all of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// What a rule sees in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The rule's name.
    pub rule: String,
    /// The kind of its check, like `pii`.
    pub kind: &'static str,
    /// How sure it is, 0 to 1.
    pub score: f32,
}

/// What moderation of texts says: for each what was found, and how the key's limits stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Moderated {
    pub found: Vec<Vec<Found>>,
    pub limits: Limits,
}

/// See the module. Methods of administration take the name of who acts, for the audit trail.
#[derive(Clone)]
pub struct Guardrails {
    shared: Arc<Shared>,
}

impl Guardrails {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Puts these rules in the place of those that a tenant has. They are in force everywhere within two seconds.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `policy`, with the reason.
    pub async fn set(&self, by: &str, tenant: TenantId, policy: Value) -> Result<Policy> {
        let (policy, _) = read(policy)?;
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.guardrails().set(tenant, serde_json::to_value(&policy).map_err(Error::internal)?).await?;
        let names: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        let event = AuditEvent::new(by, "guardrails.set").target(tenant).detail("rules", names.join(" "));
        tx.audit(&event.detail("images", policy.images.name()), Some(tenant)).await?;
        tx.commit().await?;
        Ok(policy)
    }

    /// The rules of a tenant; `None` if it has none.
    ///
    /// # Errors
    /// As for any statement; [`Error::Internal`] for rules that this version cannot read.
    pub async fn get(&self, by: &str, tenant: TenantId) -> Result<Option<Policy>> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        let stored = tx.guardrails().get(tenant).await?;
        tx.commit().await?;
        stored.map(serde_json::from_value).transpose().map_err(Error::internal)
    }

    /// Takes a tenant's rules away.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it has none.
    pub async fn remove(&self, by: &str, tenant: TenantId) -> Result<()> {
        let tx = self.shared.db.begin_system(by, Reason::Administration).await?;
        tx.guardrails().remove(tenant).await?;
        tx.audit(&AuditEvent::new(by, "guardrails.removed").target(tenant), Some(tenant)).await?;
        tx.commit().await
    }

    /// What the rules of a tenant see in a text. Nothing is written down but that somebody tried.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it has none.
    pub async fn try_out(&self, by: &str, tenant: TenantId, text: &str) -> Result<Vec<Found>> {
        let policy = self.get(by, tenant).await?.ok_or_else(|| Error::not_found("guardrails"))?;
        let guard = Guard::new(&policy).map_err(Error::internal)?;
        Ok(found(&guard, text))
    }

    /// What the rules of a program's organisation see in each text; nothing where it has none. It costs nothing and counts as a
    /// request; in limits of one model it is that of [`MODERATION`].
    ///
    /// # Errors
    /// [`Error::Forbidden`] without the scope; [`Error::Invalid`] on `input` for too many texts or too long ones;
    /// [`Error::QuotaExceeded`] by a limit; [`Error::Unavailable`] if the rules cannot be read, or a classifier did not answer.
    pub async fn moderate(&self, actor: &Actor, texts: Vec<String>) -> Result<Moderated> {
        actor.may(Action::UseModels)?;
        if !(1..=MOST_TEXTS).contains(&texts.len()) {
            return Err(Error::invalid("input", "out_of_range", format!("There must be 1 to {MOST_TEXTS} texts.")));
        }
        if texts.iter().map(String::len).sum::<usize>() > MOST_BYTES {
            return Err(Error::invalid("input", "too_large", format!("All texts together may have at most {} MiB.", MOST_BYTES >> 20)));
        }
        let counted = self.shared.inference.count_request(actor, MODERATION).await?;
        let limits = counted.limits();
        let Some(guard) = self.shared.inference.guardrails(actor, &texts).await? else {
            return Ok(Moderated { found: vec![Vec::new(); texts.len()], limits });
        };
        // Megabytes take a while; other requests go on meanwhile. Its place is taken as long as it runs, whoever left.
        let look = move || {
            let found: Vec<Vec<Found>> = texts.iter().map(|text| found(&guard, text)).collect();
            drop(counted);
            found
        };
        let found = tokio::task::spawn_blocking(look).await.map_err(Error::internal)?;
        Ok(Moderated { found, limits })
    }
}

fn read(policy: Value) -> Result<(Policy, Guard)> {
    let wrong = |message: String| Error::invalid("policy", "bad_policy", message);
    let policy: Policy = serde_json::from_value(policy).map_err(|error| wrong(error.to_string()))?;
    let guard = Guard::new(&policy).map_err(|error| wrong(error.to_string()))?;
    Ok((policy, guard))
}

fn found(guard: &Guard, text: &str) -> Vec<Found> {
    let findings = guard.moderate(text).into_iter().filter(|finding| finding.flagged);
    findings.map(|finding| Found { rule: finding.rule.to_owned(), kind: finding.kind.name(), score: finding.score }).collect()
}
