//! Who may see what: those who run models have a [`Clearance`], and each request has bounds that none of them is asked beyond.
//! The pool looks at both wherever it chooses somebody, so that no second try and no fallback leads further than the first.

use crate::catalogue::ModelConfig;
use contract::usage::Purpose;
use domain::{Actor, DataClass, Error};
use std::{collections::BTreeSet, sync::Arc};

/// The zone of whoever belongs to the installation itself. It lies within every zone.
pub(crate) const OWN_ZONE: &str = "own";

/// What whoever runs models may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clearance {
    /// Where it is, in the operator's words; `None`: nobody says, so it lies in no zone.
    pub zone: Option<String>,
    /// Data of a higher class is not for it.
    pub highest_class: DataClass,
    /// Tenants that it works for, by their short names; `None`: for all.
    pub tenants: Option<BTreeSet<String>>,
    /// What it is used for; empty: for everything.
    pub purposes: Vec<Purpose>,
}

impl Clearance {
    /// That of a worker, which belongs to the installation.
    #[must_use]
    pub fn own() -> Self {
        Self { zone: Some(OWN_ZONE.to_owned()), highest_class: DataClass::Restricted, tenants: None, purposes: Vec::new() }
    }
}

/// Why somebody is not asked; the later, the less is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Objection {
    /// It works for other tenants.
    Tenant,
    /// It is used for something else.
    Purpose,
    /// It lies outside of the zones.
    Zone,
    /// It may not see data of this class.
    Class,
}

/// How far a request may go.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    class: DataClass,
    tenant: Option<Arc<str>>,
    purpose: Purpose,
    asked: Arc<ModelConfig>,
    /// In this order, where the one that was asked for cannot be had.
    fallbacks: Vec<Arc<ModelConfig>>,
}

impl Bounds {
    pub(crate) fn new(actor: &Actor, purpose: Purpose, asked: Arc<ModelConfig>, fallbacks: Vec<Arc<ModelConfig>>) -> Self {
        Self { class: actor.class(), tenant: actor.tenant_slug().cloned(), purpose, asked, fallbacks }
    }

    /// Those that may answer, the one that was asked for first.
    pub(crate) fn models(&self) -> impl Iterator<Item = &ModelConfig> {
        std::iter::once(&*self.asked).chain(self.fallbacks.iter().map(|model| &**model))
    }

    /// Ids of those that may answer in the place of the one that was asked for.
    pub(crate) fn fallbacks(&self) -> Vec<String> {
        self.fallbacks.iter().map(|model| model.id.clone()).collect()
    }

    /// Somebody with this clearance may be asked for `model`.
    pub(crate) fn admit(&self, model: &str, clearance: &Clearance) -> bool {
        self.objection(model, clearance).is_none()
    }

    /// What keeps somebody with this clearance from being asked for `model`.
    pub(crate) fn objection(&self, model: &str, clearance: &Clearance) -> Option<Objection> {
        let known = |tenants: &BTreeSet<String>| self.tenant.as_deref().is_some_and(|slug| tenants.contains(slug));
        // A fallback must lead out of neither its own zones nor those of the model that was asked for.
        let mut models = std::iter::once(&self.asked).chain(self.fallbacks.iter().filter(|fallback| fallback.id == model));
        if !clearance.tenants.as_ref().is_none_or(known) {
            Some(Objection::Tenant)
        } else if !clearance.purposes.is_empty() && !clearance.purposes.contains(&self.purpose) {
            Some(Objection::Purpose)
        } else if !models.all(|model| model.lies_in(clearance.zone.as_deref())) {
            Some(Objection::Zone)
        } else {
            (self.class > clearance.highest_class).then_some(Objection::Class)
        }
    }

    /// What the caller hears where nobody who runs the models may be asked.
    pub(crate) fn refusal(&self, objection: Objection) -> Error {
        match objection {
            Objection::Tenant | Objection::Purpose => Error::not_found("model"),
            Objection::Zone => Error::forbidden("Nobody who runs this model is in a zone that it may be used in."),
            Objection::Class => {
                Error::forbidden(format!("Nobody who runs this model may see data of the class \u{201c}{}\u{201d}.", self.class.name()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Clearance, DataClass, ModelConfig, Objection, Purpose};
    use crate::catalogue;
    use std::sync::Arc;

    fn model(id: &str, zones: &[&str]) -> ModelConfig {
        ModelConfig { zones: zones.iter().map(|zone| (*zone).to_owned()).collect(), ..catalogue::tests::model(id) }
    }

    fn bounds(class: DataClass, asked: &[&str], fallback: &[&str]) -> Bounds {
        let fallbacks = vec![Arc::new(model("fallback", fallback))];
        Bounds { class, ..Bounds::new(&testkit::anybody("ours"), Purpose::Chat, Arc::new(model("asked", asked)), fallbacks) }
    }

    fn elsewhere(zone: Option<&str>, highest_class: DataClass) -> Clearance {
        Clearance { zone: zone.map(str::to_owned), highest_class, ..Clearance::own() }
    }

    #[test]
    fn nobody_sees_more_guarded_data_than_it_may() {
        for class in DataClass::ALL {
            let bounds = bounds(class, &[], &[]);
            assert!(bounds.admit("asked", &Clearance::own()), "{class:?}");
            for highest in DataClass::ALL {
                let admitted = bounds.admit("asked", &elsewhere(None, highest));
                assert_eq!(admitted, class <= highest, "If you are here because this failed: {class:?} is shown to {highest:?}.");
            }
        }
    }

    #[test]
    fn zones_hold_for_fallbacks_as_well() {
        let (eu, us) = (elsewhere(Some("eu"), DataClass::Restricted), elsewhere(Some("us"), DataClass::Restricted));
        let nowhere = elsewhere(None, DataClass::Restricted);
        let objection = |asked: &[&str], fallback: &[&str], model: &str, to: &Clearance| {
            bounds(DataClass::Internal, asked, fallback).objection(model, to)
        };
        assert_eq!(objection(&["eu"], &[], "asked", &eu), None);
        assert_eq!(objection(&["eu"], &[], "asked", &Clearance::own()), None, "the installation lies in every zone");
        for other in [&us, &nowhere] {
            assert_eq!(objection(&["eu"], &[], "asked", other), Some(Objection::Zone));
            assert_eq!(
                objection(&["eu"], &[], "fallback", other),
                Some(Objection::Zone),
                "If you are here because this failed: a fallback leads out of the zone of the model that was asked for."
            );
            assert_eq!(objection(&[], &["eu"], "fallback", other), Some(Objection::Zone), "out of its own");
            assert_eq!(objection(&[], &["eu"], "asked", other), None, "what is not asked for binds nobody");
        }
    }

    #[test]
    fn who_works_for_some_is_not_asked_for_others() {
        let theirs = Clearance { tenants: Some(["theirs".to_owned()].into()), ..Clearance::own() };
        let titles = Clearance { purposes: vec![Purpose::Title], ..Clearance::own() };
        let bounds = bounds(DataClass::Public, &[], &[]);
        assert_eq!(bounds.objection("asked", &theirs), Some(Objection::Tenant));
        assert_eq!(bounds.objection("asked", &titles), Some(Objection::Purpose));
        let theirs = Bounds { tenant: Some("theirs".into()), purpose: Purpose::Title, ..bounds };
        assert!(theirs.admit("asked", &titles) && theirs.admit("asked", &Clearance::own()));
    }
}
