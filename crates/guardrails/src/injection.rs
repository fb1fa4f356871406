//! Attempts to make a model forget what it was told, in German and English.
//!
//! A text is read as words without disguise ([`reading`]), each of which may belong to a class ([`stems`]), and patterns of
//! classes ([`patterns`]) are looked for in it. A score of 0 to 1 comes out: how surely somebody who does not merely write
//! *about* injections tries one. It is a heuristic: it knows the common forms, in two languages, and no new ones. Who has a
//! model for it gives it as a [`Classifier`].

mod patterns;
mod reading;
mod stems;
#[cfg(test)]
mod tests;

/// Something that knows better, for example a model that was trained for it.
pub trait Classifier: Send + Sync {
    /// How surely `text` is an attempt to make a model disobey: 0 to 1. What is outside counts as the nearer of the two, what
    /// is not a number as 0. The higher one of this score and the heuristic's counts.
    ///
    /// It is called for each text that a rule on injections looks at, and everything waits for it.
    fn score(&self, text: &str) -> f32;
}

/// How surely the text is an attempt to make a model disobey: 0 to 1.
pub(crate) fn score(text: &str) -> f32 {
    patterns::score(&reading::read(text))
}

/// Compiles what the search needs, so that nobody waits for it later.
pub(crate) fn prepare() {
    score("system:");
}
