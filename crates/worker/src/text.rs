//! From token bytes to text that may be sent: whole characters, and nothing of a stop text.

use encoding_rs::{Decoder, UTF_8};

/// Turns the bytes of successive tokens into whole characters. One character may span several tokens.
pub struct Characters {
    decoder: Decoder,
}

impl Characters {
    pub fn new() -> Self {
        Self { decoder: UTF_8.new_decoder_without_bom_handling() }
    }

    /// The characters that are complete after `bytes`. Bytes that can never become UTF-8 come out as
    /// U+FFFD; the beginning of a character stays inside until its end arrives (a cut-off one never comes out).
    pub fn push(&mut self, bytes: &[u8]) -> String {
        // `None` only on overflow of usize; the decoder then simply works in several rounds.
        let room = self.decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len() * 3 + 16);
        let mut text = String::with_capacity(room);
        let mut rest = bytes;
        loop {
            let (result, read, _) = self.decoder.decode_to_string(rest, &mut text, false);
            rest = rest.get(read..).unwrap_or_default();
            match result {
                encoding_rs::CoderResult::InputEmpty => return text,
                encoding_rs::CoderResult::OutputFull => text.reserve(rest.len() * 3 + 16),
            }
        }
    }
}

/// What may be sent after one more piece of text.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    pub text: String,
    /// This stop text is complete; the completion ends here.
    pub stop: Option<String>,
}

/// Holds back what may be the beginning of a stop text until it is clear whether it is one.
pub struct StopFilter {
    stops: Vec<String>,
    held: String,
}

impl StopFilter {
    /// Empty stop texts are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    pub fn push(&mut self, text: &str) -> Passed {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| Some((self.held.find(stop.as_str())?, stop))).min_by_key(|(at, _)| *at);
        if let Some((at, stop)) = first {
            self.held.truncate(at);
            return Passed { text: std::mem::take(&mut self.held), stop: Some(stop.clone()) };
        }
        let keep = self.stops.iter().map(|stop| longest_overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Passed { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// What was held back although no stop text came; call once at the end.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `text` that are the beginning of `stop`.
pub fn longest_overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&n| stop.is_char_boundary(n) && text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_out_whole_however_they_are_cut() {
        let text = "Grüße, ẞ und 👩‍💻!";
        for size in 1..6 {
            let mut characters = Characters::new();
            let pieces: Vec<String> = text.as_bytes().chunks(size).map(|bytes| characters.push(bytes)).collect();
            assert_eq!(pieces.concat(), text, "cut every {size} bytes");
        }
    }

    #[test]
    fn a_character_that_is_never_finished_does_not_come_out() {
        let mut characters = Characters::new();
        assert_eq!(characters.push(&"a€".as_bytes()[..3]), "a");
    }

    #[test]
    fn bytes_that_are_not_text_become_replacement_characters() {
        assert_eq!(Characters::new().push(b"a\xffb"), "a\u{fffd}b");
    }

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut filter = StopFilter::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut out = Vec::new();
        for piece in pieces {
            let passed = filter.push(piece);
            out.push(passed.text);
            if passed.stop.is_some() {
                return (out, true);
            }
        }
        out.push(filter.finish());
        (out, false)
    }

    #[test]
    fn the_stop_text_that_comes_first_is_told() {
        let filter = || StopFilter::new(vec!["END".into(), "STOP".into(), "ENDING".into()]);
        assert_eq!(filter().push("one STOP END"), Passed { text: "one ".into(), stop: Some("STOP".into()) });
        assert_eq!(filter().push("ENDING"), Passed { text: String::new(), stop: Some("END".into()) }, "the first of the list");
        assert_eq!(filter().push("one"), Passed { text: "one".into(), stop: None });
    }

    #[test]
    fn a_stop_text_over_several_pieces_never_shows() {
        assert_eq!(run(&["STOP"], &["one S", "T", "OP two"]), (vec!["one ".into(), String::new(), String::new()], true));
    }

    #[test]
    fn what_only_looked_like_a_stop_text_is_sent_later() {
        assert_eq!(run(&["STOP"], &["a ST", "ART"]), (vec!["a ".into(), "START".into(), String::new()], false));
        assert_eq!(run(&["STOP"], &["a ST"]), (vec!["a ".into(), "ST".into()], false));
    }

    #[test]
    fn the_earliest_of_several_stop_texts_wins() {
        assert_eq!(run(&["two", "one"], &["zero one two"]), (vec!["zero ".into()], true));
    }

    #[test]
    fn overlaps_respect_characters() {
        assert_eq!(run(&["über"], &["x ü", "x"]), (vec!["x ".into(), "üx".into(), String::new()], false));
    }

    #[test]
    fn without_stop_texts_everything_passes_at_once() {
        assert_eq!(run(&[""], &["a", "b"]), (vec!["a".into(), "b".into(), String::new()], false));
    }
}
