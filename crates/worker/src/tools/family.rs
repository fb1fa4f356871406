//! Which family a template belongs to, and the marks around its calls.

use super::parser::LONGEST_FORM;

/// How a model writes its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen 2.5 and 3, SmolLM, Granite 4, and what a
    /// model without a word of its own is asked for.
    Hermes,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder, Nemotron 3.
    Xml,
    /// `{"name": …, "parameters": {…}}` as the whole answer, or behind `<|python_tag|>`: Llama 3.
    Llama3,
    /// `[name(key=value)]` as the whole answer or between `<|python_start|>` and `<|python_end|>`, or an object as
    /// Llama 3 writes it: Llama 4, and Gemma 3 and Llama 3.2 where a template asks for it.
    Pythonic,
    /// `[TOOL_CALLS][{"name": …, "arguments": {…}}]` or `[TOOL_CALLS]name[ARGS]{…}`: Mistral.
    Mistral,
    /// `<｜tool▁calls▁begin｜>…<｜tool▁calls▁end｜>`: DeepSeek V3 and R1.
    DeepSeek,
    /// `<｜DSML｜function_calls><｜DSML｜invoke name="…">…`: DeepSeek V3.2, and V4 with `tool_calls` as the outer word.
    Dsml,
    /// `<|channel|>commentary to=functions.name<|message|>{…}<|call|>`: gpt-oss, whose whole answer has such headers.
    Harmony,
    /// `<|tool_call>call:name{key:<|"|>text<|"|>}<tool_call|>`: Gemma 4.
    Gemma,
    /// `<start_function_call>call:name{key:<escape>text<escape>}<end_function_call>`: FunctionGemma.
    FunctionGemma,
    /// A fenced block `tool_code` with Python's way of calling: Gemma 3, where a template asks for it.
    ToolCode,
    /// `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`: GLM 4.5 and later.
    Glm,
    /// `<|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{…}<|tool_call_end|>` in a section: Kimi K2.
    Kimi,
    /// `<minimax:tool_call><invoke name="…"><parameter name="…">value</parameter></invoke>…`: MiniMax M2.
    MiniMax,
    /// As Qwen3-Coder's between `<seed:tool_call>` and `</seed:tool_call>`: Seed-OSS.
    Seed,
    /// `<|tool_call|>[{"name": …, "arguments": {…}}]`: Granite 3.
    Granite,
    /// `<TOOLCALL>[{"name": …, "arguments": {…}}]</TOOLCALL>`: Nemotron before the third.
    Nemotron,
    /// `functools[{"name": …, "arguments": {…}}]`: Phi-4-mini, where a template asks for it.
    Functools,
    /// `<|START_ACTION|>[{"tool_name": …, "parameters": {…}}]<|END_ACTION|>`: Command R7B, Command A.
    Command,
    /// `<|tool_call_start|>[name(key=value)]<|tool_call_end|>`: LFM2.
    Lfm,
}

/// What begins calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub open: &'static str,
    /// What ends them; `None`: the answer's end does.
    pub close: Option<&'static str>,
}

/// An answer that begins so is a call without a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    No,
    /// More text will tell.
    Perhaps,
    Yes,
}

const fn between(open: &'static str, close: &'static str) -> Mark {
    Mark { open, close: Some(close) }
}

const fn behind(open: &'static str) -> Mark {
    Mark { open, close: None }
}

impl Family {
    /// The family that a chat template belongs to; `None` if it knows nothing of tools, or in a way that is not known
    /// here: such a model is told of them in words.
    pub fn of(template: &str) -> Option<Self> {
        let has = |word: &str| template.contains(word);
        // The others' templates show earlier calls anyway; of these there are some that leave them out.
        let shows = |word: &str| has(word) && has("tool_calls");
        let family = if !has("tools") || has("]<]minimax[>[") {
            // MiniMax M3 has the words of others between marks of its own.
            return None;
        } else if has("<|channel|>") {
            Self::Harmony
        } else if has("[TOOL_CALLS]") {
            Self::Mistral
        } else if has("<｜tool▁calls▁begin｜>") {
            Self::DeepSeek
        } else if has("｜DSML｜") {
            Self::Dsml
        } else if has("<|tool_calls_section_begin|>") {
            Self::Kimi
        } else if has("<minimax:tool_call>") {
            Self::MiniMax
        } else if has("<seed:tool_call>") {
            Self::Seed
        } else if has("<|tool_call>") {
            // The first templates knew a tool's answer only inside of the call's message.
            return (has("'tool'") || has("\"tool\"")).then_some(Self::Gemma);
        } else if has("<start_function_call>") {
            Self::FunctionGemma
        } else if has("<|START_ACTION|>") {
            Self::Command
        } else if has("<TOOLCALL>") {
            Self::Nemotron
        } else if has("<tool_call>") && has("<arg_key>") {
            Self::Glm
        } else if has("<tool_call>") && has("<function=") {
            Self::Xml
        } else if has("<tool_call>") {
            Self::Hermes
        } else if shows("<|tool_call_start|>") {
            Self::Lfm
        } else if shows("<|tool_call|>") {
            Self::Granite
        } else if shows("functools[") {
            Self::Functools
        } else if shows("```tool_code") {
            Self::ToolCode
        } else if has("<|python_start|>") || shows("[func_name1(") {
            Self::Pythonic
        } else if has("<|python_tag|>") || has("ipython") {
            Self::Llama3
        } else {
            return None;
        };
        Some(family)
    }

