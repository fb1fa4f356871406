//! Words that matter for injections, by class. Umlauts are spelt out, as [`super::reading`] does.

use crate::sieve::{Bits, Sieve, letter};
use std::sync::LazyLock;

/// Classes of one word, a bit for each.
pub(super) type Classes = u64;

macro_rules! classes {
    ($($name:ident),* $(,)?) => { classes!(@ 1; $($name),*); };
    (@ $bit:expr; $name:ident $(, $rest:ident)*) => {
        pub(super) const $name: Classes = $bit;
        classes!(@ $bit << 1; $($rest),*);
    };
    (@ $bit:expr;) => {};
}

classes![
    OVERRIDE,
    SCOPE,
    PREVIOUS,
    YOUR,
    MINE,
    ORDER,
    RULE,
    EVERYTHING,
    REVEAL,
    REPEAT,
    ASK,
    SYSTEM,
    TEXT,
    HIDDEN,
    SYSTEM_TEXT,
    YOU,
    ARE,
    NOW,
    DAN,
    PERSONA,
    DO,
    ANYTHING,
    MODE,
    DEVELOPER,
    ENABLED,
    FROM,
    WITHOUT,
    ACT,
    AS,
    PRETEND,
    AI,
    NEW,
    SEND,
    PRIVATE,
    ADDRESS,
    NOT,
    TELL,
    USER,
    DISABLE,
    SAFETY,
    FOLLOW,
    INSTEAD,
    BOUND,
    LONGER,
    REFUSE,
    ABOUT,
    MARKER,
    FENCE,
];

