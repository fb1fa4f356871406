//! Transactions as capabilities: a repository can be had from a transaction and from nowhere else.

use crate::{
    administration::Administration,
    api_keys::SystemApiKeys,
    attachments::Attachments,
    audit::{self, Audit, AuditEvent},
    audit_chain::AuditChain,
    batch_runs::{BatchRuns, SystemBatches},
    batches::Batches,
    budgets::{Budgets, SystemBudgets},
    conversations::{Conversations, SystemConversations},
    credentials::{Credentials, SystemCredentials},
    error::map,
    files::{Files, SystemFiles},
    guardrails::SystemGuardrails,
    imports::Imports,
    ledger_counts::SystemLedgerCounts,
    ledger_days::SystemLedgerDays,
    messages::Messages,
    prices::SystemPrices,
    prompts::Prompts,
    rate_limits::SystemRateLimits,
    response_caches::SystemResponseCaches,
    response_runs::{ResponseRuns, SystemResponses},
    responses::Responses,
    search::Search,
    service_accounts::SystemServiceAccounts,
    sessions::{Sessions, SystemSessions},
    tenants::{SystemTenants, Tenants},
    throttle::Throttle,
    turns::{SystemTurns, Turns},
    upstream_credentials::SystemUpstreamCredentials,
    usage::{SystemUsage, Usage},
    users::{SystemUsers, Users},
};
use contract::ids::TenantId;
use domain::Result;
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use std::sync::atomic::{AtomicU64, Ordering};

/// A transaction within one tenant. Dropped without [`TenantTx::commit`], it leaves no trace.
#[derive(Debug)]
pub struct TenantTx {
    tx: DatabaseTransaction,
    tenant: TenantId,
}

impl TenantTx {
    pub(crate) fn new(tx: DatabaseTransaction, tenant: TenantId) -> Self {
        Self { tx, tenant }
    }

    /// The connection, for the repositories of this crate alone.
    pub(crate) fn conn(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// The tenant this transaction is bound to.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Keeps what was done.
    ///
    /// # Errors
    /// [`domain::Error::Unavailable`] when the connection is lost, [`domain::Error::Internal`] when a deferred
    /// constraint is violated; nothing is kept then.
    pub async fn commit(self) -> Result<()> {
        self.tx.commit().await.map_err(map)
    }

    #[must_use]
    pub fn tenants(&self) -> Tenants<'_> {
        Tenants::new(self)
    }

    #[must_use]
    pub fn users(&self) -> Users<'_> {
        Users::new(self)
    }

    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials::new(self)
    }

    #[must_use]
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions::new(self)
    }

    #[must_use]
    pub fn usage(&self) -> Usage<'_> {
        Usage::new(self)
    }

    #[must_use]
    pub fn budgets(&self) -> Budgets<'_> {
        Budgets::new(self)
    }

    #[must_use]
    pub fn audit(&self) -> Audit<'_> {
        Audit::new(self)
    }

    #[must_use]
    pub fn conversations(&self) -> Conversations<'_> {
        Conversations::new(self)
    }

    #[must_use]
    pub fn messages(&self) -> Messages<'_> {
        Messages::new(self)
    }

    #[must_use]
    pub fn attachments(&self) -> Attachments<'_> {
        Attachments::new(self)
    }

    #[must_use]
    pub fn turns(&self) -> Turns<'_> {
        Turns::new(self)
    }

    #[must_use]
    pub fn responses(&self) -> Responses<'_> {
        Responses::new(self)
    }

    #[must_use]
    pub fn response_runs(&self) -> ResponseRuns<'_> {
        ResponseRuns::new(self)
    }

    #[must_use]
    pub fn files(&self) -> Files<'_> {
        Files::new(self)
    }

    #[must_use]
    pub fn batches(&self) -> Batches<'_> {
        Batches::new(self)
    }

    #[must_use]
    pub fn batch_runs(&self) -> BatchRuns<'_> {
        BatchRuns::new(self)
    }

    #[must_use]
    pub fn prompts(&self) -> Prompts<'_> {
        Prompts::new(self)
    }

    #[must_use]
    pub fn imports(&self) -> Imports<'_> {
        Imports::new(self)
    }

    #[must_use]
    pub fn search(&self) -> Search<'_> {
        Search::new(self)
    }
}

/// Why somebody works across tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody proves who they are. The caller writes the audit rows, because it knows the result.
    SignIn,
    /// First start: the first tenant and its people. Audited when the transaction begins.
    Bootstrap,
    /// A platform administrator or a command. Audited when the transaction begins.
    Administration,
    /// A periodic job ends what a dead process left (open usage events, running turns). Audited at commit,
    /// and only if it changed something: a job that runs every minute would bury everything else.
    Sweep,
    /// A periodic job removes what is past its time. Audited like [`Reason::Sweep`].
    Purge,
    /// The audit trail itself is sealed or read. Not audited: it would never come to an end.
    Audit,
}

