//! Several completions of one prompt, told as one answer.

use worker_protocol::{Event, FailCode, Finish, Usage};

/// Puts the events of `n` completions, which come through one channel, together. Each completion says
/// [`Event::Ended`] before its own [`Event::Done`].
pub struct Choices {
    /// Tokens of each so far.
    completion_tokens: Vec<u32>,
    /// Tokens of thoughts of those that have ended.
    reasoning_tokens: u32,
    /// Of the first, which alone is charged for the prompt.
    prompt: Usage,
    /// How the first ended.
    finish: Option<Finish>,
    /// The stop text that ended the first.
    stop: Option<String>,
    /// The one whose end is being told.
    ending: u32,
    done: usize,
}

impl Choices {
    pub fn new(n: usize) -> Self {
        Self { completion_tokens: vec![0; n], reasoning_tokens: 0, prompt: Usage::default(), finish: None, stop: None, ending: 0, done: 0 }
    }

    /// What is told of an event, if anything.
    pub fn tell(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Started { prompt_tokens, cached_tokens } => {
                // The others begin later and find everything computed.
                let first = self.prompt.prompt_tokens == 0;
                if first {
                    self.prompt = Usage { prompt_tokens, cached_tokens, ..Usage::default() };
                }
                first.then_some(Event::Started { prompt_tokens, cached_tokens })
            }
            Event::Text { choice, text, completion_tokens, logprobs } => {
                let completion_tokens = self.count(choice, completion_tokens);
                // Nothing but a count comes before a failure.
                (!text.is_empty()).then_some(Event::Text { choice, text, completion_tokens, logprobs })
            }
            Event::Reasoning { choice, text, completion_tokens } => {
                let completion_tokens = self.count(choice, completion_tokens);
                Some(Event::Reasoning { choice, text, completion_tokens })
            }
            Event::ToolCall { choice, index, call, completion_tokens } => {
                let completion_tokens = self.count(choice, completion_tokens);
                Some(Event::ToolCall { choice, index, call, completion_tokens })
            }
            Event::Ended { choice, finish } => {
                self.ending = choice;
                if choice == 0 {
                    self.finish = Some(finish);
                }
                (choice > 0).then_some(Event::Ended { choice, finish })
            }
            Event::Done { finish, stop, usage, timings } => {
                self.done += 1;
                if self.ending == 0 {
                    self.stop = stop;
                }
                // Tokens whose text was never sent count as well.
                self.count(self.ending, usage.completion_tokens);
                let usage = self.with_thoughts(usage);
                let finish = self.finish.unwrap_or(finish);
                let all = self.done == self.completion_tokens.len();
                all.then(|| Event::Done { finish, stop: self.stop.take(), usage, timings })
            }
            Event::Failed { code: FailCode::Cancelled, message, usage } => {
                // All are cancelled together, and each tells what it came to.
                self.done += 1;
                let usage = self.with_thoughts(usage);
                (self.done == self.completion_tokens.len()).then_some(Event::Failed { code: FailCode::Cancelled, message, usage })
            }
            Event::Failed { code, message, usage } => Some(Event::Failed { code, message, usage: self.with_thoughts(usage) }),
            other => Some(other),
        }
    }

    /// What all came to, now that one ended with `usage`.
    fn with_thoughts(&mut self, usage: Usage) -> Usage {
        self.reasoning_tokens = self.reasoning_tokens.saturating_add(usage.reasoning_tokens);
        Usage { completion_tokens: self.total(), reasoning_tokens: self.reasoning_tokens, ..self.prompt }
    }

    fn count(&mut self, choice: u32, completion_tokens: u32) -> u32 {
        if let Some(count) = usize::try_from(choice).ok().and_then(|choice| self.completion_tokens.get_mut(choice)) {
            *count = completion_tokens;
        }
        self.total()
    }

    fn total(&self) -> u32 {
        self.completion_tokens.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use worker_protocol::Timings;

    use super::*;

    fn text(choice: u32, completion_tokens: u32) -> Event {
        Event::Text { choice, text: "x".into(), completion_tokens, logprobs: Vec::new() }
    }

    fn done(completion_tokens: u32) -> Event {
        let usage = Usage { prompt_tokens: 9, cached_tokens: 8, completion_tokens, reasoning_tokens: 1 };
        Event::Done { finish: Finish::Stop, stop: Some(format!("after {completion_tokens}")), usage, timings: Timings::default() }
    }

    #[test]
    fn the_prompt_counts_once_and_the_completions_together() {
        let mut choices = Choices::new(2);
        let told: Vec<Event> = [
            Event::Started { prompt_tokens: 9, cached_tokens: 2 },
            text(0, 1),
            Event::Started { prompt_tokens: 9, cached_tokens: 8 },
            text(1, 1),
            text(1, 2),
            Event::Ended { choice: 1, finish: Finish::Length },
            done(3),
            text(0, 2),
            Event::Ended { choice: 0, finish: Finish::Stop },
            done(2),
        ]
        .into_iter()
        .filter_map(|event| choices.tell(event))
        .collect();
        let usage = Usage { prompt_tokens: 9, cached_tokens: 2, completion_tokens: 5, reasoning_tokens: 2 };
        let expected = [
            Event::Started { prompt_tokens: 9, cached_tokens: 2 },
            text(0, 1),
            text(1, 2),
            text(1, 3),
            Event::Ended { choice: 1, finish: Finish::Length },
            text(0, 5),
            Event::Done { finish: Finish::Stop, stop: Some("after 2".into()), usage, timings: Timings::default() },
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_failure_tells_what_it_came_to_and_no_empty_text() {
        let mut choices = Choices::new(2);
        let failed = |completion_tokens| {
            let usage = Usage { prompt_tokens: 9, cached_tokens: 2, completion_tokens, reasoning_tokens: 1 };
            Event::Failed { code: FailCode::Engine, message: "x".into(), usage }
        };
        let counted = Event::Text { choice: 1, text: String::new(), completion_tokens: 3, logprobs: Vec::new() };
        let told: Vec<Event> = [Event::Started { prompt_tokens: 9, cached_tokens: 2 }, text(0, 1), counted, failed(3)]
            .into_iter()
            .filter_map(|event| choices.tell(event))
            .collect();
        assert_eq!(told, [Event::Started { prompt_tokens: 9, cached_tokens: 2 }, text(0, 1), failed(4)]);
    }
}