/// A word with `*` stands for all that begin with it.
const TABLE: &[(Classes, &str)] = &[
    (
        OVERRIDE,
        "ignore ignores ignoring ignorier* disregard* forget forgets override* overrule* neglect discard vergiss vergesst vergessen \
         vergesse missacht* verwirf verwerfe verwerfen ueberschreib* uebergeh* umgehe umgehen bypass*",
    ),
    (
        SCOPE,
        "all any every these those given current initial original existing alle allen aller alles saemtlich* jegliche* gesamte* diese \
         diesen urspruenglich* anfaenglich* bestehend* system",
    ),
    (
        SCOPE | PREVIOUS,
        "previous* prior above earlier preceding former foregoing vorherig* bisherig* vorangegangen* vorangehend* vorig* obig* frueher* \
         vorhergehend* zuvor oben vorher davor before bisher",
    ),
    (SCOPE | YOUR, "your yours dein* ihr ihre ihren ihrer ihres euer* eure* its"),
    (MINE, "my mine our mein* unser*"),
    (ORDER, "instruction* directive* prompt prompts command commands anweisung* instruktion* vorgabe* weisung* befehl befehle befehlen"),
    (ORDER | SYSTEM_TEXT, "systemprompt* sysprompt* systemanweisung* systemnachricht* metaprompt*"),
    (
        RULE,
        "rule rules guideline* restriction* constraint* limit limits limitation* policy policies direction* training programming protocol* \
         filter* guardrail* safeguard* censorship ethic* moral* regel regeln richtlinie* einschraenkung* beschraenkung* programmierung \
         zensur ethik* hemmung*",
    ),
    (EVERYTHING, "everything all anything whatever alles text texts words content conversation inhalt* gesagte* nachricht*"),
    (
        REVEAL,
        "reveal* show* print* display* output* tell give write leak* expose* dump* return* share* recite* repeat* quote* paste copy echo \
         disclose* translate* summarize* summarise* zeig* nenn* verrate verrat verraten gib gebe geben wiederhol* schreib* offenbar* \
         zitier* sag sage drucke ausgeben uebersetz* liste",
    ),
    (REPEAT, "repeat* print* output* recite* echo copy paste wiederhol* zitier* ausgeben drucke"),
    (ASK, "what whats which was wie welche welcher welchen welches lautet lauten"),
    (SYSTEM, "system developer"),
    (TEXT, "prompt prompts message messages instruction* nachricht* anweisung* vorgabe* text"),
    (HIDDEN, "initial original hidden secret internal confidential urspruenglich* anfaenglich* versteckt* geheim* intern interne*"),
    (YOU, "you du sie dich"),
    (ARE, "are bist sind seid"),
    (NOW, "now nun jetzt sofort henceforth"),
    (DAN, "dan stan"),
    (
        PERSONA,
        "jailbroken unrestricted unfiltered uncensored unlimited amoral uneingeschraenkt* unzensiert* ungefiltert* unbeschraenkt* hemmungslos*",
    ),
    (DO, "do"),
    (ANYTHING, "anything"),
    (MODE, "mode modus"),
    (DEVELOPER, "developer* entwickler* debug admin god root jailbreak*"),
    (ENABLED, "enabled enable activated activate active on aktiv* eingeschaltet"),
    (FROM, "from ab"),
    (WITHOUT, "without no ohne kein keine keinen keinerlei free frei"),
    (ACT, "act acting behave roleplay verhalte verhalten handle handele agiere spiele spiel antworte"),
    (AS, "as like als wie"),
    (PRETEND, "pretend imagine suppose stell tu tue"),
    (AI, "ai ais llm llms chatbot* assistant* bot ki kis sprachmodell* assistent* chatgpt gpt"),
    (NEW, "new updated revised neue neuen neuer geaenderte*"),
    (SEND, "send sends sending forward* post upload* email exfiltrate* transmit* sende senden schick* leite uebermittl* uebertrag*"),
    (
        PRIVATE,
        "conversation* chat history chatverlauf* verlauf credentials password* passwort* passwoert* key keys secret secrets zugangsdaten \
         data daten systemprompt*",
    ),
    (ADDRESS, "http https www"),
    (NOT, "not dont doesnt never nicht nichts niemals nie kein keinem keiner"),
    (TELL, "tell mention inform say reveal notify sag sage erwaehne erwaehnen informiere verrate sagen"),
    (USER, "user users human nutzer* benutzer* anwender*"),
    (DISABLE, "disable* deactivate* deaktivier* abschalten ausschalten umgehe umgehen bypass* circumvent* remove"),
    (SAFETY, "safety filter* guardrail* safeguard* moderation sicherheit* schutz* inhaltsfilter* zensur censorship"),
    (FOLLOW, "follow* obey* befolg* beacht* befolgen"),
    (INSTEAD, "instead stattdessen"),
    (BOUND, "bound gebunden"),
    (LONGER, "longer mehr nicht not"),
    (REFUSE, "refuse* decline ablehn* verweiger* weigere"),
    (
        ABOUT,
        "injection injections explain* erklaer* mean meaning means bedeut* detect* erkenn* protect* schuetz* defen* abwehr* angriff* \
         attack* phrase* formulierung* hacker*",
    ),
];

struct Stem {
    text: &'static str,
    whole: bool,
    classes: Classes,
}

/// By their first two letters, see [`place`].
static STEMS: LazyLock<Vec<Vec<Stem>>> = LazyLock::new(|| {
    let mut stems: Vec<Vec<Stem>> = std::iter::repeat_with(Vec::new).take(PLACES).collect();
    for (classes, word) in TABLE.iter().flat_map(|(classes, words)| words.split_whitespace().map(|word| (*classes, word))) {
        let text = word.trim_end_matches('*');
        stems[place(text)].push(Stem { text, whole: text == word, classes });
    }
    stems
});

const PLACES: usize = 1 << 10;

/// Below [`PLACES`], the same for words that begin with the same two letters.
fn place(word: &str) -> usize {
    let [first, second, ..] = letters(word, word.len());
    first | (second << 5)
}

/// A first look at words: those with a class pass, and hardly any other does.
struct Known {
    /// Words that are whole, and their inner letters.
    whole: (Sieve, Bits),
    /// How the others begin, none of which has fewer letters than four.
    beginnings: (Bits, Bits),
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let stems = |whole| STEMS.iter().flatten().filter(move |stem| stem.whole == whole).map(|stem| stem.text);
    let first_letters = |whole| stems(whole).map(|text| letters(text, text.len()));
    Known {
        whole: (Sieve::of(stems(true)), first_letters(true).map(inner).collect()),
        beginnings: (first_letters(false).map(beginning).collect(), first_letters(false).map(inner).collect()),
    }
});

