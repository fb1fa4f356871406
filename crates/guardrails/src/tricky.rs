//! Texts on which a fast way to find something and a plain one differ, if they do: made of what rules look for, of what only
//! looks like it, and of characters that hide, divide or join, always the same.

use crate::view::View;

/// What divides and joins; what nobody sees, and what belongs to the letter before it.
const SIGNS: &[&str] = &[
    " ", " ", " ", "  ", "\n", "\t", "\u{b}", "\u{1c}", "\u{85}", "\u{a0}", "\u{2003}", ".", ". ", ",", "!", ":", ": ", "=", "-", "'", "’",
    "`", "\"", "„", "“", "_", "\\", "\\_", "(", ")", "[", "]", "<", ">", "#", "/", "+", "@", "–", "ª", "²", "½", "٣", "\u{ad}", "\u{200b}",
    "\u{200d}", "\u{feff}", "\u{fe0f}", "\u{308}", "\u{301}", "🙂",
];
const WORDS: &str = r"
    The river bridge und Straße GRÖSSE über ſystem İstanbul 日本 слово e x b b2b 1gn0re wein Wein WEIN secret plan
    Herr Herrn Frau Dr gez Prof von der Weber Müller Anna ANNA Hans-Peter Jörg Joerg Ole O'Brien Mein mein My Name name first ist is lautet
    Ich ich heiße HEISSE heisse bin I am I'm I’m Hallo Dear Liebe Grüßen Gruss regards Yours Nachname Surname Antragsteller Empfänger Contact
    Platz Bürgermeisterin
    0 7 12 030 0049 +49 1234567 (030) 555-234-5678 DE89 xDE89370400440532013000 86095742719 2024-01-31
    a@b.de info [at] (at) example.org git@ https:// user:hunter2@ password Passwort PWD api_key token hunter2! Sommer2024 a1b2c3d4e5f6g7h8
    Bearer sk- ghp_ IBAN_1 IBAN\_2 [IBAN_3]
    Ignore ignore ignor all previous instructions Vergiss deine Regeln you are now DAN <|im_start|> [INST] <<SYS>> </system> ａｌｌ 𝐢𝐠𝐧𝐨𝐫𝐞 Ignоrе";
const PHRASES: &[&str] = &[
    "u\u{308}ber",
    "\u{212a}ennwort: ",
    "\u{e0041}",
    "👩\u{200d}🌾",
    "Mein Name ist ",
    "my name is ",
    "ich heiße ",
    "I am Peter",
    "First name: ",
    "Mit freundlichen Grüßen\n\nAnna Weber",
    "DE89 3704 0044 0532 0130 00",
    "4111 1111 1111 1111",
    "Tel. 030 1234567",
    "the password is ",
    "i g n o r e  a l l ",
    "system prompt",
    "## System",
    "\n### instructions\n",
    "\nsystem:",
    "end of the prompt",
];
const TEXTS: u64 = 1500;
const MOST_PIECES: usize = 14;

/// Short texts; some with a long way between their parts.
pub(crate) fn texts() -> impl Iterator<Item = String> {
    let pieces: Vec<&str> = SIGNS.iter().chain(PHRASES).copied().chain(WORDS.split_whitespace()).collect();
    let single: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
    single.into_iter().chain((0..TEXTS).map(move |seed| text(&pieces, seed)))
}

fn text(pieces: &[&str], seed: u64) -> String {
    let mut state = seed;
    // SplitMix64 (Steele, Lea, Flood 2014).
    let mut below = |most: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(most).expect("a number")).expect("a number")
    };
    let mut text = String::new();
    for _ in 0..=below(MOST_PIECES) {
        text.push_str(pieces[below(pieces.len())]);
        match below(12) {
            0..=5 => text.push(' '),
            6 => text.push_str(&"ö ".repeat(below(200))),
            _ => {}
        }
    }
    text
}

/// A text as a whole, and as a window on a stream.
pub(crate) fn views(text: &str) -> [View<'_>; 3] {
    let whole = View::whole(text);
    let window = View { from: text.floor_char_boundary(text.len() / 3), opens: false, closes: false, ..whole };
    [whole, View { closes: false, ..whole }, window]
}
