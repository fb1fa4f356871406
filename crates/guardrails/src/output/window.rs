//! The end of an answer: what was not released yet, and some text before it to understand it by.

use crate::view::View;

/// Bytes that stay after they were released. No rule looks further back.
const CONTEXT: usize = 256;
/// So many kept bytes are looked at anew with each piece. More are only when they have grown by an eighth, so that a long match
/// costs no more than a few times its length.
const PATIENCE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Window {
    text: String,
    released: usize,
    /// It was looked at up to here.
    seen: usize,
    /// The text before it was cut off within a word.
    cut: bool,
}

impl Window {
    pub(super) fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn released(&self) -> usize {
        self.released
    }

    pub(super) fn view(&self, closes: bool) -> View<'_> {
        View { text: &self.text, from: self.released, opens: !self.cut, closes }
    }

    /// There is enough that was not looked at.
    pub(super) fn is_due(&self) -> bool {
        let (kept, fresh) = (self.text.len() - self.released, self.text.len() - self.seen);
        kept <= PATIENCE || fresh * 8 >= kept
    }

    /// Up to here everything is decided. Forgets what nobody needs any more.
    pub(super) fn release(&mut self, until: usize) {
        self.released = until;
        self.seen = self.text.len();
        if self.released > 2 * CONTEXT {
            let from = self.text.floor_char_boundary(self.released - CONTEXT);
            let space = self.text[from..self.released].find(char::is_whitespace);
            let from = from + space.unwrap_or_default();
            self.cut = space.is_none();
            self.text.drain(..from);
            self.released -= from;
            self.seen -= from;
        }
    }

    /// Passes over what is left of a word. Whether it may go on.
    pub(super) fn drop_word(&mut self) -> bool {
        let rest = &self.text[self.released..];
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`'));
        let until = end.map_or(self.text.len(), |end| self.released + end);
        self.release(until);
        end.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::{CONTEXT, Window};

    #[test]
    fn it_stays_small_and_knows_where_words_begin() {
        let mut window = Window::default();
        for _ in 0..1000 {
            window.push("ein Wort ");
            window.release(window.text().len());
            assert!(window.text().len() <= 2 * CONTEXT + 9);
        }
        let view = window.view(false);
        assert!(view.opens && view.text.starts_with(' '), "{:?}", view.text);
        for _ in 0..1000 {
            window.push("ööö");
            window.release(window.text().len());
        }
        assert!(!window.view(false).opens);
    }

    #[test]
    fn long_matches_are_not_looked_at_for_every_piece() {
        let mut window = Window::default();
        let mut looks = 0;
        for _ in 0..16_384 {
            window.push("x");
            if window.is_due() {
                looks += 1;
                window.release(0);
            }
        }
        assert!(looks < 1200, "{looks}. If you are here because this failed: a long key costs a processor.");
    }

    #[test]
    fn a_word_is_passed_over() {
        let mut window = Window::default();
        window.push("abc");
        assert!(window.drop_word());
        window.push("def ghi");
        assert!(!window.drop_word());
        assert_eq!(&window.text()[window.released()..], " ghi");
    }
}
