//! What the funnel refuses is in the audit trail, with its reason and without a word of what was asked.

use crate::setup::{Setup, request, setup};
use domain::{Error, quota::Level};
use futures::future::join_all;
use inference::{Catalogue, Inference, ModelConfig, Request};
use std::{collections::BTreeSet, sync::Arc};
use testkit::{
    fake_worker::{FAKE_MODEL, fake_model, quick_pool},
    quotas::{budget, limit, price},
};

async fn events(s: &Setup, condition: &str) -> i64 {
    s.db.db.write_refusals().await.expect("written");
    s.db.count_as_owner(&format!("SELECT count(*) AS value FROM audit_event WHERE action = 'policy.refused' AND {condition}")).await
}

#[tokio::test]
async fn a_thousand_refusals_are_one_event() {
    let s = setup().await;
    let tenants = Some(BTreeSet::new());
    let secret = ModelConfig { id: "secret".into(), aliases: vec!["best".into()], default: false, tenants, ..fake_model() };
    let catalogue = Catalogue::new(vec![fake_model(), secret]).expect("valid");
    let inference = Inference::new(s.db.db.clone(), catalogue, quick_pool(), Arc::new(domain::SystemClock));
    let asked = join_all((0..1000).map(|_| inference.admit(&s.actor, Request { model: Some("best".into()), ..request() }))).await;
    assert!(asked.into_iter().all(|outcome| matches!(outcome, Err(Error::NotFound { what: "model" }))));
    let user = s.actor.user().expect("a person");
    let ours = format!("tenant_id = '{}' AND actor = '{user}' AND target = 'secret'", s.actor.tenant());
    let counted = "detail @> '{\"reason\": \"model_not_found\", \"count\": 1000}'";
    assert_eq!(events(&s, &format!("{ours} AND {counted}")).await, 1);
    assert_eq!(events(&s, "true").await, 1, "If you are here because this failed: whoever is refused often fills the audit trail.");
    // The name of no model is whatever somebody sent.
    let unknown = inference.admit(&s.actor, Request { model: Some("What is a kontor?".into()), ..request() }).await;
    assert!(unknown.is_err());
    assert_eq!(events(&s, "target = '' AND detail @> '{\"count\": 1}'").await, 1);
    let said = "(actor || target || detail::text) ILIKE '%kontor?%'";
    assert_eq!(events(&s, said).await, 0, "If you are here because this failed: what people write is kept for ever.");
}

#[tokio::test]
async fn budgets_and_limits_refuse_with_their_reasons() {
    let s = setup().await;
    price(&s.db, FAKE_MODEL, "EUR", "1", "2").await;
    budget(&s.db, s.actor.tenant(), Level::Tenant, None, "0", true).await;
    assert!(s.inference.admit(&s.actor, request()).await.is_err());
    let of = |reason: &str| format!("target = '{FAKE_MODEL}' AND detail ->> 'reason' = '{reason}'");
    assert_eq!(events(&s, &of("budget")).await, 1);

    let s = setup().await;
    limit(&s.db, s.actor.tenant(), Level::Tenant, |limit| limit.requests = Some(1)).await;
    assert!(s.inference.count_request(&s.actor, "moderation").await.is_ok());
    assert!(s.inference.admit(&s.actor, request()).await.is_err());
    assert_eq!(events(&s, &of("requests_per_minute")).await, 1);
    assert!(s.inference.count_request(&s.actor, "moderation").await.is_err());
    assert_eq!(events(&s, "target = 'moderation'").await, 1);
}
