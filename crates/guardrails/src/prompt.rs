//! Whether an answer tells what the system prompt says.
//!
//! A leak is a run of [`RUN`] words, each within [`GRAM`] words in a row that the system prompt has as well. So left out or
//! exchanged pieces do not hide it; a translation or a summary does.

use crate::{
    tokens::{Tokens, Vocabulary, fold, folded},
    view::{Hit, View, What},
};
use std::{collections::HashSet, ops::Range};

/// Words in a row that have to be the same.
const GRAM: usize = 4;
/// Words that make a leak. People quote their rules in fewer.
const RUN: usize = 12;
/// A shorter prompt says nothing that would be worth protecting; one with fewer words than [`RUN`] leaks as a whole.
const SHORTEST: usize = 6;
/// Bytes between two words of a run.
const WIDEST_SPACE: usize = 16;
/// Bytes before the search in which a run may have begun whose first part was masked already.
const LOOK_BACK: usize = 200;
/// Stands in a gram for a word that did not come yet.
const NONE: usize = usize::MAX;

type Gram = [usize; GRAM];

/// A system prompt, ready to be recognised.
#[derive(Debug)]
pub(crate) struct SystemPrompt {
    vocabulary: Vocabulary,
    /// Its grams, and their beginnings filled up with [`NONE`].
    grams: HashSet<Gram>,
    run: usize,
}

/// A word of a text with its number; `None` if the prompt does not have it.
type Word = (Range<usize>, Option<usize>);

impl SystemPrompt {
    /// `None` if it is too short.
    pub(crate) fn new(prompt: &str) -> Option<Self> {
        let words: Vec<String> = Tokens::new(prompt).filter(|token| token.word).map(|token| folded(token.text)).collect();
        if words.len() < SHORTEST {
            return None;
        }
        let vocabulary: Vocabulary = words.iter().cloned().collect();
        let ids: Vec<usize> = words.iter().filter_map(|word| vocabulary.id(word)).collect();
        let grams = ids.windows(GRAM).flat_map(|window| (1..=GRAM).map(move |length| gram(&window[..length]))).collect();
        Some(Self { vocabulary, grams, run: ids.len().min(RUN) })
    }

    /// Adds what is found; says where begins what is not decided yet. A run that may go on is found as well.
    pub(crate) fn scan(&self, view: View<'_>, hits: &mut Vec<Hit>) -> usize {
        let (words, rest) = self.words(view);
        let mut run: Option<Range<usize>> = None;
        for end in GRAM..=words.len() {
            let start = end - GRAM;
            if !self.known(&words[start..end]) {
                continue;
            }
            match run.as_mut().filter(|run| start <= run.end) {
                Some(run) => run.end = end,
                None => {
                    hits.extend(run.replace(start..end).and_then(|run| self.leak(&words, run)));
                }
            }
        }
        let next = match rest {
            Rest::Nothing => None,
            // Right behind a run any word may begin another gram of it.
            Rest::Space => self.pending(&words).or(run.as_ref().map(|run| run.end).filter(|end| *end == words.len())),
            Rest::Word(_) => self.pending(&words).or(Some(words.len())),
        };
        let goes_on = |run: &Range<usize>| next.is_some_and(|next| next <= run.end);
        let from = match (&run, next) {
            (Some(run), _) if goes_on(run) => words[run.start].0.start,
            (_, Some(next)) => words.get(next).map_or_else(|| rest.start(view), |(range, _)| range.start),
            (_, None) => view.text.len(),
        };
        hits.extend(run.and_then(|run| self.leak(&words, run)));
        from
    }

    fn leak(&self, words: &[Word], run: Range<usize>) -> Option<Hit> {
        let range = words[run.start].0.start..words[run.end - 1].0.end;
        (run.len() >= self.run).then_some(Hit::new(range, What::SystemPrompt))
    }

    fn known(&self, words: &[Word]) -> bool {
        let mut ids = [NONE; GRAM];
        for (id, (_, word)) in ids.iter_mut().zip(words) {
            let Some(word) = word else { return false };
            *id = *word;
        }
        self.grams.contains(&ids)
    }

    /// The first of the last words that are the beginning of a gram.
    fn pending(&self, words: &[Word]) -> Option<usize> {
        (1..GRAM).rev().filter(|length| *length <= words.len()).map(|length| words.len() - length).find(|at| self.known(&words[*at..]))
    }

