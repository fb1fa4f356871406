//! Calls of tools and thoughts in what a model writes. Each family of templates has its own words for them.

mod calls;
mod grammar;
mod parser;

pub use grammar::{after_thoughts, forced};
pub use parser::{Parser, Part};

/// How a model writes its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen 2.5 and 3, SmolLM, and what a model without
    /// a word of its own is asked for.
    Hermes,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder.
    Xml,
    /// `{"name": …, "parameters": {…}}` as the whole answer, or behind `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}]` or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    Mistral,
    /// `<｜tool▁calls▁begin｜>…<｜tool▁calls▁end｜>`: DeepSeek V3 and R1.
    DeepSeek,
}

impl Family {
    /// The family that a chat template belongs to; `None` if it knows nothing of tools.
    pub fn of(template: &str) -> Option<Self> {
        let has = |word: &str| template.contains(word);
        if !has("tools") {
            None
        } else if has("[TOOL_CALLS]") {
            Some(Self::Mistral)
        } else if has("<｜tool▁calls▁begin｜>") {
            Some(Self::DeepSeek)
        } else if has("<tool_call>") && has("<function=") {
            Some(Self::Xml)
        } else if has("<tool_call>") {
            Some(Self::Hermes)
        } else if has("<|python_tag|>") || has("ipython") {
            Some(Self::Llama3)
        } else {
            None
        }
    }

    /// What begins a call.
    fn open(self) -> &'static str {
        match self {
            Self::Hermes | Self::Xml => "<tool_call>",
            Self::Llama3 => "<|python_tag|>",
            Self::Mistral => "[TOOL_CALLS]",
            Self::DeepSeek => "<｜tool▁calls▁begin｜>",
        }
    }

    /// What ends it; `None`: the answer's end does.
    fn close(self) -> Option<&'static str> {
        match self {
            Self::Hermes | Self::Xml => Some("</tool_call>"),
            Self::Llama3 | Self::Mistral => None,
            Self::DeepSeek => Some("<｜tool▁calls▁end｜>"),
        }
    }

    /// Mistral's templates refuse ids that have not exactly nine letters and digits.
    pub fn id_length(self) -> usize {
        match self {
            Self::Mistral => 9,
            _ => 24,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn families_are_told_by_their_templates() {
        assert_eq!(Family::of("{% for m in messages %}{{ m.content }}{% endfor %}"), None);
        assert_eq!(Family::of("{% if tools %}<tool_call>{% endif %}"), Some(Family::Hermes));
        assert_eq!(Family::of("{% if tools %}<tool_call><function=x>{% endif %}"), Some(Family::Xml));
        assert_eq!(Family::of("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]"), Some(Family::Mistral));
        assert_eq!(Family::of("{% if tools %}Environment: ipython{% endif %}"), Some(Family::Llama3));
        assert_eq!(Family::of("{% if tools %}<｜tool▁calls▁begin｜>{% endif %}"), Some(Family::DeepSeek));
    }
}
