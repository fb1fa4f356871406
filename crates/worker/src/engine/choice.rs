//! What a request asks of its tokens beyond the sampling parameters.

use llama_cpp_2::token::LlamaToken;

use crate::constraint::Constraint;
use crate::tools::Reader;

/// See the module.
#[derive(Default)]
pub struct Choice {
    /// Added to scores.
    pub bias: Vec<(LlamaToken, f32)>,
    /// Tell log-probabilities, with so many alternatives.
    pub logprobs: Option<usize>,
    pub constraint: Option<Constraint>,
    /// Rule out the tokens that end a completion.
    pub ignore_end: bool,
    /// Guess ahead.
    pub speculate: bool,
    /// Takes calls and thoughts out of the text.
    pub parser: Option<Box<dyn Reader>>,
    /// End after the first call.
    pub single_call: bool,
}
