//! A server that judges, beside the heuristic, whether texts are injections.
//!
//! It is asked before the rules look at a request, about all of its texts; the rules then find its verdicts in memory. So a
//! request has one time limit, however many texts it has, and nothing in the guard waits for a network.

use crate::pool::http;
use contract::{chain, ids::TenantId};
use domain::{Actor, DataClass, Error, Result};
use futures::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::HashSet, time::Duration};
use tokio::time::timeout;

/// Texts of a request that are judged at the same time.
const AT_A_TIME: usize = 8;
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

/// See the module.
pub(super) struct Classifier {
    client: Client,
    url: Url,
    config: ClassifierConfig,
    /// By whose data it is: how soon an answer comes must not tell one that another sent the same.
    known: Cache<(Whose, Fingerprint), bool>,
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
        Ok(Self { client, url, config, known })
    }

    pub(super) fn when_away(&self) -> WhenAway {
        self.config.when_away
    }

    /// Which of these texts that an actor brings are injections.
    ///
    /// # Errors
    /// Why it did not say, for the log; nothing of texts, answers or the address.
    pub(super) async fn judge(&self, actor: &Actor, texts: Vec<String>) -> Result<Injections, String> {
        if actor.class() > self.config.highest_class {
            return Err(format!("it may not see data of the class {}", actor.class().name()));
        }
        let whose = (actor.tenant(), actor.class());
        let judging = stream::iter(texts).map(|text| self.found(whose, text)).buffer_unordered(AT_A_TIME).try_collect::<Vec<_>>();
        let patience = self.config.patience;
        let judged = timeout(patience, judging).await.map_err(|_| format!("no answer within {patience:?}"))??;
        Ok(Injections(judged.into_iter().flatten().collect()))
    }

    /// The text's fingerprint if it is an injection.
    async fn found(&self, whose: Whose, text: String) -> Result<Option<Fingerprint>, String> {
        let fingerprint = fingerprint(&text);
        let injection = match self.known.get(&(whose, fingerprint)) {
            Some(known) => known,
            None => {
                let injection = self.score(&text).await? >= self.config.threshold;
                self.known.insert((whose, fingerprint), injection);
                injection
            }
        };
        Ok(injection.then_some(fingerprint))
    }

    async fn score(&self, text: &str) -> Result<f32, String> {
        let lost = |error: reqwest::Error| chain(&error.without_url());
        let response = self.client.post(self.url.clone()).json(&Question { text }).send().await.map_err(lost)?;
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

fn fingerprint(text: &str) -> Fingerprint {
    Sha256::digest(text).into()
}
