//! The account area: profile, prompt history, usage, sessions.

pub mod api;
mod data;
mod delete;
mod page;
mod password;
mod profile;
mod prompts;
mod sessions;
mod usage;
mod usage_budgets;
mod usage_sums;
mod user_agent;

pub use page::AccountPage;
pub use profile::ProfileTab;
pub use prompts::PromptsTab;
pub use sessions::SessionsTab;
pub use usage::UsageTab;
