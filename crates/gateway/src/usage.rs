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
    /// Were thoughts.
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
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: stats.reasoning_tokens,
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

#[cfg(test)]
mod tests {
    use super::Usage;
    use contract::chat::AnswerStats;
    use serde_json::json;

    #[test]
    fn thoughts_are_part_of_what_was_completed() {
        let stats = AnswerStats { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 7, reasoning_tokens: 5, ..AnswerStats::default() };
        let expected = json!({
            "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
            "prompt_tokens_details": { "cached_tokens": 4, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": 5, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        });
        assert_eq!(serde_json::to_value(Usage::from(&stats)).unwrap(), expected);
    }
}
