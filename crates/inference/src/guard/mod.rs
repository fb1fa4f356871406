//! Guardrails as stages of the funnel: what a tenant does not want to reach a model, or to come out of one.
//!
//! The rules themselves are the crate `guardrails`; here is where they come from, where they are asked and what is written
//! down. What a rule decides is audited with the rule's name and never with the text.

mod classifier;
mod patterns;
mod texts;
mod watch;

pub use classifier::{ClassifierConfig, WhenAway};
pub use guardrails::{Action, Finding, Guard, Policy, PolicyError};
use texts::Unpacked;
pub(crate) use texts::bytes;
use watch::Told;
pub(crate) use watch::{Passed, Watch};

use crate::{admit::Request, holds::Holds, images::has_images, meter::RETRY_AFTER_S, observe::Metrics};
use classifier::{Classifier, Marked, marked};
use contract::{ids::TenantId, problem::CONTENT_FILTER};
use domain::{Actor, Error, Result};
use guardrails::{Check, Decision, Stage};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    mem::take,
    slice,
    sync::{Arc, OnceLock},
    time::Duration,
};
use store::{Db, Topic, Watched, audit::AuditEvent, guardrails::StoredPolicy};
use worker_protocol::{ChatRole, EmbedInput, Format};

/// Bytes that all kinds of rules together look at for about a millisecond: for a third of it in English, half of it in German
/// and two in letters that neither has (the example `speed` of `guardrails` measures the first two).
const LONG_TEXT: usize = 32 * 1024;
/// The database is asked this often whether rules changed.
const LOOK: Duration = Duration::from_secs(1);

/// The rules of all tenants, as a process has them in memory.
#[derive(Clone)]
pub(crate) struct Guards {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    /// `None`: there are rules that this version cannot read, so nobody knows what they forbid.
    known: Watched<HashMap<TenantId, Option<Rules>>>,
    metrics: Metrics,
    /// Judges beside the heuristic whether a text is an injection.
    classifier: OnceLock<Classifier>,
}

/// The rules of one tenant.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) guard: Arc<Guard>,
    /// Of what they say: other rules have another one.
    pub(crate) digest: [u8; 32],
    /// At least one looks at what goes to a model.
    reads_input: bool,
    /// At least one looks at answers.
    watches_output: bool,
    /// At least one looks for injections.
    finds_injections: bool,
    /// At least one blocks them.
    blocks_injections: bool,
    /// The decision about a picture, where the first of them that keeps anything from a model would have to see it.
    picture: Option<Arc<Decision>>,
}

impl Guards {
    pub(crate) fn new(db: Db, metrics: Metrics) -> Self {
        Self { inner: Arc::new(Inner { db, known: Watched::new(Topic::Guardrails), metrics, classifier: OnceLock::new() }) }
    }

    /// The rules of a tenant; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if they cannot be read: what nobody can check does not pass.
    pub(crate) async fn of(&self, tenant: TenantId) -> Result<Option<Rules>> {
        let read = |_| async {
            let stored = self.inner.db.guardrails().await?;
            Ok(stored.into_iter().map(|stored| (stored.tenant, compiled(stored))).collect())
        };
        let known = self.inner.known.not_older_than(LOOK, &self.inner.db, read).await?;
        match known.get(&tenant) {
            None => Ok(None),
            Some(Some(rules)) => Ok(Some(rules.clone())),
            Some(None) => Err(Error::unavailable("guardrails", None)),
        }
    }

    /// Asks this one from now on whether texts are injections.
    ///
    /// # Errors
    /// It cannot be used, or there is one already.
    pub(crate) fn ask(&self, config: ClassifierConfig) -> Result<()> {
        self.inner.classifier.set(Classifier::new(config)?).map_err(|_| Error::internal("there is a classifier already"))
    }

    /// The guard of these rules, for texts that the classifier judged where there is one and a rule wants to know.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it did not judge them and a rule would have blocked what it had found.
    async fn informed(&self, actor: &Actor, rules: &Rules, texts: impl Future<Output = Result<Vec<Marked>>>) -> Result<Arc<Guard>> {
        let guard = &rules.guard;
        let Some(classifier) = self.inner.classifier.get().filter(|_| rules.finds_injections) else { return Ok(guard.clone()) };
        match classifier.judge(actor, texts).await? {
            Some(injections) if injections.is_empty() => Ok(guard.clone()),
            Some(injections) => Ok(Arc::new(Guard::clone(guard).with_classifier(Arc::new(injections)))),
            None => {
                self.inner.metrics.classifier_failed();
                if rules.blocks_injections && classifier.when_away() == WhenAway::Refuse {
                    return Err(Error::unavailable("guardrails", Some(RETRY_AFTER_S)));
                }
                Ok(guard.clone())
            }
        }
    }

