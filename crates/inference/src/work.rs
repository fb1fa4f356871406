//! What a backend is asked to do.

use worker_protocol::{Embed, Generate, Priority};

/// One use of a model.
#[derive(Clone, Debug)]
pub enum Work {
    /// Completions of a conversation.
    Completion(Box<Generate>),
    /// Vectors of texts, or scores of pairs.
    Vectors(Embed),
}

impl Work {
    /// The model that is asked.
    #[must_use]
    pub fn model(&self) -> &str {
        match self {
            Self::Completion(generate) => &generate.model,
            Self::Vectors(embed) => &embed.model,
        }
    }

    /// How long it may wait for others.
    #[must_use]
    pub fn priority(&self) -> Priority {
        match self {
            Self::Completion(generate) => generate.priority,
            Self::Vectors(embed) => embed.priority,
        }
    }

    /// The same of another model.
    #[must_use]
    pub fn with_model(mut self, model: &str) -> Self {
        match &mut self {
            Self::Completion(generate) => model.clone_into(&mut generate.model),
            Self::Vectors(embed) => model.clone_into(&mut embed.model),
        }
        self
    }
}
