//! What somebody used and what it cost, as the ledger has it.

use crate::Millis;
use serde::{Deserialize, Serialize};

/// Why a model was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// An answer in a chat.
    Chat,
    /// An answer in a temporary chat.
    TemporaryChat,
    /// The title of a chat.
    Title,
    /// Vectors of texts, for retrieval.
    Embedding,
    /// Documents put in order for a query.
    Rerank,
    /// A completion for a program.
    Api,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Chat, Self::TemporaryChat, Self::Title, Self::Embedding, Self::Rerank, Self::Api];

    /// Its name in the ledger and in exports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::TemporaryChat => "temporary_chat",
            Self::Title => "title",
            Self::Embedding => "embedding",
            Self::Rerank => "rerank",
            Self::Api => "api",
        }
    }
}

/// Days are calendar days in UTC, both ends included, `YYYY-MM-DD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageRange {
    pub from: String,
    pub to: String,
}

/// A sum of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Money {
    /// ISO 4217.
    pub currency: String,
    /// In 10⁻¹² of the currency's unit; exact.
    pub pico: i64,
}

/// One day × model × purpose × currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageRow {
    /// `YYYY-MM-DD`, UTC.
    pub day: String,
    pub model: String,
    pub purpose: Purpose,
    pub requests: i64,
    pub prompt_tokens: i64,
    /// Part of `prompt_tokens` that came out of the prefix cache.
    pub cached_tokens: i64,
    pub completion_tokens: i64,
    /// `None` where the model had no price.
    pub cost: Option<Money>,
}

/// A budget of a person, a service account or a key alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwnBudget {
    pub amount: Money,
    /// In the same currency; a second or two old.
    pub spent: Money,
    /// When it begins anew; `None`: never.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub ends_at: Option<Millis>,
    /// What it does not cover is refused.
    pub hard: bool,
}

/// The usage tab.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UsageReport {
    pub range: UsageRange,
    pub rows: Vec<UsageRow>,
    /// Those of now, whatever the range.
    pub budgets: Vec<OwnBudget>,
    /// When the newest figure was settled; `None` without any.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub as_of: Option<Millis>,
}