    /// The guard of the rules of the actor's tenant for these texts; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if rules cannot be read, or injections in these texts not be judged.
    pub(crate) async fn for_texts(&self, actor: &Actor, texts: &[String]) -> Result<Option<Arc<Guard>>> {
        match self.of(actor.tenant()).await? {
            Some(rules) => {
                let said = async {
                    let (bytes, texts) = (texts.iter().map(String::len).sum::<usize>(), texts.to_vec());
                    beside(bytes, move || marked(texts::once_each(texts))).await
                };
                self.informed(actor, &rules, said).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Looks at what goes to a model, in place, by these rules of the actor's tenant; what watches the answer, if anything has
    /// to.
    ///
    /// # Errors
    /// [`Error::GuardrailBlocked`]; [`Error::Unavailable`] if decisions cannot be written down, or injections not be judged;
    /// [`Error::Invalid`] for token ids, which no rule can read.
    pub(crate) async fn completion(&self, actor: &Actor, rules: Option<Rules>, request: &mut Request) -> Result<Option<Box<Watch>>> {
        let Some(rules) = rules else { return Ok(None) };
        if let Some(decision) = rules.picture.as_ref().filter(|_| has_images(&request.messages)) {
            return Err(self.unseen(actor, decision).await?);
        }
        rules.refuse_unreadable("messages", Holds::of(&request.messages))?;
        let guard = self.informed(actor, &rules, said_in_completion(request)).await?;
        let bytes = texts::bytes(&request.messages);
        let (mut messages, mut options) = (take(&mut request.messages), take(&mut request.options));
        let look = move || {
            let mut unpacked = Unpacked::of(&messages);
            let mut checked = guard.input(&mut texts::of_completion(&mut messages, &mut options, &mut unpacked));
            unpacked.pack(&mut messages);
            if let Some(Format::Regex(pattern) | Format::Lark(pattern)) = &options.format {
                patterns::look(&guard, pattern, &mut checked);
            }
            (messages, options, checked)
        };
        let checked;
        (request.messages, request.options, checked) = beside(bytes, look).await?;
        self.write_down(actor, &checked.decisions).await?;
        if let Some(rule) = checked.blocked {
            return Err(Error::GuardrailBlocked { rule });
        }
        let mut warnings: Vec<String> = Vec::new();
        for decision in checked.decisions {
            // A rule decides about each kind of data by itself.
            if decision.action == Action::Warn && !warnings.contains(&decision.rule) {
                warnings.push(decision.rule);
            }
        }
        let changes = rules.watches_output || !checked.pseudonyms.is_empty();
        if !changes && warnings.is_empty() {
            return Ok(None);
        }
        let system = request.messages.iter().filter(|message| message.role == ChatRole::System).map(|message| message.content.as_str());
        let told = Told {
            system_prompt: system.collect::<Vec<_>>().join("\n\n"),
            // The rest of an answer that goes on is no JSON by itself.
            json: matches!(request.options.format, Some(Format::JsonSchema(_))) && !request.continue_last,
            pseudonyms: checked.pseudonyms,
            changes,
        };
        Ok(Some(Box::new(Watch::new(self.clone(), actor.clone(), rules.guard, told, warnings))))
    }

    /// The same for what becomes vectors; there is no answer to watch.
    ///
    /// # Errors
    /// As [`Guards::completion`].
    pub(crate) async fn inputs(&self, actor: &Actor, rules: Option<Rules>, inputs: &mut Vec<EmbedInput>) -> Result<()> {
        let Some(rules) = rules else { return Ok(()) };
        rules.refuse_unreadable("input", Holds::of_inputs(inputs))?;
        let guard = self.informed(actor, &rules, said_in_inputs(inputs)).await?;
        let mut texts = take(inputs);
        let look = move || {
            let checked = guard.input(&mut texts::of_inputs(&mut texts));
            (texts, checked)
        };
        let checked;
        (*inputs, checked) = beside(LONG_TEXT, look).await?;
        self.write_down(actor, &checked.decisions).await?;
        checked.blocked.map_or(Ok(()), |rule| Err(Error::GuardrailBlocked { rule }))
    }

    /// The refusal of a picture, which no rule can look at.
    async fn unseen(&self, actor: &Actor, decision: &Decision) -> Result<Error> {
        self.write_down(actor, slice::from_ref(decision)).await?;
        let rule = &decision.rule;
        let message = format!(
            "The rule \u{201c}{rule}\u{201d} keeps texts from models and cannot look at images, so your organisation takes none. \
             Whoever administers its guardrails can allow them."
        );
        Ok(Error::invalid("messages", CONTENT_FILTER, message))
    }

    /// Audits decisions: which rule, not which text.
    async fn write_down(&self, actor: &Actor, decisions: &[Decision]) -> Result<()> {
        if decisions.is_empty() {
            return Ok(());
        }
        let tx = self.inner.db.begin(actor).await?;
        for decision in decisions {
            self.inner.metrics.decided(decision);
            let event = AuditEvent::by(actor, audited(decision.action))
                .target(&decision.rule)
                .detail("kind", decision.kind.name())
                .detail("stage", decision.stage.name())
                .detail("entity", decision.entity.map(|entity| entity.tag()))
                .detail("count", decision.count);
            tx.audit().add(&event).await?;
        }
        tx.commit().await
    }
}

impl Rules {
    /// Refuses token ids where a rule looks at what goes to a model: it would go round the rule.
    fn refuse_unreadable(&self, field: &'static str, holds: Holds) -> Result<()> {
        if self.reads_input && holds == Holds::Tokens {
            let message = "Guardrails read what is asked here, and they cannot read token ids. Send the texts.";
            return Err(Error::invalid(field, "unreadable", message));
        }
        Ok(())
    }
}

fn compiled(stored: StoredPolicy) -> Option<Rules> {
    let tenant = stored.tenant;
    // Postgres writes the same JSON in the same way.
    let digest: [u8; 32] = Sha256::digest(stored.policy.to_string()).into();
    let policy = serde_json::from_value::<Policy>(stored.policy).map_err(|error| error.to_string());
    let rules = policy.and_then(|policy| {
        let guard = Guard::new(&policy).map_err(|error| error.to_string())?;
        let looks_at = |stage| policy.rules.iter().any(|rule| rule.on.contains(&stage));
        let (reads_input, watches_output) = (looks_at(Stage::Input), looks_at(Stage::Output));
        let injections = || policy.rules.iter().filter(|rule| matches!(rule.check, Check::Injection { .. }));
        let (finds_injections, blocks_injections) = (injections().next().is_some(), injections().any(|rule| rule.action == Action::Block));
        let picture = policy.unseeing().map(|rule| {
            let (rule, kind) = (rule.name.clone(), rule.check.kind());
            Arc::new(Decision { rule, kind, entity: None, action: Action::Block, stage: Stage::Input, count: 1 })
        });
        Ok(Rules { guard: Arc::new(guard), digest, reads_input, watches_output, finds_injections, blocks_injections, picture })
    });
    rules.inspect_err(|error| tracing::error!(%tenant, error, "guardrails cannot be read; the tenant's requests are refused")).ok()
}

/// What a classifier is asked about a completion.
async fn said_in_completion(request: &mut Request) -> Result<Vec<Marked>> {
    let bytes = texts::bytes(&request.messages);
    let (mut messages, mut options) = (take(&mut request.messages), take(&mut request.options));
    let look = move || {
        let said = marked(texts::said_in_completion(&mut messages, &mut options));
        (messages, options, said)
    };
    let said;
    (request.messages, request.options, said) = beside(bytes, look).await?;
    Ok(said)
}

/// The same of what becomes vectors.
async fn said_in_inputs(inputs: &mut Vec<EmbedInput>) -> Result<Vec<Marked>> {
    let mut texts = take(inputs);
    let look = move || {
        let said = marked(texts::said_in_inputs(&mut texts));
        (texts, said)
    };
    let said;
    (*inputs, said) = beside(LONG_TEXT, look).await?;
    Ok(said)
}

/// The word of the audit trail, which says that it was done.
fn audited(action: Action) -> &'static str {
    match action {
        Action::Block => "guardrail.blocked",
        Action::Mask => "guardrail.masked",
        Action::Warn => "guardrail.warned",
        Action::Log => "guardrail.noted",
    }
}

/// Does what takes long beside the tasks that answer others.
async fn beside<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if bytes < LONG_TEXT {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}