impl Reason {
    /// The `action` of the audit row.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Self::SignIn => "system.sign_in",
            Self::Bootstrap => "system.bootstrap",
            Self::Administration => "system.administration",
            Self::Sweep => "system.sweep",
            Self::Purge => "system.purge",
            Self::Audit => "system.audit",
        }
    }

    pub(crate) fn is_audited_at_begin(self) -> bool {
        matches!(self, Self::Bootstrap | Self::Administration)
    }

    fn is_audited_at_commit(self) -> bool {
        matches!(self, Self::Sweep | Self::Purge)
    }
}

/// A transaction across tenants, on the system login. Dropped without [`SystemTx::commit`], it leaves no trace
/// but its audit row.
#[derive(Debug)]
pub struct SystemTx {
    tx: DatabaseTransaction,
    by: String,
    reason: Reason,
    changed: AtomicU64,
}

impl SystemTx {
    pub(crate) fn new(tx: DatabaseTransaction, by: &str, reason: Reason) -> Self {
        Self { tx, by: by.to_owned(), reason, changed: AtomicU64::new(0) }
    }

    /// The connection, for the repositories of this crate alone.
    pub(crate) fn conn(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// Counts rows that a job changed, for the audit row at commit. Returns the same number.
    pub(crate) fn changed(&self, rows: u64) -> u64 {
        self.changed.fetch_add(rows, Ordering::Relaxed);
        rows
    }

    /// Keeps what was done.
    ///
    /// # Errors
    /// As [`TenantTx::commit`].
    pub async fn commit(self) -> Result<()> {
        let changed = self.changed.into_inner();
        if self.reason.is_audited_at_commit() && changed > 0 {
            let event = AuditEvent::new(&self.by, self.reason.action()).detail("rows", changed);
            self.tx.execute_raw(audit::insert(&event, None)).await.map_err(map)?;
        }
        self.tx.commit().await.map_err(map)
    }

    /// Adds to the audit trail; `tenant` is `None` for what belongs to no tenant.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn audit(&self, event: &AuditEvent, tenant: Option<TenantId>) -> Result<()> {
        self.tx.execute_raw(audit::insert(event, tenant)).await.map_err(map)?;
        Ok(())
    }

    #[must_use]
    pub fn service_accounts(&self) -> SystemServiceAccounts<'_> {
        SystemServiceAccounts::new(self)
    }

    #[must_use]
    pub fn api_keys(&self) -> SystemApiKeys<'_> {
        SystemApiKeys::new(self)
    }

    #[must_use]
    pub fn audit_chain(&self) -> AuditChain<'_> {
        AuditChain::new(self)
    }

    #[must_use]
    pub fn prices(&self) -> SystemPrices<'_> {
        SystemPrices::new(self)
    }

    #[must_use]
    pub fn budgets(&self) -> SystemBudgets<'_> {
        SystemBudgets::new(self)
    }

    #[must_use]
    pub fn rate_limits(&self) -> SystemRateLimits<'_> {
        SystemRateLimits::new(self)
    }

    #[must_use]
    pub fn guardrails(&self) -> SystemGuardrails<'_> {
        SystemGuardrails::new(self)
    }

    #[must_use]
    pub fn ledger_days(&self) -> SystemLedgerDays<'_> {
        SystemLedgerDays::new(self)
    }

    #[must_use]
    pub fn ledger_counts(&self) -> SystemLedgerCounts<'_> {
        SystemLedgerCounts::new(self)
    }

    /// Whose answers are kept.
    #[must_use]
    pub fn response_caches(&self) -> SystemResponseCaches<'_> {
        SystemResponseCaches::new(self)
    }

    /// Keys of upstreams, sealed.
    #[must_use]
    pub fn upstream_credentials(&self) -> SystemUpstreamCredentials<'_> {
        SystemUpstreamCredentials::new(self)
    }

    #[must_use]
    pub fn administration(&self) -> Administration<'_> {
        Administration::new(self)
    }

    #[must_use]
    pub fn tenants(&self) -> SystemTenants<'_> {
        SystemTenants::new(self)
    }

    #[must_use]
    pub fn users(&self) -> SystemUsers<'_> {
        SystemUsers::new(self)
    }

    #[must_use]
    pub fn credentials(&self) -> SystemCredentials<'_> {
        SystemCredentials::new(self)
    }

    #[must_use]
    pub fn sessions(&self) -> SystemSessions<'_> {
        SystemSessions::new(self)
    }

    #[must_use]
    pub fn throttle(&self) -> Throttle<'_> {
        Throttle::new(self)
    }

    #[must_use]
    pub fn usage(&self) -> SystemUsage<'_> {
        SystemUsage::new(self)
    }

    #[must_use]
    pub fn conversations(&self) -> SystemConversations<'_> {
        SystemConversations::new(self)
    }

    #[must_use]
    pub fn turns(&self) -> SystemTurns<'_> {
        SystemTurns::new(self)
    }

    #[must_use]
    pub fn responses(&self) -> SystemResponses<'_> {
        SystemResponses::new(self)
    }

    #[must_use]
    pub fn files(&self) -> SystemFiles<'_> {
        SystemFiles::new(self)
    }

    #[must_use]
    pub fn batches(&self) -> SystemBatches<'_> {
        SystemBatches::new(self)
    }
}
