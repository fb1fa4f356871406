//! Whether a request makes sense.

use super::{Options, Request};
use crate::holds::tokens;
use domain::{Error, Result};
use std::collections::HashSet;
use worker_protocol::{ChatRole, ToolChoice};

/// Completions of one request.
const MOST_CHOICES: u32 = 16;
/// Alternatives told for each token.
const MOST_LOGPROBS: u8 = 20;
const MOST_STOPS: usize = 16;
/// Bytes of one of them.
const LONGEST_STOP: usize = 256;
/// Tokens whose scores may be changed.
const MOST_BIASES: usize = 1024;

/// Refuses what no worker could answer, before anything is reserved for it.
pub(crate) fn check(request: &Request) -> Result<()> {
    let Some(last) = request.messages.last() else {
        return Err(Error::invalid("messages", "messages_empty", "There is no message to answer."));
    };
    if request.continue_last && last.role != ChatRole::Assistant {
        return Err(Error::invalid("messages", "nothing_to_continue", "Only an answer can be continued."));
    }
    let raw = request.options.raw;
    if raw && (request.messages.len() > 2 || request.continue_last || !request.options.tools.is_empty()) {
        let message = "A prompt without a template is one text, or what comes before and behind the completion, without tools.";
        return Err(Error::invalid("prompt", "raw_prompt", message));
    }
    if !raw && tokens(&request.messages) > 0 {
        return Err(Error::invalid("messages", "raw_prompt", "A conversation has texts, no token ids."));
    }
    let sampling = &request.sampling;
    within("temperature", sampling.temperature, 0.0, 2.0)?;
    within("top_p", sampling.top_p, 0.0, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("typical_p", sampling.typical_p, 0.0, 1.0)?;
    within("repeat_penalty", sampling.repeat_penalty, 1.0, 2.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
    within("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    if sampling.max_tokens == Some(0) {
        return Err(Error::invalid("max_tokens", "out_of_range", "max_tokens must be at least 1."));
    }
    check_options(&request.options)
}

fn within(field: &'static str, value: Option<f32>, least: f32, most: f32) -> Result<()> {
    match value {
        // `contains` is false for NaN.
        Some(value) if !(least..=most).contains(&value) => {
            Err(Error::invalid(field, "out_of_range", format!("{field} must lie between {least} and {most}.")))
        }
        _ => Ok(()),
    }
}

fn check_options(options: &Options) -> Result<()> {
    let out_of_range = |field, message: String| Err(Error::invalid(field, "out_of_range", message));
    if options.n > MOST_CHOICES {
        return out_of_range("n", format!("n must be at most {MOST_CHOICES}."));
    }
    if options.logprobs.is_some_and(|logprobs| logprobs > MOST_LOGPROBS) {
        return out_of_range("top_logprobs", format!("At most {MOST_LOGPROBS} alternatives can be told."));
    }
    if options.logit_bias.values().any(|bias| !(-100.0..=100.0).contains(bias)) {
        return out_of_range("logit_bias", "Each bias must lie between -100 and 100.".into());
    }
    if options.stop.len() > MOST_STOPS || options.stop.iter().any(|stop| stop.len() > LONGEST_STOP) {
        return out_of_range("stop", format!("There can be at most {MOST_STOPS} stop texts of {LONGEST_STOP} bytes each."));
    }
    if options.logit_bias.len() > MOST_BIASES {
        return out_of_range("logit_bias", format!("At most {MOST_BIASES} tokens can have a bias."));
    }
    check_tools(options)
}

fn check_tools(options: &Options) -> Result<()> {
    let mut names = HashSet::new();
    for tool in &options.tools {
        let fits = (1..=64).contains(&tool.name.len()) && tool.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !fits {
            return Err(Error::invalid("tools", "tool_name", "A tool's name has 1 to 64 letters, digits, `_`, `-` or `.`."));
        }
        if !names.insert(tool.name.as_str()) {
            return Err(Error::invalid("tools", "tool_twice", format!("The tool {} occurs twice.", tool.name)));
        }
    }
    match &options.tool_choice {
        ToolChoice::Required if names.is_empty() => Err(Error::invalid("tool_choice", "no_tools", "There is no tool to choose from.")),
        ToolChoice::Named(name) if !names.contains(name.as_str()) => {
            Err(Error::invalid("tool_choice", "unknown_tool", "tool_choice names a tool that is not in tools."))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_CHOICES, Options, Request, check};
    use contract::{model::Sampling, usage::Purpose};
    use domain::Error;
    use worker_protocol::{ChatMessage, ChatRole, Tool, ToolChoice};

    fn request(sampling: Sampling) -> Request {
        let messages = vec![ChatMessage::new(ChatRole::User, "hi")];
        Request {
            purpose: Purpose::Chat,
            model: None,
            messages,
            continue_last: false,
            sampling,
            transient: false,
            options: Options::default(),
        }
    }

    #[test]
    fn sampling_out_of_range_is_refused_by_name() {
        assert!(check(&request(Sampling::default())).is_ok());
        let wrong = [
            ("temperature", Sampling { temperature: Some(f32::NAN), ..Sampling::default() }),
            ("top_p", Sampling { top_p: Some(1.1), ..Sampling::default() }),
            ("min_p", Sampling { min_p: Some(-0.1), ..Sampling::default() }),
            ("typical_p", Sampling { typical_p: Some(1.5), ..Sampling::default() }),
            ("frequency_penalty", Sampling { frequency_penalty: Some(-2.5), ..Sampling::default() }),
            ("presence_penalty", Sampling { presence_penalty: Some(f32::INFINITY), ..Sampling::default() }),
            ("repeat_penalty", Sampling { repeat_penalty: Some(2.5), ..Sampling::default() }),
            ("max_tokens", Sampling { max_tokens: Some(0), ..Sampling::default() }),
        ];
        for (name, sampling) in wrong {
            let refused = check(&request(sampling));
            assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == Some(name)), "{name}: {refused:?}");
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let tool = |name: &str| Tool { name: name.into(), description: None, parameters: serde_json::json!({}) };
        let wrong = [
            ("n", Options { n: MOST_CHOICES + 1, ..Options::default() }),
            ("top_logprobs", Options { logprobs: Some(21), ..Options::default() }),
            ("logit_bias", Options { logit_bias: [(1, 101.0)].into(), ..Options::default() }),
            ("stop", Options { stop: vec!["x".into(); 17], ..Options::default() }),
            ("tools", Options { tools: vec![tool("no spaces")], ..Options::default() }),
            ("tools", Options { tools: vec![tool("twice"), tool("twice")], ..Options::default() }),
            ("tool_choice", Options { tool_choice: ToolChoice::Required, ..Options::default() }),
            ("tool_choice", Options { tools: vec![tool("a")], tool_choice: ToolChoice::Named("b".into()), ..Options::default() }),
        ];
        for (name, options) in wrong {
            let refused = check(&Request { options, ..request(Sampling::default()) });
            assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == Some(name)), "{name}: {refused:?}");
        }
    }

    #[test]
    fn a_prompt_without_a_template_has_two_parts_at_most_and_token_ids_stand_in_no_other() {
        let asked = |messages: &[ChatMessage], raw| {
            let (messages, options) = (messages.to_vec(), Options { raw, ..Options::default() });
            check(&Request { messages, options, ..request(Sampling::default()) })
        };
        let (text, ids) = (ChatMessage::new(ChatRole::User, "x"), ChatMessage::of_tokens(vec![1]));
        for parts in [vec![text.clone()], vec![ids.clone()], vec![text.clone(), text.clone()], vec![ids.clone(), text.clone()]] {
            assert!(asked(&parts, true).is_ok(), "{parts:?}");
        }
        assert!(matches!(asked(&[text.clone(), text.clone(), text], true), Err(Error::Invalid { field: Some("prompt"), .. })));
        assert!(matches!(asked(&[ids], false), Err(Error::Invalid { field: Some("messages"), .. })));
    }

    #[test]
    fn only_an_answer_can_be_continued() {
        let refused = check(&Request { continue_last: true, ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "nothing_to_continue", .. })));
        let refused = check(&Request { messages: Vec::new(), ..request(Sampling::default()) });
        assert!(matches!(refused, Err(Error::Invalid { code: "messages_empty", .. })));
    }
}
