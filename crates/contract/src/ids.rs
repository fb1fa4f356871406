//! One registry of id kinds: mixing a [`UserId`] with a [`TurnId`] does not compile.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = "uuid"))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

id! {
    /// An organisation; the boundary that data never crosses.
    TenantId,
    /// A person of one tenant.
    UserId,
    /// A signed-in browser.
    SessionId,
    /// A chat.
    ConversationId,
    /// One question or one answer; messages of a conversation form a tree.
    MessageId,
    /// The making of one answer.
    TurnId,
    /// A text that belongs to a question.
    AttachmentId,
    /// One metered use of a model.
    UsageId,
    /// An answer to a program that can be asked for again; the same number as the use that made it.
    ResponseId,
    /// Money for a time.
    BudgetId,
    /// So much a minute, or at the same time.
    RateLimitId,
    /// One process of the product, from its start to its end.
    NodeId,
    /// One call from outside, as it appears in logs and problems.
    RequestId,
    /// A program that uses models, with a purpose and somebody who answers for it.
    ServiceAccountId,
    /// A secret with which a service account authenticates.
    ApiKeyId,
    /// What a program brought, or a batch made for it.
    FileId,
    /// Many requests of a program that nobody waits for.
    BatchId,
}