    /// The marks of its calls, the usual one first. Harmony has none: there a header tells what follows.
    pub fn marks(self) -> &'static [Mark] {
        match self {
            Self::Hermes | Self::Xml | Self::Glm => const { &[between("<tool_call>", "</tool_call>")] },
            Self::Llama3 => const { &[behind("<|python_tag|>")] },
            Self::Pythonic => const { &[between("<|python_start|>", "<|python_end|>")] },
            Self::Mistral => const { &[behind("[TOOL_CALLS]")] },
            Self::DeepSeek => const { &[between("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")] },
            Self::Dsml => {
                const {
                    &[
                        between("<｜DSML｜function_calls>", "</｜DSML｜function_calls>"),
                        between("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"),
                    ]
                }
            }
            Self::Harmony => &[],
            Self::Gemma => const { &[between("<|tool_call>", "<tool_call|>")] },
            Self::FunctionGemma => const { &[between("<start_function_call>", "<end_function_call>")] },
            Self::ToolCode => const { &[between("```tool_code", "```")] },
            Self::Kimi => {
                const {
                    &[
                        between("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
                        between("<|tool_call_section_begin|>", "<|tool_call_section_end|>"),
                    ]
                }
            }
            Self::MiniMax => const { &[between("<minimax:tool_call>", "</minimax:tool_call>")] },
            Self::Seed => const { &[between("<seed:tool_call>", "</seed:tool_call>")] },
            Self::Granite => const { &[behind("<|tool_call|>")] },
            Self::Nemotron => const { &[between("<TOOLCALL>", "</TOOLCALL>")] },
            Self::Functools => const { &[behind("functools[")] },
            Self::Command => const { &[between("<|START_ACTION|>", "<|END_ACTION|>")] },
            Self::Lfm => const { &[between("<|tool_call_start|>", "<|tool_call_end|>")] },
        }
    }

    /// Whether an answer that begins with `begun`, which has no white space before it, is a call without a mark.
    /// `names` are those of the tools.
    pub fn bare<'a>(self, begun: &str, mut names: impl Iterator<Item = &'a str>) -> Bare {
        match self {
            Self::Llama3 | Self::Pythonic if begun.starts_with('{') => Bare::Yes,
            Self::Pythonic => {
                // Answers may well begin with a bracket; a tool's name makes the difference.
                let Some(list) = begun.strip_prefix('[').map(str::trim_start) else { return Bare::No };
                if begun.len() - list.len() > LONGEST_FORM {
                    return Bare::No;
                }
                if list.is_empty() {
                    return Bare::Perhaps;
                }
                let called = |name: &'a str| match list.strip_prefix(name) {
                    Some(rest) if rest.starts_with('(') => Some(Bare::Yes),
                    _ => name.starts_with(list).then_some(Bare::Perhaps),
                };
                names.find_map(called).unwrap_or(Bare::No)
            }
            _ => Bare::No,
        }
    }

    /// Its models are known to call a tool while they think, without ending their thoughts; its marks are control
    /// tokens that nobody writes for another reason.
    pub fn ends_thoughts(self) -> bool {
        matches!(self, Self::Dsml | Self::Kimi | Self::MiniMax)
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
    use super::*;

    #[test]
    fn families_are_told_by_their_templates() {
        assert_eq!(Family::of("{% for m in messages %}{{ m.content }}{% endfor %}"), None);
        assert_eq!(Family::of("{% if tools %}<tool_call>{% endif %}"), Some(Family::Hermes));
        assert_eq!(Family::of("{% if tools %}<tool_call><function=x>{% endif %}"), Some(Family::Xml));
        assert_eq!(Family::of("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]"), Some(Family::Mistral));
        assert_eq!(Family::of("{% if tools %}Environment: ipython{% endif %}"), Some(Family::Llama3));
        assert_eq!(Family::of("{% if tools %}<｜tool▁calls▁begin｜>{% endif %}"), Some(Family::DeepSeek));
    }

    #[test]
    fn a_template_that_cannot_show_calls_or_what_they_answered_belongs_to_none() {
        for template in [
            "{% if tools %}<|tool_call|>{% endif %}{{ m.content }}",
            "{% if tools %}functools[{% endif %}{{ m.content }}",
            "{% if tools %}<|tool_call>call:{% endif %}{{ m.tool_responses }}",
            "{% if tools %}]<]minimax[>[<tool_call>{% endif %}{{ m.tool_calls }}",
        ] {
            assert_eq!(Family::of(template), None, "{template}");
        }
    }

    #[test]
    fn a_list_is_a_call_only_with_a_tools_name() {
        let bare = |begun| Family::Pythonic.bare(begun, ["time", "time_zone"].into_iter());
        assert_eq!(["[", "[ ti", "[time", "[time_z"].map(bare), [Bare::Perhaps; 4]);
        assert_eq!(["[time(", "[ time_zone(place='Bonn", "{"].map(bare), [Bare::Yes; 3]);
        assert_eq!(["[1]", "[times(", "[link](x)", "time("].map(bare), [Bare::No; 4]);
        assert_eq!(Family::Llama3.bare("[time(", ["time"].into_iter()), Bare::No);
    }
}