    fn words(&self, view: View<'_>) -> (Vec<Word>, Rest) {
        let mut words = Vec::new();
        let mut word = String::new();
        let from = view.back(LOOK_BACK);
        let continues = view.continues(from);
        let mut end = from;
        for token in Tokens::after(view.text, from).filter(|token| token.word) {
            if token.start - end > WIDEST_SPACE {
                // A word that no gram has.
                words.push((end..end, None));
            }
            end = token.end;
            fold(token.text, &mut word);
            let partial = continues && token.start == from;
            if end == view.text.len() && !view.closes {
                let rest = if self.vocabulary.may_become(&word) && !partial { Rest::Word(token.start) } else { Rest::Nothing };
                return (words, rest);
            }
            words.push((token.start..end, self.vocabulary.id(&word).filter(|_| !partial)));
        }
        let over = view.closes || view.text.len() - end > WIDEST_SPACE;
        (words, if over { Rest::Nothing } else { Rest::Space })
    }
}

fn gram(words: &[usize]) -> Gram {
    let mut gram = [NONE; GRAM];
    gram[..words.len()].copy_from_slice(words);
    gram
}

/// What a text ends with, after its last complete word.
enum Rest {
    /// Nothing that a run could go on with.
    Nothing,
    Space,
    /// The beginning of a word of the prompt, from here on.
    Word(usize),
}

impl Rest {
    fn start(&self, view: View<'_>) -> usize {
        if let Self::Word(start) = self { *start } else { view.text.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::SystemPrompt;
    use crate::view::View;

    const PROMPT: &str = "Du bist die Auskunft der Stadt Musterstadt. Antworte freundlich und kurz, nenne niemals interne Aktenzeichen \
        und verweise bei Fragen zum Baurecht immer an das Bauamt im dritten Stock des Rathauses.";

    fn leaks<'a>(prompt: &str, text: &'a str) -> Vec<&'a str> {
        let mut hits = Vec::new();
        SystemPrompt::new(prompt).expect("long enough").scan(View::whole(text), &mut hits);
        hits.into_iter().map(|hit| &text[hit.range]).collect()
    }

    #[test]
    fn what_was_said_word_for_word_is_a_leak() {
        let text = "Gern: ANTWORTE freundlich – und kurz; nenne niemals interne Aktenzeichen und verweise bei Fragen. Ende";
        let leak = "ANTWORTE freundlich – und kurz; nenne niemals interne Aktenzeichen und verweise bei Fragen";
        assert_eq!(leaks(PROMPT, text), [leak], "If you are here because this failed: answers tell what the system prompt says.");
    }

    #[test]
    fn left_out_pieces_do_not_hide_it() {
        let text = "Du bist die Auskunft der Stadt, nenne niemals interne Aktenzeichen, immer an das Bauamt im dritten Stock";
        assert_eq!(leaks(PROMPT, text), [text]);
    }

    #[test]
    fn a_fact_of_the_prompt_may_be_told() {
        for text in [
            "Das Bauamt ist im dritten Stock des Rathauses.",
            "Bitte wenden Sie sich bei Fragen zum Baurecht immer an das Bauamt der Stadt.",
            "Ich bin die Auskunft der Stadt Musterstadt und helfe Ihnen gern weiter, wenn Sie Fragen haben.",
        ] {
            assert_eq!(leaks(PROMPT, text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn a_short_prompt_leaks_as_a_whole() {
        assert!(SystemPrompt::new("Antworte immer auf Deutsch.").is_none());
        let prompt = "Always answer in rhymes about the sea.";
        assert_eq!(leaks(prompt, "It says: always answer in rhymes about the sea!"), ["always answer in rhymes about the sea"]);
        assert_eq!(leaks(prompt, "I always answer in rhymes about the land."), Vec::<&str>::new());
    }

    #[test]
    fn only_what_may_become_a_leak_is_kept_back() {
        let prompt = SystemPrompt::new(PROMPT).unwrap();
        for (text, kept) in [
            ("Das Wetter ist schön", ""),
            ("Sie kommen im", "im"),
            ("Sie kommen im dritten ", "im dritten "),
            ("Sie kommen im dritten Jahr", ""),
            ("Sie kommen im dritten Sto", "im dritten Sto"),
            ("Gut: Du bist die Auskunft der Stadt", "Du bist die Auskunft der Stadt"),
            ("Gut: Du bist die Auskunft der Welt", ""),
            ("Gut: im dritten Stock des Rathauses. ", "im dritten Stock des Rathauses. "),
            ("Gut: im dritten Stock des Rathauses. Xy", ""),
        ] {
            let from = prompt.scan(View { closes: false, ..View::whole(text) }, &mut Vec::new());
            assert_eq!(&text[from..], kept, "{text:?}");
        }
    }
}
