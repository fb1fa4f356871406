//! What a backend is asked to do.

use std::mem::take;
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

    /// Asks another model.
    pub(crate) fn set_model(&mut self, model: &str) {
        match self {
            Self::Completion(generate) => model.clone_into(&mut generate.model),
            Self::Vectors(embed) => model.clone_into(&mut embed.model),
        }
    }

    /// Keeps of a completion only what tells which one it is: nobody will be asked again.
    pub(crate) fn let_go(&mut self) {
        if let Self::Completion(generate) = self {
            let (id, model, priority) = (generate.id, take(&mut generate.model), generate.priority);
            **generate = Generate { id, model, priority, ..Generate::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Work;
    use worker_protocol::{ChatMessage, ChatRole, Generate, Priority};

    #[test]
    fn what_is_let_go_still_tells_which_one_it_is() {
        let messages = vec![ChatMessage::new(ChatRole::User, "a long story")];
        let generate = Generate { model: "asked".into(), priority: Priority::Batch, messages, ..Generate::default() };
        let mut work = Work::Completion(Box::new(generate));
        work.set_model("other");
        work.let_go();
        assert_eq!((work.model(), work.priority()), ("other", Priority::Batch));
        let Work::Completion(left) = work else { panic!("another kind of work") };
        assert!(left.messages.is_empty(), "If you are here because this failed: each stream holds its prompt until it ends.");
    }
}
