//! The prompts of one request, gone on from a few at a time and heard as one answer.

use crate::{
    chat::Named,
    failure::Failure,
    follow::{Source, begun},
};
use contract::{chat::AnswerStats, ids::RequestId};
use domain::{Amount, Currency, Error, Result};
use futures::{
    StreamExt,
    future::{ready, select_all, try_join_all},
    stream::{self, BoxStream, SelectAll},
};
use inference::{Cached, Ended, Finish, Generation, Outcome, Output, Route};
use services::{Asking, Completion};
use std::{collections::VecDeque, mem::take};

/// Prompts of one request that are computed at the same time: many of one program must not keep everybody else waiting.
const AT_A_TIME: usize = 4;

/// What a prompt's use says: the prompt's number, and at its end the way that it took.
type Said = (u32, Output, Option<Route>);

/// See the module. Each prompt is a use of its own in the ledger. Its completions are numbered behind those of the prompts before
/// it, and each tells how it ended. If one prompt fails, all end.
pub struct Several {
    asking: Asking,
    named: Named,
    /// Completions of each prompt.
    each: u32,
    /// Those that are not heard yet, from the first prompt on.
    begun: Vec<Generation>,
    /// Made when it is their turn: what they have in common is copied for those alone that are at work.
    waiting: Box<dyn Iterator<Item = Completion> + Send>,
    /// Prompts that do not wait any more.
    taken: u32,
    heard: SelectAll<BoxStream<'static, Said>>,
    /// Completions that have told how they ended.
    ended: Vec<bool>,
    /// To be told before anything else is heard.
    told: VecDeque<Output>,
    sum: Sum,
    over: bool,
}

impl Several {
    /// Begins the first few of at least one.
    ///
    /// # Errors
    /// One of them was refused.
    pub async fn begin(asking: Asking, completions: impl ExactSizeIterator<Item = Completion> + Send + 'static) -> Result<Self> {
        let prompts = completions.len();
        let mut waiting: Box<dyn Iterator<Item = Completion> + Send> = Box::new(completions);
        let first: Vec<Completion> = waiting.by_ref().take(AT_A_TIME).collect();
        let each = first.first().map_or(1, |first| first.options.n.max(1));
        let begun = try_join_all(first.into_iter().map(|completion| asking.complete(completion))).await?;
        let named = begun.first().map(Named::of).ok_or_else(|| Error::internal("a completion without a prompt"))?;
        let ended = vec![false; prompts.saturating_mul(usize::try_from(each).unwrap_or(1))];
        let (heard, told, sum) = (SelectAll::new(), VecDeque::new(), Sum::default());
        Ok(Self { asking, named, each, begun, waiting, taken: 0, heard, ended, told, sum, over: false })
    }

    /// What all parts of the answer say about themselves: the first prompt's use stands for all.
    pub fn named(&self) -> &Named {
        &self.named
    }

    /// Completions of each prompt.
    pub fn each(&self) -> u32 {
        self.each
    }

    /// Completions of all prompts.
    pub fn choices(&self) -> u32 {
        u32::try_from(self.ended.len()).unwrap_or(u32::MAX)
    }

    /// Waits until one of them begins, or long enough.
    ///
    /// # Errors
    /// It failed before it began.
    pub async fn begun(&mut self, request: RequestId) -> Result<(), Failure> {
        let waiting = self.begun.iter_mut().map(|generation| Box::pin(begun(generation, request)));
        let (first, ..) = select_all(waiting).await;
        first
    }

    /// Listens to those that have begun.
    fn listen(&mut self) {
        for generation in take(&mut self.begun) {
            self.heard.push(said(self.taken, generation));
            self.taken += 1;
        }
    }

    /// Begins the next one that waits, if any does.
    fn begin_next(&mut self) {
        let Some(completion) = self.waiting.next() else { return };
        let prompt = self.taken;
        self.taken += 1;
        let begun = stream::once(self.asking.complete(completion));
        let said = begun.flat_map(move |begun| match begun {
            Ok(generation) => said(prompt, generation),
            Err(error) => stream::once(ready((prompt, refused(error), None))).boxed(),
        });
        self.heard.push(said.boxed());
    }

    fn hear(&mut self, (prompt, output, route): Said) {
        let first = prompt * self.each;
        match output {
            Output::End(ended) if ended.error.is_some() => self.end(Output::End(ended)),
            Output::End(ended) => {
                // Where a use has only one completion, or for the first one, its end is that of the whole.
                let finish = Finish::named(&ended.stats.finish_reason).unwrap_or(Finish::Stop);
                for choice in first..first + self.each {
                    self.tell_end(choice, finish);
                }
                self.sum.add(prompt, &ended.stats, route);
                self.begin_next();
            }
            Output::Ended { choice, finish } => self.tell_end(first + choice, finish),
            Output::Text { choice, text, logprobs } => self.told.push_back(Output::Text { choice: first + choice, text, logprobs }),
            Output::Reasoning { choice, text } => self.told.push_back(Output::Reasoning { choice: first + choice, text }),
            Output::ToolCall { choice, index, call } => self.told.push_back(Output::ToolCall { choice: first + choice, index, call }),
            output @ (Output::Queued { .. } | Output::Started { .. } | Output::Vectors { .. }) => self.told.push_back(output),
        }
    }

