//! Pictures in what a model is asked.

use crate::catalogue::ModelConfig;
use domain::{Error, Result};
use worker_protocol::ChatMessage;

/// Some message has a picture.
pub(crate) fn has_images(messages: &[ChatMessage]) -> bool {
    messages.iter().any(|message| message.images().next().is_some())
}

/// Refuses pictures for a model that takes none.
pub(crate) fn check_images(model: &ModelConfig, messages: &[ChatMessage]) -> Result<()> {
    if model.image_tokens.is_none() && has_images(messages) {
        return Err(Error::invalid("messages", "unsupported_content", "This model does not take images."));
    }
    Ok(())
}
