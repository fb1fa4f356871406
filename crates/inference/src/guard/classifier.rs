//! A server that judges, beside the heuristic, whether texts are injections.
//!
//! It is asked before the rules look at a request, about all of its texts; the rules then find its verdicts in memory. So a
//! request has one time limit, however many texts it has, and nothing in the guard waits for a network.

use super::beside;
use crate::pool::http;
use contract::{chain, ids::TenantId};
use domain::{Actor, DataClass, Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// Texts of a request that are judged at the same time.
const AT_A_TIME: usize = 8;
/// Texts of all requests of this process together that are judged at the same time: many requests at once must not put the
/// classifier out, and with it everything that a rule would block. Whoever waits for a place does so within its time limit.
const AT_ONCE: usize = 64;
/// Bytes of an answer.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Verdicts that are remembered: each turn of a chat sends all earlier ones along.
const MOST_KNOWN: u64 = 10_000;
/// For so long: the server may learn.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// Where it is, and what its word is worth.
#[derive(Clone, Debug)]
pub struct ClassifierConfig {
    /// Nothing of a request is ever part of it.
    pub url: String,
    /// For all texts of a request together.
    pub patience: Duration,
    /// From this score on a text is an injection, to every rule that looks for any.
    pub threshold: f32,
    /// It sees no data of a higher class, and so does not judge it.
    pub highest_class: DataClass,
    pub when_away: WhenAway,
}

/// What becomes of a request that it should have judged and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenAway {
    /// It is refused where a rule blocks injections; elsewhere the heuristic judges alone.
    Refuse,
    /// The heuristic judges alone.
    Pass,
}

/// Tells texts apart without keeping them.
type Fingerprint = [u8; 32];

/// A text, and what tells it apart.
pub(super) type Marked = (Fingerprint, String);

/// See the module.
pub(super) struct Classifier {
    client: Client,
    url: Url,
    config: ClassifierConfig,
    /// By whose data it is: how soon an answer comes must not tell one that another sent the same.
    known: Cache<(Whose, Fingerprint), bool>,
    places: Semaphore,
    absence: Absence,
    /// The log has said that there is data which it may not see.
    told_of_classes: AtomicBool,
}

/// What the log says of whether it judges: each change once, however many requests come meanwhile.
#[derive(Default)]
struct Absence(AtomicBool);

impl Absence {
    /// True if that is news.
    fn is_now(&self, away: bool) -> bool {
        self.0.swap(away, Ordering::Relaxed) != away
    }
}

/// A tenant's data of one class.
type Whose = (TenantId, DataClass);

#[derive(Serialize)]
struct Question<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Verdict {
    score: f32,
}

impl Classifier {
    /// # Errors
    /// The address is none, or no HTTP client can be made.
    pub(super) fn new(config: ClassifierConfig) -> Result<Self> {
        let url = config.url.parse::<Url>().map_err(Error::internal)?;
        let client = http::builder(config.patience).build().map_err(Error::internal)?;
        let known = Cache::builder().max_capacity(MOST_KNOWN).time_to_live(KNOWN_FOR).build();
        let (places, absence, told_of_classes) = (Semaphore::new(AT_ONCE), Absence::default(), AtomicBool::default());
        Ok(Self { client, url, config, known, places, absence, told_of_classes })
    }

    pub(super) fn when_away(&self) -> WhenAway {
        self.config.when_away
    }

    /// Which of these texts that an actor brings are injections; `None` if it did not say, of which the log knows why. The texts
    /// are not even gathered where it may not see them.
    ///
    /// # Errors
    /// Those of the texts.
    pub(super) async fn judge(&self, actor: &Actor, texts: impl Future<Output = Result<Vec<Marked>>>) -> Result<Option<Injections>> {
        if actor.class() > self.config.highest_class {
            if !self.told_of_classes.swap(true, Ordering::Relaxed) {
                let class = actor.class().name();
                tracing::warn!(class, "the classifier of injections may not see data of a class; what when_away says applies to it");
            }
            return Ok(None);
        }
        let whose = (actor.tenant(), actor.class());
        let (mut found, mut unknown) = (HashSet::new(), Vec::new());
        for (fingerprint, text) in texts.await? {
            match self.known.get(&(whose, fingerprint)) {
                Some(true) => {
                    found.insert(fingerprint);
                }
                Some(false) => {}
                None => unknown.push((fingerprint, text)),
            }
        }
        if !unknown.is_empty() {
            let Some(more) = self.ask(whose, unknown).await else { return Ok(None) };
            found.extend(more);
        }
        Ok(Some(Injections(found)))
    }

    /// The fingerprints of those that are injections; `None` if it did not say of all within the time limit.
    async fn ask(&self, whose: Whose, texts: Vec<Marked>) -> Option<Vec<Fingerprint>> {
        let asking = stream::iter(texts).map(|(fingerprint, text)| self.found(whose, fingerprint, text));
        let patience = self.config.patience;
        let judging = timeout(patience, asking.buffer_unordered(AT_A_TIME).try_collect::<Vec<_>>());
        // Nothing of texts, answers or the address is in a reason.
        match judging.await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}"))) {
            Ok(judged) => {
                if self.absence.is_now(false) {
                    tracing::info!("the classifier of injections judges requests again");
                }
                Some(judged.into_iter().flatten().collect())
            }
            Err(reason) => {
                if self.absence.is_now(true) {
                    tracing::warn!(reason, "the classifier of injections does not judge requests");
                }
                None
            }
        }
    }

    /// The text's fingerprint if it is an injection.
    async fn found(&self, whose: Whose, fingerprint: Fingerprint, text: String) -> Result<Option<Fingerprint>, String> {
        let injection = self.score(text).await? >= self.config.threshold;
        self.known.insert((whose, fingerprint), injection);
        Ok(injection.then_some(fingerprint))
    }

    async fn score(&self, text: String) -> Result<f32, String> {
        let lost = |error: reqwest::Error| chain(&error.without_url());
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        let question =
            beside(text.len(), move || serde_json::to_vec(&Question { text: &text })).await.map_err(|error| error.to_string())?;
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let response = request.body(question.map_err(|error| error.to_string())?).send().await.map_err(lost)?;
        if response.status() != StatusCode::OK {
            return Err(format!("HTTP status {}", response.status().as_u16()));
        }
        let body = http::read_at_most(response, LONGEST_ANSWER, self.config.patience).await.map_err(|error| error.to_string())?;
        match serde_json::from_slice(&body) {
            Ok(Verdict { score }) if (0.0..=1.0).contains(&score) => Ok(score),
            _ => Err("an answer without a score from 0 to 1".to_owned()),
        }
    }
}

/// What was found in the texts of one request.
pub(super) struct Injections(HashSet<Fingerprint>);

impl Injections {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl guardrails::Classifier for Injections {
    fn score(&self, text: &str) -> f32 {
        if self.0.contains(&fingerprint(text)) { 1.0 } else { 0.0 }
    }
}

/// Texts with their fingerprints, which take a while where they are long.
pub(super) fn marked(texts: Vec<String>) -> Vec<Marked> {
    texts.into_iter().map(|text| (fingerprint(&text), text)).collect()
}

fn fingerprint(text: &str) -> Fingerprint {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::Absence;

    #[test]
    fn that_it_is_away_and_that_it_is_back_is_told_once_each() {
        let absence = Absence::default();
        let told: Vec<bool> = [false, true, true, true, false, false, true].map(|away| absence.is_now(away)).into();
        assert_eq!(
            told,
            [false, true, false, false, true, false, true],
            "If you are here because this failed: the log fills with each request while the classifier is away."
        );
    }
}
