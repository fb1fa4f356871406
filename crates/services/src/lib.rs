//! What the product can do for people: chats, turns, prompt history, usage, account, import and export; and for
//! programs: completions, responses, vectors, scores, files, batches.
//!
//! Every method takes the [`Actor`](domain::Actor) first, asks [`Actor::may`](domain::Actor::may) before anything
//! else, and names the owner in every query: somebody else's object is *not found*. Edges (server functions, plain
//! routes) parse, call one method and render.

#[cfg(target_family = "wasm")]
compile_error!("`services` is server-only");

pub mod account;
pub mod api;
pub mod audit;
pub mod batches;
pub mod charges;
pub mod chats;
mod check;
mod cursor;
pub mod files;
pub mod guardrails;
mod jobs;
mod ledger;
pub mod models;
pub mod prompts;
pub mod quotas;
pub mod response_caches;
pub mod responses;
mod running;
mod shared;
pub mod transfer;
pub mod turns;
pub mod upstream_credentials;
pub mod usage;

pub use account::Account;
pub use api::{Api, Asking, Completion};
pub use audit::Audits;
pub use batches::Batches;
pub use charges::Charges;
pub use chats::{AttachmentText, Chats, ListConversations};
pub use files::{FileLimits, Files};
pub use guardrails::Guardrails;
pub use models::Models;
pub use prompts::Prompts;
pub use quotas::Quotas;
pub use response_caches::ResponseCaches;
pub use responses::Responses;
pub use transfer::{File, Transfer};
pub use turns::{Events, Turns};
pub use upstream_credentials::UpstreamCredentials;
pub use usage::UsageReports;

use domain::{Clock, Result};
use identity::Identity;
use inference::{Inference, Priority};
use shared::Shared;
use std::{sync::Arc, time::Duration};
use store::Db;

/// How long answers to programs go on when the process is about to end.
const GRACE: Duration = Duration::from_secs(3);

/// Everything at once, for the edges. Clones share everything.
#[derive(Clone)]
pub struct Services {
    pub chats: Chats,
    pub turns: Turns,
    pub prompts: Prompts,
    pub usage: UsageReports,
    pub account: Account,
    pub transfer: Transfer,
    pub models: Models,
    pub api: Api,
    pub responses: Responses,
    pub files: Files,
    pub batches: Batches,
    pub quotas: Quotas,
    pub guardrails: Guardrails,
    pub response_caches: ResponseCaches,
    pub audit: Audits,
    pub charges: Charges,
    shared: Arc<Shared>,
    /// Days that single uses stay in the ledger; `None`: for ever.
    keep_ledger: Option<u32>,
}

impl Services {
    /// Puts the services together. Starts nothing; see [`Services::run_jobs`].
    #[must_use]
    pub fn new(db: Db, inference: Inference, identity: Identity, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared::new(db, inference, identity, clock));
        let turns = Turns::new(shared.clone());
        Self {
            chats: Chats::new(shared.clone(), turns.clone()),
            prompts: Prompts::new(shared.clone()),
            usage: UsageReports::new(shared.clone()),
            account: Account::new(shared.clone(), turns.clone()),
            transfer: Transfer::new(shared.clone()),
            models: Models::new(shared.clone()),
            api: Api::new(shared.clone()),
            responses: Responses::new(shared.clone()),
            files: Files::new(shared.clone()),
            batches: Batches::new(shared.clone()),
            quotas: Quotas::new(shared.clone()),
            guardrails: Guardrails::new(shared.clone()),
            response_caches: ResponseCaches::new(shared.clone()),
            audit: Audits::new(shared.clone()),
            charges: Charges::new(shared.clone()),
            turns,
            shared,
            keep_ledger: None,
        }
    }

    /// The same with other limits for files, those of batches among them.
    #[must_use]
    pub fn with_file_limits(mut self, limits: FileLimits) -> Self {
        self.files = self.files.within(limits);
        self.batches = self.batches.within(limits);
        self
    }

    /// The same with at most so many batches of an account that have not ended.
    #[must_use]
    pub fn with_open_batches(mut self, most: u32) -> Self {
        self.batches = self.batches.open_at_most(most);
        self
    }

    /// The same for programs that nobody waits for, or that somebody does.
    #[must_use]
    pub fn at(&self, priority: Priority) -> Self {
        Self { api: self.api.at(priority), responses: self.responses.at(priority), ..self.clone() }
    }

    /// The same, with single uses ending after so many days; their sums stay. Without this, or with `None`, they stay as well.
    #[must_use]
    pub fn keeping_ledger(self, days: Option<u32>) -> Self {
        Self { keep_ledger: days, ..self }
    }

    /// The ledger's upkeep, once; a part of [`Services::run_jobs`].
    ///
    /// # Errors
    /// As for any statement. What was done stays done, and the rest can be tried again.
    pub async fn tend_ledger(&self) -> Result<()> {
        ledger::tend(&self.shared, self.keep_ledger).await
    }

    /// Ends the running turns of this process as interrupted and its responses as failed, text kept, and waits until
    /// that is stored. New ones are refused from now on.
    pub async fn drain(&self) {
        self.shared.shutdown.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        // What belongs to connections may end by itself for a moment, then it is ended.
        if tokio::time::timeout(GRACE, self.shared.inference.drain()).await.is_err() {
            self.shared.inference.end();
            self.shared.inference.drain().await;
        }
    }
}
