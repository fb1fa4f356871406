//! Words and phrases that a tenant does not want: whole, in any case, over any space.

use crate::{
    tokens::{Tokens, Vocabulary, expanded, fold, folded},
    view::{Hit, View, What},
};
use foldhash::{HashMap, HashMapExt};

/// Bytes between two words of a phrase.
const WIDEST_SPACE: usize = 16;
const ROOT: usize = 0;

/// The lists of all rules in one tree: a text is read once, however many words there are.
#[derive(Debug)]
pub(crate) struct WordList {
    vocabulary: Vocabulary,
    nodes: Vec<Node>,
    /// From a node over a word's number to the next one.
    edges: HashMap<(usize, usize), usize>,
}

#[derive(Debug, Default)]
struct Node {
    /// Rules with a phrase that ends here.
    rules: Vec<usize>,
    /// Some phrase goes on.
    leads: bool,
}

impl WordList {
    /// Of lists with the number of their rule, and whether `ae` and `ä` are the same in them.
    pub(crate) fn new<'a>(lists: impl Iterator<Item = (usize, &'a [String], bool)>) -> Self {
        let phrases: Vec<_> = lists
            .flat_map(|(rule, words, umlauts)| words.iter().flat_map(move |word| spellings(word, umlauts).map(move |it| (rule, it))))
            .collect();
        let vocabulary: Vocabulary = phrases.iter().flat_map(|(_, phrase)| phrase.iter().cloned()).collect();
        let mut list = Self { vocabulary, nodes: vec![Node::default()], edges: HashMap::new() };
        for (rule, phrase) in phrases {
            list.add(rule, &phrase);
        }
        list
    }

    fn add(&mut self, rule: usize, phrase: &[String]) {
        let mut node = ROOT;
        for word in phrase.iter().filter_map(|word| self.vocabulary.id(word)) {
            let fresh = self.nodes.len();
            let next = *self.edges.entry((node, word)).or_insert(fresh);
            if next == fresh {
                self.nodes.push(Node::default());
                self.nodes[node].leads = true;
            }
            node = next;
        }
        let rules = &mut self.nodes[node].rules;
        if node != ROOT && !rules.contains(&rule) {
            rules.push(rule);
        }
    }

    /// Adds what is found; says where begins what is not decided yet.
    pub(crate) fn scan(&self, view: View<'_>, hits: &mut Vec<Hit>) -> usize {
        let len = view.text.len();
        // Phrases that are under way: how far, and where they began.
        let mut open: Vec<(usize, usize)> = Vec::new();
        let mut word = String::new();
        let mut end = view.from;
        let continues = view.continues(view.from);
        for token in Tokens::after(view.text, view.from) {
            if token.start - end > WIDEST_SPACE {
                open.clear();
            }
            end = token.end;
            if continues && token.word && token.start == view.from {
                continue;
            }
            let goes_on = token.word && end == len && !view.closes;
            if !goes_on && !self.vocabulary.passes_token(&token) {
                open.clear();
                continue;
            }
            fold(token.text, &mut word);
            if goes_on {
                let from = open.first().map_or(token.start, |(_, start)| *start);
                return if self.vocabulary.may_become(&word) { from } else { len };
            }
            let Some(id) = self.vocabulary.id(&word) else {
                open.clear();
                continue;
            };
            open.push((ROOT, token.start));
            open.retain_mut(|(node, start)| {
                let Some(next) = self.edges.get(&(*node, id)) else { return false };
                *node = *next;
                let found = |rule: &usize| Hit::new(*start..token.end, What::Word(*rule));
                hits.extend(self.nodes[*next].rules.iter().map(found));
                self.nodes[*next].leads
            });
        }
        if view.closes || len - end > WIDEST_SPACE { len } else { open.first().map_or(len, |(_, start)| *start) }
    }
}

/// The ways to write a phrase, as words to compare.
fn spellings(phrase: &str, umlauts: bool) -> impl Iterator<Item = Vec<String>> + use<> {
    let plain: Vec<String> = Tokens::new(phrase).map(|token| folded(token.text)).collect();
    let others: Option<[Vec<String>; 2]> = umlauts.then(|| {
        let contracted = |word: &String| word.replace("ae", "ä").replace("oe", "ö").replace("ue", "ü");
        [plain.iter().map(|word| expanded(word)).collect(), plain.iter().map(contracted).collect()]
    });
    std::iter::once(plain).chain(others.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::WordList;
    use crate::view::{View, What, tidy};

    fn list(words: &[&str], umlauts: bool) -> WordList {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        WordList::new([(0, words.as_slice(), umlauts)].into_iter())
    }

    fn found<'a>(list: &WordList, text: &'a str) -> Vec<&'a str> {
        let mut hits = Vec::new();
        list.scan(View::whole(text), &mut hits);
        tidy(&mut hits);
        hits.into_iter().map(|hit| &text[hit.range]).collect()
    }

    #[test]
    fn whole_words_in_any_case_are_found() {
        let list = list(&["Wein", "ÜBER", "Straße", "C++", "Project X"], false);
        let text = "WEIN, Weinberg, Rotwein, wein. über, Uber, STRASSE; c++ c#, project\n  x, project xy, projectx, We\u{ad}in";
        assert_eq!(found(&list, text), ["WEIN", "wein", "über", "STRASSE", "c++", "project\n  x", "We\u{ad}in"]);
    }

    #[test]
    fn umlauts_are_one_with_their_spelling_where_wanted() {
        assert_eq!(
            found(&list(&["Müller", "Goethe"], true), "Mueller, MÜLLER, Göthe, Goethe, Muller"),
            ["Mueller", "MÜLLER", "Göthe", "Goethe"]
        );
        assert_eq!(found(&list(&["Müller"], false), "Mueller, Müller"), ["Müller"]);
        assert_eq!(found(&list(&["über"], true), "u\u{308}ber, UEBER"), ["u\u{308}ber", "UEBER"]);
    }

    #[test]
    fn the_longest_phrase_counts_once() {
        let list = list(&["a", "a b", "b c d"], false);
        assert_eq!(found(&list, "a b c d"), ["a b", "b c d"]);
        assert_eq!(found(&list, "a a b"), ["a", "a b"]);
        assert_eq!(found(&list, &format!("b{}c d", " ".repeat(17))), Vec::<&str>::new());
    }

    #[test]
    fn each_rule_has_its_own_list() {
        let (one, two) = (["x".to_owned()], ["x".to_owned(), "y".to_owned()]);
        let list = WordList::new([(3, &one[..], false), (5, &two[..], false)].into_iter());
        let mut hits = Vec::new();
        list.scan(View::whole("x y"), &mut hits);
        assert_eq!(hits.iter().map(|hit| hit.what).collect::<Vec<_>>(), [What::Word(3), What::Word(5), What::Word(5)]);
    }

    #[test]
    fn only_what_may_become_a_phrase_is_kept_back() {
        let list = list(&["secret plan", "wein"], false);
        for (text, kept) in [
            ("no we", "we"),
            ("no wem", ""),
            ("no wein", "wein"),
            ("no wein ", ""),
            ("the secret ", "secret "),
            ("the secret pl", "secret pl"),
            ("the secret pi", ""),
            ("the secret plan.", ""),
        ] {
            let from = list.scan(View { closes: false, ..View::whole(text) }, &mut Vec::new());
            assert_eq!(&text[from..], kept, "{text:?}");
        }
    }
}