    /// Tells once how a completion ended.
    fn tell_end(&mut self, choice: u32, finish: Finish) {
        if let Some(ended) = usize::try_from(choice).ok().and_then(|at| self.ended.get_mut(at))
            && !std::mem::replace(ended, true)
        {
            self.told.push_back(Output::Ended { choice, finish });
        }
    }

    fn end(&mut self, end: Output) {
        self.over = true;
        self.told.push_back(end);
        // Whoever still computes stops, and what was computed is settled.
        self.heard.clear();
    }
}

impl Source for Several {
    async fn next(&mut self) -> Option<Output> {
        self.listen();
        loop {
            if let Some(output) = self.told.pop_front() {
                return Some(output);
            }
            if self.over {
                return None;
            }
            match self.heard.next().await {
                Some(said) => self.hear(said),
                None => {
                    let stats = take(&mut self.sum.stats);
                    self.end(Output::End(Box::new(Ended { outcome: Outcome::Ok, stats, stop: None, error: None })));
                }
            }
        }
    }

    /// That of the first prompt; before they are heard, of one that somebody took already. What it cost is what all did.
    fn route(&self) -> Option<Route> {
        self.begun.iter().find_map(Generation::route).or_else(|| self.sum.route())
    }
}

/// All that a use says.
fn said(prompt: u32, generation: Generation) -> BoxStream<'static, Said> {
    let said = stream::unfold(generation, move |mut generation| async move {
        let output = generation.next().await?;
        let route = if matches!(output, Output::End(_)) { generation.route() } else { None };
        Some(((prompt, output, route), generation))
    });
    said.boxed()
}

/// The end of what did not begin.
fn refused(error: Error) -> Output {
    let stats = AnswerStats::default();
    Output::End(Box::new(Ended { outcome: Outcome::Failed, stats, stop: None, error: Some(error) }))
}

/// What several uses came to.
#[derive(Debug, Default)]
struct Sum {
    stats: AnswerStats,
    /// The way of the first prompt's.
    route: Option<Route>,
    /// Outer `None`: nothing has ended. Inner: not all have a price in the same currency.
    cost: Option<Option<(Currency, Amount)>>,
    /// The greatest tells for all.
    cached: Cached,
}

impl Sum {
    fn add(&mut self, prompt: u32, stats: &AnswerStats, route: Option<Route>) {
        self.stats.prompt_tokens = self.stats.prompt_tokens.saturating_add(stats.prompt_tokens);
        self.stats.cached_tokens = self.stats.cached_tokens.saturating_add(stats.cached_tokens);
        self.stats.completion_tokens = self.stats.completion_tokens.saturating_add(stats.completion_tokens);
        self.stats.reasoning_tokens = self.stats.reasoning_tokens.saturating_add(stats.reasoning_tokens);
        let cost = route.as_ref().and_then(|route| route.cost);
        self.cost = Some(match self.cost {
            None => cost,
            Some(sum) => sum.zip(cost).and_then(|((currency, sum), (other, more))| (currency == other).then_some((currency, sum + more))),
        });
        self.cached = self.cached.max(route.as_ref().map(|route| route.cached).unwrap_or_default());
        if prompt == 0 {
            self.route = route;
        }
    }

    fn route(&self) -> Option<Route> {
        self.route.clone().map(|route| Route { cost: self.cost.flatten(), cached: self.cached, ..route })
    }
}

#[cfg(test)]
mod tests {
    use super::Sum;
    use contract::chat::AnswerStats;
    use domain::{Amount, Currency};
    use inference::{Cached, Route};
    use std::time::Duration;

    fn route(model: &str, cost: Option<(Currency, Amount)>, cached: Cached) -> Option<Route> {
        Some(Route { model: model.into(), cost, cached, ..Route::default() })
    }

    fn cost(currency: &str, pico: i64) -> Option<(Currency, Amount)> {
        Some((currency.parse().unwrap(), Amount::of_pico(pico)))
    }

    #[test]
    fn uses_come_to_the_same_in_whatever_order_they_end() {
        let stats = |prompt_tokens, completion_tokens| AnswerStats { prompt_tokens, completion_tokens, ..AnswerStats::default() };
        let hit = Cached::Hit { age: Duration::from_secs(3) };
        let parts = [(0, stats(5, 2), "first", 7, hit), (1, stats(8, 1), "second", 10, Cached::Miss)];
        for order in [[0, 1], [1, 0]] {
            let mut sum = Sum::default();
            for at in order {
                let (prompt, stats, model, pico, cached) = &parts[at];
                sum.add(*prompt, stats, route(model, cost("EUR", *pico), *cached));
            }
            let route = sum.route().unwrap();
            assert_eq!((sum.stats.prompt_tokens, sum.stats.completion_tokens), (13, 3));
            assert_eq!((route.model.as_str(), route.cost, route.cached), ("first", cost("EUR", 17), Cached::Miss));
        }
    }

    #[test]
    fn what_has_no_price_in_common_has_no_sum() {
        for other in [None, cost("USD", 1)] {
            let mut sum = Sum::default();
            for (prompt, cost) in [(0, cost("EUR", 1)), (1, other), (2, cost("EUR", 1))] {
                sum.add(prompt, &AnswerStats::default(), route("m", cost, Cached::Unasked));
            }
            assert_eq!(sum.route().unwrap().cost, None);
        }
    }
}
