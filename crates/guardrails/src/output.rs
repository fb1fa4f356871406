//! One answer on its way out, piece by piece.

#[cfg(test)]
mod tests;
mod window;

use crate::{
    decision::{Decision, Tally},
    policy::{Action, Kind, Stage},
    prompt::SystemPrompt,
    pseudonyms::Pseudonyms,
    rules::{Known, Rules},
    view::{Hit, What, places, tidy},
};
use serde::de::IgnoredAny;
use std::{borrow::Cow, fmt, sync::Arc};
use window::Window;

/// Bytes that are kept back at most, while a match goes on.
const MOST_KEPT: usize = 16 * 1024;

/// Watches one answer. It keeps back only what may still become part of a match or of a pseudonym:
///
/// - nothing, if no rule on the way out masks or blocks and there are no pseudonyms;
/// - usually the last word, at most 512 bytes, for personal data, secrets and pseudonyms;
/// - a phrase that has begun, for words; up to eleven words that the system prompt has as well, for its leaks;
/// - up to 16 KiB of something that was found already and still goes on, like a private key. After that much a secret is
///   dropped until a space or a quotation mark ends it.
///
/// Apart from what rules and pseudonyms change, the released texts together are the answer, and no character is divided.
pub struct OutputGuard {
    rules: Arc<Rules>,
    prompt: Option<SystemPrompt>,
    pseudonyms: Pseudonyms,
    mode: Mode,
    window: Window,
    /// The answer has to be JSON: values that return are escaped.
    escapes: bool,
    /// What was released, if it has to be JSON and a rule says so.
    json: Option<String>,
    /// The rule that ended the answer.
    blocked: Option<String>,
    /// A secret that was too long goes on.
    drops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing is to be seen to.
    Pass,
    /// Something is looked for, but nothing is changed.
    Watch,
    Hold,
}

/// What may be sent on after a piece of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released<'a> {
    /// May be empty.
    pub text: Cow<'a, str>,
    /// What was found since the last time.
    pub decisions: Vec<Decision>,
    /// The answer ends here; what comes later is ignored. [`OutputGuard::blocked`] names the rule.
    pub blocked: bool,
}

impl OutputGuard {
    pub(crate) fn new(rules: Arc<Rules>, system_prompt: &str, json: bool, pseudonyms: Pseudonyms) -> Self {
        let needs = rules.output;
        let mode = match (needs.reads(), needs.masks || needs.stops || !pseudonyms.is_empty()) {
            (false, _) if pseudonyms.is_empty() => Mode::Pass,
            (_, false) => Mode::Watch,
            (_, true) => Mode::Hold,
        };
        Self {
            prompt: needs.system_prompt.then(|| SystemPrompt::new(system_prompt)).flatten(),
            json: (json && needs.json).then(String::new),
            escapes: json,
            rules,
            pseudonyms,
            mode,
            window: Window::default(),
            blocked: None,
            drops: false,
        }
    }

