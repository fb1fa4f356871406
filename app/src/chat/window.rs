//! Which rows of a long list are on the page: the visible ones and some around them. Heights that
//! were measured are used, the others are estimated.

use contract::{chat::MessageRole, ids::MessageId};
use std::{collections::HashMap, ops::Range};

/// Pixels above and below the visible part that are rendered too.
const OVERSCAN: f64 = 700.0;
/// Rows that are rendered at least, so that a wrong estimate never shows an empty page.
const AT_LEAST: usize = 6;

/// What is rendered, and how much room the rest takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Indices of the rendered rows.
    pub rows: Range<usize>,
    /// Pixels of the rows before them.
    pub before: f64,
    /// Pixels of the rows after them.
    pub after: f64,
}

/// A guess at a row's height from its text, in pixels.
#[must_use]
pub fn estimate(role: MessageRole, bytes: usize, lines: usize) -> f64 {
    let (frame, per_line) = match role {
        MessageRole::User => (72.0, 60.0),
        MessageRole::Assistant => (88.0, 84.0),
    };
    let wrapped = bytes as f64 / per_line;
    frame + 25.0 * wrapped.max(lines as f64).max(1.0)
}

/// Heights of rows, by message.
#[derive(Clone, Debug, Default)]
pub struct Heights(HashMap<MessageId, f64>);

impl Heights {
    /// The measured height, or the estimate.
    #[must_use]
    pub fn of(&self, id: MessageId, estimate: impl FnOnce() -> f64) -> f64 {
        self.0.get(&id).copied().unwrap_or_else(estimate)
    }

    /// Notes a measurement.
    pub fn measured(&mut self, id: MessageId, height: f64) {
        self.0.insert(id, height);
    }

    /// Forgets all measurements: another chat, or another width.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The window for a list of `heights` seen from `top` (pixels scrolled) through a `view` so high.
#[must_use]
pub fn window(heights: &[f64], top: f64, view: f64) -> Window {
    let (from, to) = (top - OVERSCAN, top + view + OVERSCAN);
    let mut edge = 0.0;
    let mut start = heights.len();
    let mut end = 0;
    for (ix, height) in heights.iter().enumerate() {
        if edge + height >= from && edge <= to {
            start = start.min(ix);
            end = ix + 1;
        }
        edge += height;
    }
    // Scrolled beyond the end, as after a wrong estimate: show the end.
    if start >= end {
        end = heights.len();
        start = end.saturating_sub(AT_LEAST);
    }
    let end = end.max((start + AT_LEAST).min(heights.len()));
    let start = start.min(end.saturating_sub(AT_LEAST));
    Window { before: heights[..start].iter().sum(), after: heights[end..].iter().sum(), rows: start..end }
}

/// Where row `index` begins, in pixels.
#[must_use]
pub fn offset(heights: &[f64], index: usize) -> f64 {
    heights.iter().take(index).sum()
}

#[cfg(test)]
mod tests {
    use super::window;

    #[test]
    fn chat_window_covers_the_view_and_leaves_the_rest_out() {
        let heights = vec![100.0; 1_000];
        let seen = window(&heights, 50_000.0, 800.0);
        assert!(seen.rows.start <= 500 && seen.rows.end >= 508, "{seen:?}");
        assert!(
            seen.rows.len() < 30,
            "{seen:?}. If you are here because this failed: a long chat would fill the page with thousands of elements."
        );
        let all: f64 = heights.iter().sum();
        let inside: f64 = heights[seen.rows.clone()].iter().sum();
        assert!((seen.before + inside + seen.after - all).abs() < 1e-6);
    }

    #[test]
    fn chat_window_survives_its_edges() {
        assert_eq!(window(&[], 0.0, 800.0).rows, 0..0);
        assert_eq!(window(&[50.0; 3], 0.0, 800.0).rows, 0..3);
        assert_eq!(window(&[50.0; 100], 1e9, 800.0).rows.end, 100);
        let huge = window(&[20_000.0; 20], 100_000.0, 800.0);
        assert!(huge.rows.contains(&5) && huge.rows.len() >= 6);
    }
}
