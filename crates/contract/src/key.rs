//! Keys of service accounts: what they open.

use serde::{Deserialize, Serialize};

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// List models and use them: everything under `/v1`.
    Inference,
    /// Chats that the service account owns itself, under `/ui`.
    Chat,
    /// What the service account used and what it cost, under `/ui`.
    Usage,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inference, Self::Chat, Self::Usage];

    /// Its name in the database, in commands and in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Chat => "chat",
            Self::Usage => "usage",
        }
    }

    /// The scope of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}
