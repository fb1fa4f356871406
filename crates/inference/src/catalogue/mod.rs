//! The models that are offered, and to whom.

mod model;

pub use model::ModelConfig;

use crate::{clearance::Bounds, holds::Holds};
use contract::{model::ModelInfo, usage::Purpose};
use domain::{Actor, Error, Result};
use std::{collections::HashSet, sync::Arc};
use worker_protocol::ModelKind;

/// A model as programs see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    pub id: String,
    pub name: String,
    /// Other names for it in requests.
    pub aliases: Vec<String>,
    pub kind: ModelKind,
    /// Tokens of context, prompt and answer together.
    pub context_length: u32,
    /// It takes pictures beside text.
    pub images: bool,
    /// A worker or upstream runs it now.
    pub ready: bool,
}

/// What is wrong with the configured models; all of it at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct CatalogueError(pub Vec<String>);

/// The models of this installation: at least one, distinct ids, exactly one default among those that chat.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// Shared with the requests that use them.
    models: Vec<Arc<ModelConfig>>,
}

impl Catalogue {
    /// Checks the models and takes them in the given order, which is the picker's.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(mut models: Vec<ModelConfig>) -> Result<Self, CatalogueError> {
        let mut wrong = Vec::new();
        let mut seen = HashSet::new();
        for model in &models {
            if model.id.trim().is_empty() {
                wrong.push("a model has no id".to_owned());
            } else if !seen.insert(model.id.as_str()) {
                wrong.push(format!("the model id `{}` occurs twice", model.id));
            }
            if model.context_length == 0 {
                wrong.push(format!("the model `{}` has a context length of 0", model.id));
            }
        }
        for (model, alias) in models.iter().flat_map(|model| model.aliases.iter().map(move |alias| (model, alias.as_str()))) {
            if alias.trim().is_empty() {
                wrong.push(format!("the model `{}` has an alias without a name", model.id));
            } else if !seen.insert(alias) {
                wrong.push(format!("the alias `{alias}` of `{}` is the name of another model, or occurs twice", model.id));
            }
        }
        for model in &models {
            let kind = |name: &str| models.iter().find(|model| model.id == name).map(|model| model.kind);
            let unknown = |name: &&String| **name == model.id || kind(name) != Some(model.kind);
            wrong.extend(
                model
                    .fallback
                    .iter()
                    .filter(unknown)
                    .map(|name| format!("`{}` falls back to `{name}`, which is no other model of its kind", model.id)),
            );
        }
        for model in models.iter().filter(|model| model.default && model.kind != ModelKind::Chat) {
            wrong.push(format!("`{}` cannot be the default: it makes no answers", model.id));
        }
        let defaults = models.iter().filter(|model| model.default).count();
        if defaults > 1 {
            wrong.push("more than one model is the default".to_owned());
        }
        if models.is_empty() {
            wrong.push("no model is configured".to_owned());
        }
        if let Some(first) = models.iter_mut().find(|model| model.kind == ModelKind::Chat).filter(|_| defaults == 0) {
            first.default = true;
        }
        if wrong.is_empty() { Ok(Self { models: models.into_iter().map(Arc::new).collect() }) } else { Err(CatalogueError(wrong)) }
    }

    /// All models, granted or not, for whoever starts the workers.
    #[must_use]
    pub fn models(&self) -> &[Arc<ModelConfig>] {
        &self.models
    }

    /// The stage that decides whether the actor may use the model: the one of this name or alias, else the default,
    /// else the first one that is granted.
    ///
    /// # Errors
    /// [`Error::NotFound`], for an unknown model as for one that is not granted, or not for data of this class: the difference is
    /// nobody's business outside.
    pub(crate) fn grant(&self, actor: &Actor, wanted: Option<&str>, purpose: Purpose) -> Result<&Arc<ModelConfig>> {
        self.grant_where(actor, wanted, purpose, |_| true)
    }

    /// The same of those models alone that are `there` for the actor, whatever the configuration says.
    ///
    /// # Errors
    /// As [`Catalogue::grant`].
    pub(crate) fn grant_where(
        &self,
        actor: &Actor,
        wanted: Option<&str>,
        purpose: Purpose,
        there: impl Fn(&Arc<ModelConfig>) -> bool,
    ) -> Result<&Arc<ModelConfig>> {
        let usable = |model: &&Arc<ModelConfig>| {
            let meant = wanted.is_none_or(|name| model.is_called(name));
            meant && model.granted_to(actor) && model.serves(purpose) && there(model)
        };
        let default = || self.models.iter().filter(|model| model.default).find(usable);
        default().or_else(|| self.models.iter().find(usable)).ok_or(Error::not_found("model"))
    }

    /// How far the actor's request to a granted model may go: to models alone that take what it `holds`.
    pub(crate) fn bounds(&self, actor: &Actor, model: &Arc<ModelConfig>, purpose: Purpose, holds: Holds) -> Bounds {
        let fallbacks = self.substitutes(actor, model, purpose, holds).cloned().collect();
        Bounds::new(actor, purpose, model.clone(), fallbacks)
    }

    /// The id of the model with this name or alias, granted or not; never for the caller.
    pub(crate) fn id_of(&self, name: &str) -> Option<&str> {
        self.models.iter().find(|model| model.is_called(name)).map(|model| model.id.as_str())
    }

    /// What may be taken in a model's place, in order: what it names, as far as the actor may use it and as far as it takes what
    /// a request `holds`.
    fn substitutes(&self, actor: &Actor, model: &ModelConfig, purpose: Purpose, holds: Holds) -> impl Iterator<Item = &Arc<ModelConfig>> {
        let granted = model.fallback.iter().filter_map(move |name| self.grant(actor, Some(name), purpose).ok());
        granted.filter(move |other| match holds {
            Holds::Texts => true,
            Holds::Images => other.image_tokens.is_some(),
            Holds::Tokens => false,
        })
    }

    /// The longest context of a model and those that may answer in its place.
    pub(crate) fn largest_context(&self, actor: &Actor, model: &ModelConfig, purpose: Purpose, holds: Holds) -> u32 {
        let lengths = self.substitutes(actor, model, purpose, holds).map(|other| other.context_length);
        lengths.fold(model.context_length, u32::max)
    }

    /// The most tokens that a picture counts as, with a model and with those that may answer in its place.
    pub(crate) fn largest_image(&self, actor: &Actor, model: &ModelConfig, purpose: Purpose) -> u32 {
        let tokens = self.substitutes(actor, model, purpose, Holds::Images).filter_map(|other| other.image_tokens);
        tokens.fold(model.image_tokens.unwrap_or_default(), u32::max)
    }

    /// The actor's models for programs, of every kind. `ready` has `None` to say of one that is not there for the actor.
    pub(crate) fn offered(&self, actor: &Actor, ready: impl Fn(&Bounds) -> Option<bool>) -> Vec<Offered> {
        let purposes = [Purpose::Api, Purpose::Embedding, Purpose::Rerank];
        self.models
            .iter()
            .filter(|model| model.granted_to(actor))
            .filter_map(|model| Some((model, purposes.into_iter().find(|purpose| model.serves(*purpose))?)))
            .filter_map(|(model, purpose)| {
                Some(Offered {
                    id: model.id.clone(),
                    name: model.name.clone(),
                    aliases: model.aliases.clone(),
                    kind: model.kind,
                    context_length: model.context_length,
                    images: model.image_tokens.is_some(),
                    ready: ready(&self.bounds(actor, model, purpose, Holds::Texts))?,
                })
            })
            .collect()
    }

    /// The actor's models for chats. One of them is the default, even where the platform's is not granted. `ready` has `None` to
    /// say of one that is not there for the actor.
    pub(crate) fn picker(&self, actor: &Actor, ready: impl Fn(&Bounds) -> Option<bool>) -> Vec<ModelInfo> {
        let granted = self.models.iter().filter(|model| model.granted_to(actor) && model.serves(Purpose::Chat));
        let info = |model: &Arc<ModelConfig>| {
            Some(ModelInfo {
                id: model.id.clone(),
                name: model.name.clone(),
                description: model.description.clone(),
                context_length: model.context_length,
                ready: ready(&self.bounds(actor, model, Purpose::Chat, Holds::Texts))?,
                is_default: model.default,
            })
        };
        let mut models: Vec<ModelInfo> = granted.filter_map(info).collect();
        // As whoever names none gets it.
        if !models.iter().any(|model| model.is_default)
            && let Some(first) = models.first_mut()
        {
            first.is_default = true;
        }
        models
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Catalogue, Holds, ModelConfig, ModelKind};
    use contract::usage::Purpose;
    use domain::{Actor, DataClass, Error};
    use std::collections::BTreeSet;

    /// One that anybody may use for anything.
    pub(crate) fn model(id: &str) -> ModelConfig {
        ModelConfig {
            id: id.into(),
            name: id.to_uppercase(),
            aliases: Vec::new(),
            description: String::new(),
            kind: ModelKind::Chat,
            context_length: 4096,
            image_tokens: None,
            fallback: Vec::new(),
            default: false,
            purposes: Vec::new(),
            tenants: None,
            zones: Vec::new(),
            highest_class: DataClass::Restricted,
        }
    }

    fn actor() -> Actor {
        testkit::anybody("ours")
    }

    fn only_theirs() -> Option<BTreeSet<String>> {
        Some(["theirs".to_owned()].into())
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let bad =
            vec![ModelConfig { context_length: 0, default: true, ..model("a") }, ModelConfig { default: true, ..model("a") }, model(" ")];
        let wrong = Catalogue::new(bad).expect_err("four mistakes").0;
        assert_eq!(
            wrong,
            [
                "the model `a` has a context length of 0",
                "the model id `a` occurs twice",
                "a model has no id",
                "more than one model is the default"
            ]
        );
        assert_eq!(Catalogue::new(Vec::new()).expect_err("none").0, ["no model is configured"]);
    }

    #[test]
    fn an_alias_leads_to_its_model_and_to_no_other() {
        let called =
            |id: &str, aliases: &[&str]| ModelConfig { aliases: aliases.iter().map(|name| (*name).to_owned()).collect(), ..model(id) };
        let wrong = Catalogue::new(vec![called("a", &["b", "x", " "]), called("b", &["x"])]).expect_err("three mistakes").0;
        assert_eq!(
            wrong,
            [
                "the alias `b` of `a` is the name of another model, or occurs twice",
                "the model `a` has an alias without a name",
                "the alias `x` of `b` is the name of another model, or occurs twice"
            ]
        );
        let theirs = ModelConfig { tenants: only_theirs(), ..called("theirs", &["best"]) };
        let catalogue = Catalogue::new(vec![model("a"), called("b", &["gpt-4o"]), theirs]).expect("valid");
        assert_eq!(catalogue.grant(&actor(), Some("gpt-4o"), Purpose::Api).expect("granted").id, "b");
        assert!(
            matches!(catalogue.grant(&actor(), Some("best"), Purpose::Api), Err(Error::NotFound { what: "model" })),
            "If you are here because this failed: an alias leads to a model that the tenant was not granted."
        );
    }

    #[test]
    fn a_model_that_is_not_granted_does_not_exist() {
        let ours = actor();
        let theirs = testkit::anybody("theirs");
        let secret = ModelConfig { default: true, tenants: only_theirs(), ..model("secret") };
        let catalogue = Catalogue::new(vec![secret, model("open")]).expect("valid");

        assert!(matches!(catalogue.grant(&ours, Some("secret"), Purpose::Chat), Err(Error::NotFound { what: "model" })));
        assert!(matches!(catalogue.grant(&ours, Some("no-such"), Purpose::Chat), Err(Error::NotFound { what: "model" })));
        assert_eq!(catalogue.grant(&ours, None, Purpose::Chat).expect("open").id, "open");
        assert_eq!(catalogue.grant(&theirs, None, Purpose::Chat).expect("default").id, "secret");

        let seen = catalogue.picker(&ours, |_| Some(true));
        assert_eq!(seen.len(), 1, "If you are here because this failed: the picker shows a tenant what it was not granted.");
        assert!(seen[0].is_default && seen[0].ready);
    }

    #[test]
    fn a_fallback_must_exist_and_be_granted() {
        let falls_back = |names: &[&str]| ModelConfig { fallback: names.iter().map(|name| (*name).to_owned()).collect(), ..model("a") };
        let wrong = Catalogue::new(vec![falls_back(&["a", "nowhere"]), model("b")]).expect_err("two mistakes").0;
        assert_eq!(
            wrong,
            [
                "`a` falls back to `a`, which is no other model of its kind",
                "`a` falls back to `nowhere`, which is no other model of its kind"
            ]
        );
        let theirs = ModelConfig { tenants: only_theirs(), ..model("theirs") };
        let catalogue = Catalogue::new(vec![falls_back(&["theirs", "b"]), model("b"), theirs]).expect("valid");
        let a = catalogue.models()[0].clone();
        assert_eq!(
            catalogue.bounds(&actor(), &a, Purpose::Chat, Holds::Texts).fallbacks(),
            ["b"],
            "If you are here because this failed: a fallback leads to a model that the tenant was not granted."
        );
    }

    #[test]
    fn a_model_does_not_exist_for_data_that_is_not_for_it() {
        let public = ModelConfig { default: true, highest_class: DataClass::Internal, ..model("public") };
        let asked = ModelConfig { fallback: vec!["public".into()], ..model("own") };
        let catalogue = Catalogue::new(vec![public, asked]).expect("valid");
        let confidential = actor().raised_to(DataClass::Confidential);
        assert_eq!(catalogue.grant(&actor(), None, Purpose::Api).expect("granted").id, "public");
        assert!(matches!(catalogue.grant(&confidential, Some("public"), Purpose::Api), Err(Error::NotFound { what: "model" })));
        let own = catalogue.grant(&confidential, None, Purpose::Api).expect("the other one");
        assert_eq!(own.id, "own");
        assert!(
            catalogue.bounds(&confidential, own, Purpose::Api, Holds::Texts).fallbacks().is_empty(),
            "If you are here because this failed: a fallback leads to a model that may not see the data."
        );
        let named = |actor: &Actor| catalogue.offered(actor, |_| Some(true)).into_iter().map(|model| model.id).collect::<Vec<_>>();
        assert_eq!((named(&actor()).len(), named(&confidential)), (2, vec!["own".to_owned()]));
    }

    #[test]
    fn pictures_and_token_ids_go_to_models_that_take_them_alone() {
        let sees = |id: &str, tokens| ModelConfig { image_tokens: Some(tokens), ..model(id) };
        let first = ModelConfig { fallback: vec!["blind".into(), "second".into()], ..sees("first", 1_000) };
        let catalogue = Catalogue::new(vec![first, ModelConfig { context_length: 9_000, ..model("blind") }, sees("second", 2_000)]);
        let catalogue = catalogue.expect("valid");
        let first = catalogue.models()[0].clone();
        let fallbacks = |holds| catalogue.bounds(&actor(), &first, Purpose::Api, holds).fallbacks();
        assert_eq!(fallbacks(Holds::Texts), ["blind", "second"]);
        assert_eq!(
            fallbacks(Holds::Images),
            ["second"],
            "If you are here because this failed: a picture goes to a model that cannot see it, or to a worker."
        );
        assert!(
            fallbacks(Holds::Tokens).is_empty(),
            "If you are here because this failed: token ids go to a model to which they mean something else."
        );
        let context = |holds| catalogue.largest_context(&actor(), &first, Purpose::Api, holds);
        assert_eq!([Holds::Texts, Holds::Images, Holds::Tokens].map(context), [9_000, 4_096, 4_096]);
        assert_eq!(catalogue.largest_image(&actor(), &first, Purpose::Api), 2_000);
        let offered = catalogue.offered(&actor(), |_| Some(true));
        assert_eq!(offered.iter().map(|model| model.images).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_kind_serves_its_own_purposes_alone() {
        let vectors = ModelConfig { kind: ModelKind::Embedding, ..model("vectors") };
        let wrong = Catalogue::new(vec![ModelConfig { default: true, ..vectors.clone() }]).expect_err("no chat model").0;
        assert_eq!(wrong, ["`vectors` cannot be the default: it makes no answers"]);
        let catalogue = Catalogue::new(vec![vectors, model("chat")]).expect("valid");
        let granted = |wanted, purpose| catalogue.grant(&actor(), wanted, purpose).map(|model| model.id.clone()).ok();
        assert_eq!(granted(None, Purpose::Embedding).as_deref(), Some("vectors"));
        assert_eq!(granted(None, Purpose::Chat).as_deref(), Some("chat"));
        assert_eq!((granted(Some("vectors"), Purpose::Chat), granted(None, Purpose::Rerank)), (None, None));
        assert_eq!(catalogue.picker(&actor(), |_| Some(true)).iter().map(|model| model.id.as_str()).collect::<Vec<_>>(), ["chat"]);
    }

    #[test]
    fn a_purpose_narrows_the_choice() {
        let titles = ModelConfig { purposes: vec![Purpose::Title], ..model("small") };
        let catalogue = Catalogue::new(vec![model("big"), titles]).expect("valid");
        assert!(catalogue.grant(&actor(), Some("small"), Purpose::Title).is_ok());
        assert!(matches!(catalogue.grant(&actor(), Some("small"), Purpose::Chat), Err(Error::NotFound { .. })));
        assert_eq!(catalogue.picker(&actor(), |_| Some(false)).len(), 1);
    }
}
