//! Models as a user sees them in the picker.

use serde::{Deserialize, Serialize};

/// A model that the caller may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelInfo {
    /// The name used in requests and in the ledger, e.g. `qwen2.5-coder-1.5b-instruct`.
    pub id: String,
    /// The name shown to people.
    pub name: String,
    /// One line on what it is good at; may be empty.
    pub description: String,
    /// Tokens of context for one conversation (prompt and answer together).
    pub context_length: u32,
    /// At least one worker is ready to run it now.
    pub ready: bool,
    /// What a new chat takes when the user chose nothing.
    pub is_default: bool,
}

/// Sampling parameters; `None` means the model's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0.0–2.0; 0 is greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus mass, 0.0–1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// 0 switches it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// 0.0–1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Locally typical mass, 0.0–1.0; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f32>,
    /// 1.0 is off; at most 2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// Taken off a token's score for each time the answer has it already, -2.0–2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Taken off a token's score once if the answer has it already, -2.0–2.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Same seed, same prompt, same model: same answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Longest answer in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}
