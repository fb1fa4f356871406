//! Texts to ask with: always the same, and no two with more in common than they should have.

const WORDS: [&str; 96] = [
    "river",
    "bridge",
    "council",
    "harbour",
    "letter",
    "winter",
    "garden",
    "machine",
    "window",
    "market",
    "teacher",
    "forest",
    "engine",
    "paper",
    "island",
    "morning",
    "village",
    "record",
    "signal",
    "kitchen",
    "meadow",
    "station",
    "copper",
    "library",
    "captain",
    "orchard",
    "festival",
    "ladder",
    "valley",
    "journal",
    "compass",
    "theatre",
    "mountain",
    "railway",
    "silver",
    "hospital",
    "weather",
    "painter",
    "carries",
    "follows",
    "repairs",
    "describes",
    "crosses",
    "measures",
    "remembers",
    "collects",
    "paints",
    "opens",
    "watches",
    "builds",
    "counts",
    "returns",
    "answers",
    "visits",
    "prepares",
    "discovers",
    "old",
    "quiet",
    "narrow",
    "bright",
    "distant",
    "patient",
    "heavy",
    "careful",
    "early",
    "northern",
    "wooden",
    "gentle",
    "hidden",
    "round",
    "sudden",
    "familiar",
    "beside",
    "behind",
    "during",
    "beyond",
    "without",
    "towards",
    "between",
    "after",
    "before",
    "under",
    "slowly",
    "again",
    "together",
    "twice",
    "nearly",
    "always",
    "seldom",
    "tonight",
    "abroad",
    "upstairs",
    "indoors",
    "alone",
    "ahead",
    "almost",
];

/// What people ask in a chat, under the name of the figure that tells of it. Each answer is a different one, ends by itself,
/// and repeats neither the question nor itself.
pub const QUESTIONS: [(&str, &str); 8] = [
    ("chat_leaves_on_per_off", "Why do leaves turn yellow in autumn? Answer in two sentences."),
    ("chat_canal_on_per_off", "What is the difference between a river and a canal? Answer in two sentences."),
    ("chat_meeting_on_per_off", "Write one polite sentence that moves a meeting from Monday to Thursday."),
    ("chat_bicycle_on_per_off", "How does a bicycle stay upright while it rolls? Answer in two sentences."),
    ("chat_soup_on_per_off", "My soup is too salty. What can I do about it? Answer in two sentences."),
    ("chat_train_on_per_off", "What speaks for a night train instead of a flight? Answer in two sentences."),
    ("chat_library_on_per_off", "What was a library for before there were computers? Answer in two sentences."),
    ("chat_harbour_on_per_off", "Describe a rainy evening in a small harbour in two sentences."),
];

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `most`.
    pub fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(most).unwrap_or(1)).unwrap_or(0)
    }
}

/// About `tokens` tokens of sentences; another `seed` gives another text from the first word on.
pub fn prose(seed: u64, tokens: usize) -> String {
    let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut text = String::new();
    let mut words = 0;
    // About 1.1 tokens for a word, one for a full stop.
    while words * 6 / 5 < tokens {
        let length = 6 + random.below(9);
        for word in 0..length {
            let chosen = WORDS[random.below(WORDS.len())];
            text.push_str(if word == 0 { "The " } else { " " });
            text.push_str(chosen);
        }
        text.push_str(". ");
        words += length + 1;
    }
    text
}

/// A question with a beginning of its own.
pub fn question(number: usize) -> String {
    let seed = u64::try_from(number).unwrap_or(0) + 1;
    format!("Note {number}: {}\nWrite a long and detailed story that goes on from this note.", prose(seed, 24))
}

/// A Rust-like source file to be edited.
pub fn source(seed: u64) -> String {
    let mut random = Random(seed);
    let mut text = String::new();
    for function in 0..9 {
        let (a, b) = (WORDS[random.below(38)], WORDS[random.below(38)]);
        text.push_str(&format!(
            "fn {a}_{b}_{function}(input: &Request) -> Result<Response, Error> {{\n    let {a} = input.{b}().ok_or(Error::Missing(\"{b}\"))?;\n    log::info!(\"{a} is ready\");\n    Ok(Response::new({a}, {function}))\n}}\n\n"
        ));
    }
    text
}
