//! The marks around thoughts, and around the answer.

/// How a model's thoughts are told from its answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Thoughts {
    pub open: &'static str,
    pub close: &'static str,
    /// Marks that an answer may stand between.
    pub around_answer: &'static [(&'static str, &'static str)],
    /// Thoughts may come anywhere, not only at the beginning.
    pub anywhere: bool,
    /// The marks are text like any other in vocabularies, so that a grammar can let the thoughts end. Control tokens
    /// are nothing that a grammar admits.
    pub sayable: bool,
}

const fn thoughts(open: &'static str, close: &'static str) -> Thoughts {
    Thoughts { open, close, around_answer: &[], anywhere: false, sayable: false }
}

/// What most models think in.
const THINK: Thoughts = Thoughts { sayable: true, ..thoughts("<think>", "</think>") };

/// gpt-oss; what it means is read by [`super::channels`].
static HARMONY: Thoughts = thoughts("<|channel|>analysis<|message|>", "<|end|>");

/// Told by the mark that closes them, in this order: templates may speak of `</think>` beside their own.
static KNOWN: [Thoughts; 8] = [
    // Gemma 4.
    Thoughts { anywhere: true, ..thoughts("<|channel>thought", "<channel|>") },
    // Command R7B, Command A.
    Thoughts {
        around_answer: &[("<|START_RESPONSE|>", "<|END_RESPONSE|>"), ("<|START_TEXT|>", "<|END_TEXT|>")],
        ..thoughts("<|START_THINKING|>", "<|END_THINKING|>")
    },
    // Magistral, Ministral.
    thoughts("[THINK]", "[/THINK]"),
    // Seed-OSS.
    thoughts("<seed:think>", "</seed:think>"),
    // MiniMax M3.
    thoughts("<mm:think>", "</mm:think>"),
    // Kimi-VL.
    thoughts("◁think▷", "◁/think▷"),
    // Granite 3.2.
    Thoughts { sayable: true, ..thoughts("Here is my thought process:", "Here is my response:") },
    THINK,
];

/// Granite 3.3, which the marks of the answer tell from the others that think so.
static GRANITE: Thoughts = Thoughts { around_answer: &[("<response>", "</response>")], ..THINK };

impl Thoughts {
    /// How a model with this chat template thinks; `None` if it does not.
    pub fn of(template: &str) -> Option<&'static Self> {
        let has = |word: &str| template.contains(word);
        if has("<|channel|>") {
            Some(&HARMONY)
        } else if has(GRANITE.close) && has("<response>") {
            Some(&GRANITE)
        } else {
            KNOWN.iter().find(|thoughts| has(thoughts.close))
        }
    }

    /// The prompt has begun them.
    pub fn begun_in(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_told_by_the_template() {
        let marks = |template| Thoughts::of(template).map(|thoughts| (thoughts.open, thoughts.around_answer.len()));
        assert_eq!(marks("{{ m.content }}"), None);
        assert_eq!(marks("{{ m.content.split('</think>') }}"), Some(("<think>", 0)));
        assert_eq!(marks("between <think></think> and <response></response>"), Some(("<think>", 1)));
        assert_eq!(marks("{{ text.split('<channel|>') }}<|channel>thought"), Some(("<|channel>thought", 0)));
        assert_eq!(marks("<|START_RESPONSE|><|START_THINKING|><|END_THINKING|>"), Some(("<|START_THINKING|>", 2)));
        assert_eq!(marks("[THINK]{{ m.thinking }}[/THINK]"), Some(("[THINK]", 0)));
        assert_eq!(marks("<seed:think></seed:think>"), Some(("<seed:think>", 0)));
        assert_eq!(marks("Here is my thought process: … Here is my response:"), Some(("Here is my thought process:", 0)));
        assert_eq!(marks("<|channel|>analysis<|message|>"), Some(("<|channel|>analysis<|message|>", 0)));
    }

    #[test]
    fn a_prompt_may_begin_them() {
        let thoughts = Thoughts::of("<|END_THINKING|>").expect("known");
        assert!(thoughts.begun_in("<|CHATBOT_TOKEN|><|START_THINKING|>"));
        assert!(!thoughts.begun_in("<|CHATBOT_TOKEN|><|START_THINKING|><|END_THINKING|>"));
    }
}
