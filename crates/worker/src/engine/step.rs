//! One step for everybody: a token for each running answer, more where some can be guessed, and prompts in the
//! room that is left.

use std::sync::atomic::Ordering::Relaxed;

use llama_cpp_2::token::LlamaToken;
use worker_protocol::{FailCode, Finish, TokenLogprob};

use super::batch::budget::behind;
use super::batch::schedule::{Need, share};
use super::queue::flows::{Books, Flows};
use super::sequence::{Next, Sequence};
use super::thread::{Lane, Thread};
use crate::error::Error;
use crate::sampling::{likeliest, log_probabilities};

/// One sequence's part of a step.
#[derive(Default)]
struct Part {
    /// Tokens of its own.
    tokens: usize,
    /// Tokens guessed behind them.
    guess: Vec<LlamaToken>,
    /// A grammar forces what is guessed, so it says nothing about guesses.
    forced: bool,
    /// Where the scores of the first chosen token are; the guessed tokens' follow. `None`: its prompt goes on.
    scores: Option<i32>,
}

impl Thread<'_> {
    pub(super) fn step(&mut self, books: &mut Books<'_>) -> Result<(), Error> {
        let mut parts = self.plan(books.own);
        let mut total: usize = parts.iter().map(|part| part.tokens + part.guess.len()).sum();
        if parts.iter().any(|part| !part.guess.is_empty()) && !self.cells.has_room(total) {
            // Guesses are worth nobody's room, and nothing is given up for them in vain. Nor are they reckoned with where somebody
            // is let in: who paused for them would come straight back.
            parts.iter_mut().for_each(|part| part.guess.clear());
            total = parts.iter().map(|part| part.tokens).sum();
        }
        if !self.cells.make_room(total) {
            if let Some(at) = self.least_entitled(books.own).filter(|_| self.running.len() > 1) {
                self.pause(at);
                // What remains is planned anew in the next round of the loop.
                return Ok(());
            }
            // One alone always fits, if need be in the place of pins: none is longer than the context.
            if !self.cells.force_room(total) {
                return Err(Error::Engine("a single completion does not fit into the context".into()));
            }
        }
        self.context.apply(self.cells.take_ops())?;
        self.fill(&mut parts)?;
        match self.context.decode() {
            Ok(took) => self.budget.observe(total, took),
            Err(error) => return self.recover(error),
        }
        self.failures.over();
        self.shared.house.totals.evaluated_tokens.fetch_add(u64::try_from(total).unwrap_or_default(), Relaxed);
        self.pass_on(parts, books)
    }

    /// Divides the step.
    fn plan(&mut self, flows: &Flows) -> Vec<Part> {
        let needs: Vec<Need> = self.running.iter().map(Sequence::need).collect();
        let readers = needs.iter().filter(|need| **need == Need::Decode).count();
        let budget = self.step_size(readers);
        let mut order: Vec<usize> = (0..needs.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (&self.running[*a], &self.running[*b]);
            flows.served(&a.flow).total_cmp(&flows.served(&b.flow)).then(a.arrived.cmp(&b.arrived))
        });
        let shares = share(&needs, budget, &order, self.steps);
        self.steps = self.steps.wrapping_add(1);
        let mut left = budget.saturating_sub(shares.iter().sum());
        let price = self.budget.price_of_guess(readers);
        let mut parts: Vec<Part> = shares.into_iter().map(|tokens| Part { tokens, ..Part::default() }).collect();
        for at in order {
            if needs[at] != Need::Decode {
                continue;
            }
            let room = left.min(self.context_length_usize().saturating_sub(self.running[at].tokens().len()));
            self.guess(at, price, room, &mut parts[at]);
            left -= parts[at].guess.len();
        }
        parts
    }

    /// Most tokens of the next step.
    fn step_size(&self, readers: usize) -> usize {
        let size = self.budget.tokens(readers).min(self.batch_limit);
        match self.running.first() {
            // One runs at a time there. Cards hardly notice what stands before a token.
            Some(running) if self.lane == Lane::Exact && !self.on_card => behind(size, running.done()),
            _ => size,
        }
    }

    /// Adds what may follow in one sequence: what a grammar forces, else what was said before. Nothing where an answer must
    /// come out the same each time: a guess changes the size of a step.
    fn guess(&mut self, at: usize, price: f64, room: usize, part: &mut Part) {
        if self.lane == Lane::Exact || !self.can_cut || room == 0 {
            return;
        }
        let sequence = &mut self.running[at];
        if let Some(constraint) = &mut sequence.choice.constraint {
            let forced = constraint.forced();
            if !forced.is_empty() {
                let mut tokens = self.vocab.tokenize(&forced, false, false);
                // The last one may well go on beyond what is forced.
                tokens.pop();
                tokens.truncate(room);
                (part.guess, part.forced) = (tokens, true);
                return;
            }
        }
        part.guess = sequence.guess(price, room);
    }

    /// Puts the parts into the batch.
    fn fill(&mut self, parts: &mut [Part]) -> Result<(), Error> {
        self.context.begin_step();
        for (sequence, part) in self.running.iter().zip(parts) {
            let (tokens, wants_scores) = sequence.next(part.tokens);
            let first = self.cells.computed(sequence.seq);
            for (at, token) in tokens.iter().chain(&part.guess).enumerate() {
                let scores = wants_scores && at + 1 >= tokens.len();
                let index = self.context.add(*token, first + at, sequence.seq, scores)?;
                if scores {
                    part.scores.get_or_insert(index);
                }
            }
        }
        Ok(())
    }

    /// Chooses the next tokens of every sequence that has scores, and ends the sequences that are complete.
    fn pass_on(&mut self, parts: Vec<Part>, books: &mut Books<'_>) -> Result<(), Error> {
        let mut going_on = Vec::with_capacity(self.running.len());
        let readers = parts.iter().filter(|part| part.scores.is_some()).count();
        let price = self.budget.price_of_guess(readers);
        for (mut sequence, part) in std::mem::take(&mut self.running).into_iter().zip(parts) {
            let outcome = self.choose_all(&mut sequence, &part);
            let right = *outcome.as_ref().map_or(&0, |(right, _)| right);
            if !part.forced {
                sequence.drafter.learn(part.guess.len(), right, price);
            }
            self.account(&mut sequence, &part, right, books);
            match outcome {
                Ok((_, None)) => going_on.push(sequence),
                Ok((_, Some(finish))) => {
                    self.cells.end(sequence.seq);
                    sequence.finish(finish);
                }
                Err(message) => {
                    self.cells.end(sequence.seq);
                    sequence.fail(FailCode::Engine, message);
                }
            }
        }
        self.running = going_on;
        self.context.apply(self.cells.take_ops())
    }

    /// Books what a sequence's part of the step has computed.
    fn account(&mut self, sequence: &mut Sequence, part: &Part, right: usize, books: &mut Books<'_>) {
        let computed = part.tokens + right;
        let begin = sequence.done();
        self.cells.extend(sequence.seq, &sequence.tokens()[begin..begin + computed], part.tokens + part.guess.len());
        sequence.advance(computed);
        let chosen = part.scores.map_or(0, |_| right + 1);
        books.charge(&sequence.flow, part.tokens.saturating_sub(usize::from(chosen > 0)), chosen);
        let number = |n: usize| u64::try_from(n).unwrap_or_default();
        let totals = &self.shared.house.totals;
        if part.forced {
            totals.forced_tokens.fetch_add(number(right), Relaxed);
        } else {
            totals.drafted_tokens.fetch_add(number(part.guess.len()), Relaxed);
            totals.accepted_tokens.fetch_add(number(right), Relaxed);
        }
        if part.tokens > 1 {
            // Others that begin alike can go on from here while this one is not finished yet.
            self.cells.publish(sequence.seq);
        }
        if sequence.pinned > 0 && sequence.done() >= sequence.pinned {
            self.cells.publish(sequence.seq);
            self.cells.pin(sequence.seq, sequence.pinned);
            sequence.pinned = 0;
        }
    }

    /// The tokens that the model chooses: one, and one more for each guess that was right. Returns how many
    /// were.
    fn choose_all(&mut self, sequence: &mut Sequence, part: &Part) -> Result<(usize, Option<Finish>), String> {
        let Some(first) = part.scores else { return Ok((0, None)) };
        let mut right = 0;
        for index in first.. {
            let (token, finish) = self.choose(sequence, index)?;
            if finish.is_some() || part.guess.get(right) != Some(&token) {
                return Ok((right, finish));
            }
            right += 1;
        }
        Ok((right, None))
    }

    fn choose(&mut self, sequence: &mut Sequence, index: i32) -> Result<(LlamaToken, Option<Finish>), String> {
        self.scores.clear();
        self.scores.extend_from_slice(self.context.scores(index));
        let at = |token: &LlamaToken| usize::try_from(token.0).ok();
        let ends = if sequence.choice.ignore_end { self.ends.as_slice() } else { &[] };
        for token in self.vocab.suppress_tokens().iter().chain(ends) {
            if let Some(score) = at(token).and_then(|at| self.scores.get_mut(at)) {
                *score = f32::NEG_INFINITY;
            }
        }
        for (token, bias) in &sequence.choice.bias {
            if let Some(score) = at(token).and_then(|at| self.scores.get_mut(at)) {
                *score += bias;
            }
        }
        let token = self.sample(sequence)?;
        if self.vocab.is_eog(token) {
            return Ok((token, sequence.accept(&Next::End, self.context_length)?));
        }
        if let Some(alternatives) = sequence.choice.logprobs {
            sequence.note(self.logprobs(token, index, alternatives));
        }
        self.piece.clear();
        // Some families mark calls with control tokens.
        self.vocab.token_to_piece_into(token, &mut self.piece, sequence.choice.parser.is_some(), None);
        self.shared.house.totals.produced_one();
        Ok((token, sequence.accept(&Next::Token(token, &self.piece), self.context_length)?))
    }

    /// The next token from the scores; among those that fit, where the completion must match something.
    fn sample(&mut self, sequence: &mut Sequence) -> Result<LlamaToken, String> {
        const BROKEN: &str = "the model's scores are not numbers";
        let token = LlamaToken(sequence.sampler.choose(&mut self.scores).ok_or(BROKEN)?);
        let Some(constraint) = &mut sequence.choice.constraint else { return Ok(token) };
        let fits = if self.vocab.is_eog(token) { constraint.may_end() } else { constraint.admits(token) };
        if fits {
            return Ok(token);
        }
        let vocab = &self.vocab;
        constraint.rule_out(&mut self.scores, |token| vocab.is_eog(token))?;
        sequence.sampler.choose_again(&self.scores).map(LlamaToken).ok_or_else(|| BROKEN.to_owned())
    }

    /// How likely `token` was and what else, by the model's own scores, which the step still has.
    fn logprobs(&self, token: LlamaToken, index: i32, alternatives: usize) -> TokenLogprob {
        let scores = self.context.scores(index);
        let mut tokens = likeliest(scores, alternatives);
        tokens.insert(0, token.0);
        let told = log_probabilities(scores, &tokens).into_iter().zip(tokens).map(|(logprob, token)| {
            let mut bytes = Vec::new();
            self.vocab.token_to_piece_into(LlamaToken(token), &mut bytes, true, None);
            TokenLogprob { bytes, logprob, top: Vec::new() }
        });
        let mut told = told.collect::<Vec<_>>();
        let chosen = told.remove(0);
        TokenLogprob { top: told, ..chosen }
    }
}
