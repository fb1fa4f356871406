//! What rules of guardrails ask beside this process.

use super::address::{self, Fault};
use domain::DataClass;
use inference::guard::{ClassifierConfig, WhenAway};
use serde::Deserialize;
use std::time::Duration;

/// A minute.
const MOST_MS: u64 = 60_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardrails {
    pub classifier: Classifier,
}

/// A server that judges whether texts are injections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// `None`: the heuristic judges alone.
    pub url: Option<String>,
    /// For all texts of a request together.
    pub timeout_ms: u64,
    /// From this score on a text is an injection.
    pub threshold: f32,
    /// It sees no data of a higher class.
    pub highest_class: DataClass,
    pub when_away: WhenAway,
}

impl Guardrails {
    pub(super) fn check(&self, wrong: &mut Vec<String>) {
        let Classifier { url, timeout_ms, threshold, .. } = &self.classifier;
        wrong.extend(url.as_deref().and_then(problem).map(|problem| format!("`guardrails.classifier.url`: {problem}")));
        if !(1..=MOST_MS).contains(timeout_ms) {
            wrong.push(format!("`guardrails.classifier.timeout_ms`: must lie between 1 and {MOST_MS}"));
        }
        // `contains` is false for what is not a number.
        if *threshold == 0.0 || !(0.0..=1.0).contains(threshold) {
            wrong.push("`guardrails.classifier.threshold`: must be more than 0 and at most 1".into());
        }
    }
}

impl Classifier {
    /// How it is asked, if there is one.
    #[must_use]
    pub fn config(&self) -> Option<ClassifierConfig> {
        let Self { url, timeout_ms, threshold, highest_class, when_away } = self;
        let (patience, threshold, highest_class, when_away) = (Duration::from_millis(*timeout_ms), *threshold, *highest_class, *when_away);
        url.clone().map(|url| ClassifierConfig { url, patience, threshold, highest_class, when_away })
    }
}

fn problem(url: &str) -> Option<&'static str> {
    address::fault(url).map(|fault| match fault {
        Fault::Scheme => "must begin with http:// or https://",
        Fault::Host => "names no host",
        Fault::Credentials => "must hold no credentials",
        Fault::Extras => "must hold neither a query nor a fragment",
    })
}
