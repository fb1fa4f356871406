//! Tokens as OpenAI tells them.

use contract::chat::AnswerStats;
use serde::Serialize;
use utoipa::ToSchema;

/// The value of `usage`.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct PromptDetails {
    /// Came out of the prefix cache.
    cached_tokens: u32,
    audio_tokens: u32,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct CompletionDetails {
    reasoning_tokens: u32,
    audio_tokens: u32,
    accepted_prediction_tokens: u32,
    rejected_prediction_tokens: u32,
}

impl From<&AnswerStats> for Usage {
    fn from(stats: &AnswerStats) -> Self {
        Self {
            prompt_tokens: stats.prompt_tokens,
            completion_tokens: stats.completion_tokens,
            total_tokens: stats.prompt_tokens.saturating_add(stats.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: stats.cached_tokens, audio_tokens: 0 },
            // The workers count tokens of thoughts and of answers together.
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: 0,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }
}

/// The value of `usage` where nothing is completed.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct InputUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

impl From<&AnswerStats> for InputUsage {
    fn from(stats: &AnswerStats) -> Self {
        Self { prompt_tokens: stats.prompt_tokens, total_tokens: stats.prompt_tokens }
    }
}