/// Of the first four letters.
#[inline]
fn beginning([first, second, third, fourth]: [usize; 4]) -> usize {
    inner([first, second, third, fourth]) ^ (first << 5)
}

/// Of the second to the fourth letter.
#[inline]
fn inner([_, second, third, fourth]: [usize; 4]) -> usize {
    second | (third << 5) | (fourth << 10)
}

/// The first letters of a word of so many bytes that a text begins with; 0 where there is none.
#[inline]
fn letters(text: &str, length: usize) -> [usize; 4] {
    let bytes = text.as_bytes();
    // Cut off rather than looked for: words of fewer letters are many.
    let four = bytes.first_chunk().copied().unwrap_or_else(|| std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0)));
    let cut =
        u32::from_le_bytes(four) & u32::MAX.checked_shl(8 * u32::try_from(length.min(4)).unwrap_or(4)).map_or(u32::MAX, |behind| !behind);
    cut.to_le_bytes().map(letter)
}

/// Whether a word may have a class, so many letters of ASCII in whatever case that a text begins with. Hardly any other
/// passes.
#[inline]
pub(super) fn may_matter(text: &str, length: usize) -> bool {
    let Known { whole, beginnings } = &*KNOWN;
    let letters = letters(text, length);
    let inner = inner(letters);
    // To look at all is cheaper than a guess about the first.
    (whole.0.passes_ascii(&text[..length]) & whole.1.has(inner)) | (beginnings.0.has(beginning(letters)) & beginnings.1.has(inner))
}

fn beginning_like(word: &str) -> &'static [Stem] {
    &STEMS[place(word)]
}

/// The classes of a word.
pub(super) fn classes(word: &str) -> Classes {
    let fits = |stem: &&Stem| if stem.whole { word == stem.text } else { word.starts_with(stem.text) };
    beginning_like(word).iter().filter(fits).fold(0, |classes, stem| classes | stem.classes)
}

/// The longest known word that `letters` begin with: its length and classes. For words that are written as one.
pub(super) fn first_word(letters: &str) -> Option<(usize, Classes)> {
    let fitting = beginning_like(letters).iter().filter(|stem| stem.text.len() > 2 && letters.starts_with(stem.text));
    let length = fitting.map(|stem| stem.text.len()).max()?;
    Some((length, classes(&letters[..length])))
}

#[cfg(test)]
mod tests {
    use super::{ORDER, OVERRIDE, STEMS, SYSTEM_TEXT, YOU, classes, first_word, may_matter};
    use crate::tricky;

    #[test]
    fn words_and_stems_have_their_classes() {
        assert_eq!(classes("ignore"), OVERRIDE);
        assert_eq!(classes("ignoriere"), OVERRIDE);
        assert_eq!(classes("ignorant"), 0);
        assert_eq!(classes("systemprompts") & (ORDER | SYSTEM_TEXT), ORDER | SYSTEM_TEXT);
        assert_eq!((classes("du"), classes("d"), classes("")), (YOU, 0, 0));
    }

    #[test]
    fn every_word_with_a_class_passes() {
        for stem in STEMS.iter().flatten() {
            let text = stem.text;
            for more in ["", " ", "x", "xyz", ", and"] {
                let behind = format!("{text}{more}");
                assert!(may_matter(&behind, text.len()) && may_matter(&behind.to_uppercase(), text.len()), "{behind}");
                let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
                assert!(stem.whole || may_matter(&behind, letters), "{behind}");
            }
        }
        for text in tricky::texts() {
            for word in text.split(|c: char| !c.is_ascii_alphabetic()) {
                assert!(classes(&word.to_ascii_lowercase()) == 0 || may_matter(word, word.len()), "{word}");
            }
        }
        for other in ["river", "bridge", "measures", "weather", "x", ""] {
            assert!(!may_matter(other, other.len()), "{other}");
        }
    }

    #[test]
    fn words_written_as_one_come_apart() {
        assert_eq!(first_word("ignoreall"), Some((6, OVERRIDE)));
        assert_eq!(first_word("xignore"), None);
    }
}