    /// Takes the next piece of the answer, which may begin and end anywhere.
    pub fn push<'a>(&mut self, piece: &'a str) -> Released<'a> {
        if self.blocked.is_some() {
            return Released { blocked: true, ..Released::default() };
        }
        let mut released = Released { text: Cow::Borrowed(piece), ..Released::default() };
        if self.mode != Mode::Pass {
            self.window.push(piece);
            let seen = self.advance(false);
            released.decisions = seen.decisions;
            if self.mode == Mode::Hold {
                (released.text, released.blocked) = (seen.text, seen.blocked);
            }
        }
        if let Some(json) = &mut self.json {
            json.push_str(&released.text);
        }
        released
    }

    /// Takes the end of the answer: what was kept back is decided, and so is whether it is JSON. A rule on JSON can only say
    /// afterwards that an answer was none.
    pub fn finish(&mut self) -> Released<'static> {
        if self.blocked.is_some() {
            return Released { blocked: true, ..Released::default() };
        }
        let mut released = if self.mode == Mode::Pass { Released::default() } else { self.advance(true) };
        if self.mode == Mode::Watch {
            released.text = Cow::Borrowed("");
        }
        if let Some(mut json) = self.json.take().filter(|_| !released.blocked) {
            json.push_str(&released.text);
            if serde_json::from_str::<IgnoredAny>(&json).is_err() {
                let mut tally = Tally::new(Stage::Output);
                let rule = self.rules.judge_whole(Kind::Json, 1.0, Stage::Output, &mut tally).map(|rule| rule.name.clone());
                released.decisions.extend(tally.into_decisions());
                released.blocked = rule.is_some();
                self.blocked = rule;
            }
        }
        released
    }

    /// The name of the rule that ended the answer.
    #[must_use]
    pub fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// Decides what can be decided of the window, and releases it.
    fn advance(&mut self, closes: bool) -> Released<'static> {
        if self.drops {
            self.drops = self.window.drop_word();
        }
        if !closes && !self.window.is_due() {
            return Released::default();
        }
        let (mut hits, until) = self.look(closes);
        let (from, len) = (self.window.released(), self.window.text().len());
        let mut until = settled(&hits, if closes { len } else { until.max(from) }, |hit| hit.since).max(from);
        if len - until > MOST_KEPT {
            until = hits.iter().map(|hit| hit.range.end).filter(|end| *end > until).max().unwrap_or(len);
            self.drops = hits.iter().any(|hit| hit.range.end == len && matches!(hit.what, What::Secret(_)) && self.masks(hit));
        }
        // A run of the system prompt's words is a leak before it ends.
        let sure = |hit: &&Hit| hit.range.end <= until || hit.what == What::SystemPrompt;
        let stop = hits.iter().filter(sure).filter(|hit| self.blocks(hit)).map(|hit| hit.range.start).min();
        if let Some(stop) = stop {
            until = settled(&hits, until.min(stop), |hit| hit.range.start).max(from);
        }
        // What began earlier was counted then.
        hits.retain(|hit| hit.range.end <= until || Some(hit.range.start) == stop);
        let mut tally = Tally::new(Stage::Output);
        let fresh = hits.iter().filter(|hit| hit.range.start >= from || Some(hit.range.start) == stop);
        let rule = self.rules.judge(fresh, Stage::Output, &mut tally);
        let blocked = rule.filter(|_| stop.is_some()).map(Known::name);
        let text = self.changed(&hits, until);
        self.window.release(until);
        self.blocked = blocked;
        Released { text: Cow::Owned(text), decisions: tally.into_decisions(), blocked: self.blocked.is_some() }
    }

    /// What is in the window beyond what was released, and where begins what is not decided yet.
    fn look(&self, closes: bool) -> (Vec<Hit>, usize) {
        let view = self.window.view(closes);
        let mut hits = Vec::new();
        let mut until = self.rules.find(view, self.rules.output, &mut hits);
        if let Some(prompt) = &self.prompt {
            until = until.min(prompt.scan(view, &mut hits));
        }
        let mut ours = Vec::new();
        until = until.min(self.pseudonyms.scan(view, &mut ours));
        // A pseudonym may look like what it stands for: `Passwort: SECRET_1`.
        let is_ours = |hit: &Hit| ours.iter().any(|name| name.range.start <= hit.range.start && hit.range.end <= name.range.end);
        hits.retain(|hit| hit.range.end > self.window.released() && !is_ours(hit));
        hits.append(&mut ours);
        tidy(&mut hits);
        (hits, until)
    }

    /// The window from what was released to `until`, as it may be seen.
    fn changed(&self, hits: &[Hit], until: usize) -> String {
        let (window, from) = (self.window.text(), self.window.released());
        let mut text = String::with_capacity(until - from);
        let mut at = from;
        let changes = |hit: &&Hit| hit.range.end <= until && (matches!(hit.what, What::Pseudonym(_)) || self.masks(hit));
        for place in places(hits.iter().filter(changes)) {
            text.push_str(&window[at..place.range.start.max(at)]);
            // The tag of what began earlier stands there already.
            if place.range.start >= from {
                match place.what {
                    What::Pseudonym(index) => text.push_str(&self.pseudonyms.value(index, self.escapes)),
                    what => {
                        text.push('[');
                        text.push_str(what.tag());
                        text.push(']');
                    }
                }
            }
            at = place.range.end;
        }
        text.push_str(&window[at..until]);
        text
    }

    fn masks(&self, hit: &Hit) -> bool {
        self.rules.wants(Action::Mask, hit.what, Stage::Output)
    }

    fn blocks(&self, hit: &Hit) -> bool {
        self.rules.wants(Action::Block, hit.what, Stage::Output)
    }
}

impl fmt::Debug for OutputGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputGuard").field("mode", &self.mode).field("blocked", &self.blocked).finish_non_exhaustive()
    }
}

/// The last place not after `until` that is in the middle of no hit, by where `begins` says that one does.
fn settled(hits: &[Hit], mut until: usize, begins: impl Fn(&Hit) -> usize) -> usize {
    while let Some(hit) = hits.iter().find(|hit| begins(hit) < until && until < hit.range.end) {
        until = begins(hit);
    }
    until
}
