//! Keys of service accounts, on several replicas.

use crate::{House, code, request};
use contract::key::Scope;
use domain::{Action, Clock, DataClass};
use identity::{MadeKey, NewAccount, NewKey};
use std::time::Duration;
use testkit::keys::{self, make, reports};

/// A replica asks once a second.
const TWO_SECONDS: Duration = Duration::from_secs(2);

#[tokio::test]
async fn other_replicas_notice_within_two_seconds() {
    let house = House::build().await;
    let other = house.other_replica();
    let (account, key) = make(&house.identity, house.tenant).await;
    let opens = async |identity: &identity::Identity| identity.authenticate_key(key.key.reveal(), None, request()).await.is_ok();
    assert!(opens(&house.identity).await && opens(&other).await, "a new key opens at once");
    house.identity.disable_key("test", key.id, true).await.unwrap();
    assert!(!opens(&house.identity).await, "where it was disabled it is refused at once");
    tokio::time::sleep(TWO_SECONDS).await;
    assert!(!opens(&other).await, "If you are here because this failed: a disabled key opens the door for more than two seconds.");
    house.identity.disable_key("test", key.id, false).await.unwrap();
    tokio::time::sleep(TWO_SECONDS).await;
    assert!(opens(&other).await);
    house.identity.disable_service_account("test", house.tenant, account, true).await.unwrap();
    tokio::time::sleep(TWO_SECONDS).await;
    assert!(!opens(&other).await, "an account closes with all its keys");
    assert!(house.identity.rotate_key("test", key.id, 0).await.is_ok(), "the key itself has not ended");
    house.identity.disable_key("test", key.id, true).await.unwrap();
    assert!(house.identity.rotate_key("test", key.id, 0).await.is_err(), "what has ended has no successor");
}

#[tokio::test]
async fn the_last_use_is_noted() {
    let house = House::build().await;
    let (account, key) = make(&house.identity, house.tenant).await;
    house.identity.authenticate_key(key.key.reveal(), None, request()).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    house.identity.tend_keys(stop).await;
    let keys = house.identity.keys("test", house.tenant, account).await.unwrap();
    assert!(keys[0].last_used_at.is_some() && keys[0].hint.len() == 4);
}

#[tokio::test]
async fn an_account_owns_chats_once_a_key_of_it_may_chat() {
    let house = House::build().await;
    let account = house.identity.create_service_account("test", reports(house.tenant)).await.unwrap();
    let actor = async |scopes: Vec<Scope>| {
        let new = NewKey { scopes, ..NewKey::default() };
        let key = house.identity.create_key("test", house.tenant, account, new).await.unwrap();
        house.identity.authenticate_key(key.key.reveal(), None, request()).await.unwrap()
    };
    assert!(actor(vec![Scope::Inference]).await.user().is_err());
    let chatting = actor(vec![Scope::Chat, Scope::Chat]).await;
    assert_eq!(chatting.user().unwrap().0, account.0, "the owner of the chats has the account's id");
    assert_eq!(chatting.as_program().unwrap().scopes, [Scope::Chat], "once is enough");
    assert!(chatting.may(Action::Chat).is_ok() && chatting.may(Action::ManageOwnAccount).is_err() && chatting.session().is_none());
    assert!(
        actor(vec![Scope::Usage]).await.may(Action::Chat).is_err(),
        "If you are here because this failed: any key of the account may chat."
    );
    assert!(house.identity.sign_out(&chatting).await.is_err());
    let people = house.identity.people("test", None).await.unwrap();
    assert_eq!(people.iter().map(|person| person.user).collect::<Vec<_>>(), [house.anna], "it is no person");
    let payer = domain::Payer::of(&chatting);
    assert_eq!((payer.program.map(|(account, _)| account), payer.user), (Some(account), None), "the account pays");
}

#[tokio::test]
async fn a_class_is_the_account_s_or_else_its_tenant_s_and_is_known_at_once() {
    let house = House::build().await;
    let (account, key) = make(&house.identity, house.tenant).await;
    let signed_in = house.sign_in().await;
    let classes = async || {
        let program = house.identity.authenticate_key(key.key.reveal(), None, request()).await.unwrap();
        let person = house.actor(&signed_in).await.unwrap();
        let slug = |actor: &domain::Actor| actor.tenant_slug().map(|slug| slug.to_string());
        assert_eq!((slug(&program).as_deref(), slug(&person).as_deref()), (Some("demo"), Some("demo")));
        (program.class(), person.class())
    };
    assert_eq!(classes().await, (DataClass::Internal, DataClass::Internal));
    house.identity.set_class("test", house.tenant, DataClass::Restricted).await.unwrap();
    assert_eq!(classes().await, (DataClass::Restricted, DataClass::Restricted));
    house.identity.set_account_class("test", house.tenant, account, Some(DataClass::Public)).await.unwrap();
    assert_eq!(classes().await, (DataClass::Public, DataClass::Restricted), "an account's own comes first");
    house.identity.set_account_class("test", house.tenant, account, None).await.unwrap();
    assert_eq!(classes().await, (DataClass::Restricted, DataClass::Restricted));
    let set = house.audited("tenant.class_set", r#"detail @> '{"class": "restricted", "before": "internal"}'::jsonb"#).await;
    assert_eq!((set, house.audited("service_account.class_set", "true").await), (1, 2));
    let accounts = house.identity.service_accounts("test", house.tenant).await.unwrap();
    assert_eq!((accounts[0].class, house.identity.tenants("test").await.unwrap()[0].class), (None, DataClass::Restricted));
}

#[tokio::test]
async fn the_audit_trail_says_what_a_key_opens() {
    let house = House::build().await;
    let new = identity::NewAccount {
        tenant: house.tenant,
        name: "Audited".into(),
        purpose: "Tests".into(),
        team: String::new(),
        cost_center: String::new(),
        owner: None,
        models: None,
        class: None,
        expires_at: None,
    };
    let account = house.identity.create_service_account("test", new).await.unwrap();
    let (models, networks) = (Some(vec!["small".to_owned()]), vec!["10.1.2.3/16".to_owned()]);
    let new = NewKey { scopes: vec![Scope::Usage, Scope::Inference], models, networks, ..NewKey::default() };
    let key = house.identity.create_key("test", house.tenant, account, new).await.unwrap();
    let successor = house.identity.rotate_key("test", key.id, 0).await.unwrap();
    let open = NewKey { scopes: vec![Scope::Chat], ..NewKey::default() };
    house.identity.create_key("test", house.tenant, account, open).await.unwrap();
    let narrow =
        format!(r#"{{"account": "{account}", "scopes": ["inference", "usage"], "models": ["small"], "networks": ["10.1.0.0/16"]}}"#);
    let wide = format!(r#"{{"account": "{account}", "scopes": ["chat"], "models": null, "networks": []}}"#);
    let said = async |action: &str, detail: &str| {
        let rows = format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND detail @> '{detail}'::jsonb");
        house.test.count_as_owner(&rows).await
    };
    assert_eq!((said("key.created", &narrow).await, said("key.created", &wide).await), (1, 1));
    assert_eq!(said("key.rotated", &narrow).await, 1);
    assert_eq!(said("key.rotated", &format!(r#"{{"successor": "{}"}}"#, successor.id)).await, 1);
}

impl House {
    /// Why this key does not open; `None`: it does.
    async fn refusal(&self, key: &MadeKey) -> Option<String> {
        let refused = self.identity.authenticate_key(key.key.reveal(), None, request()).await.err()?;
        let later = self.identity.authenticate_later(self.tenant, key.id, request()).await;
        assert_eq!(code(later), "invalid_api_key", "what was asked for earlier is not done with it either");
        let problem = refused.problem();
        assert_eq!(problem.code, "invalid_api_key");
        Some(problem.message)
    }
}

fn expired() -> Option<String> {
    Some("This key has expired.".into())
}

#[tokio::test]
async fn a_key_ends_at_its_instant_and_at_that_of_its_account() {
    let house = House::build().await;
    let end = house.clock.now() + 60_000;
    let account = house.identity.create_service_account("test", reports(house.tenant)).await.unwrap();
    let ending = NewAccount { name: "Ending".into(), expires_at: Some(end), ..reports(house.tenant) };
    let ending = house.identity.create_service_account("test", ending).await.unwrap();
    let key_of = |account, expires_at| keys::key(&house.identity, house.tenant, account, NewKey { expires_at, ..NewKey::default() });
    let unending = key_of(account, None).await;
    let ended = [key_of(account, Some(end)).await, key_of(ending, None).await, key_of(ending, Some(end + 60_000)).await];
    house.clock.advance(Duration::from_millis(59_999));
    for key in ended.iter().chain([&unending]) {
        assert_eq!(house.refusal(key).await, None, "its last moment is not over");
    }
    house.clock.advance(Duration::from_millis(1));
    for (number, key) in ended.iter().enumerate() {
        assert_eq!(
            house.refusal(key).await,
            expired(),
            "key {number}. If you are here because this failed: a key or an account does not end when it was said to."
        );
    }
    assert_eq!(house.refusal(&unending).await, None);
}

#[tokio::test]
async fn what_has_expired_has_no_successor_and_a_successor_ends_when_its_predecessor_was_to() {
    let house = House::build().await;
    let end = house.clock.now() + 60_000;
    let account = house.identity.create_service_account("test", reports(house.tenant)).await.unwrap();
    let old = keys::key(&house.identity, house.tenant, account, NewKey { expires_at: Some(end), ..NewKey::default() }).await;
    let new = house.identity.rotate_key("test", old.id, 10_000).await.unwrap();
    house.clock.advance(Duration::from_millis(9_999));
    assert_eq!((house.refusal(&old).await, house.refusal(&new).await), (None, None), "both open for a while");
    house.clock.advance(Duration::from_millis(1));
    assert_eq!((house.refusal(&old).await, house.refusal(&new).await), (expired(), None));
    // A longer overlap than the key has left does not lengthen it.
    let newest = house.identity.rotate_key("test", new.id, 600_000).await.unwrap();
    house.clock.advance(Duration::from_millis(50_000));
    assert_eq!(
        (house.refusal(&new).await, house.refusal(&newest).await),
        (expired(), expired()),
        "If you are here because this failed: whoever rotates a key uses it beyond its end."
    );
    for key in [&old, &new, &newest] {
        assert_eq!(code(house.identity.rotate_key("test", key.id, 0).await), "key_ended");
    }
    let keys = house.identity.keys("test", house.tenant, account).await.unwrap();
    assert_eq!(keys.len(), 3, "a rotation that is refused leaves nothing behind");
}

#[tokio::test]
async fn a_rotation_opens_no_account_that_has_expired() {
    let house = House::build().await;
    let ending = NewAccount { expires_at: Some(house.clock.now() + 60_000), ..reports(house.tenant) };
    let account = house.identity.create_service_account("test", ending).await.unwrap();
    let key = keys::key(&house.identity, house.tenant, account, NewKey::default()).await;
    house.clock.advance(Duration::from_millis(60_000));
    let successor = house.identity.rotate_key("test", key.id, 0).await.unwrap();
    assert_eq!(house.refusal(&successor).await, expired());
}

#[tokio::test]
async fn keys_that_are_refused_are_in_the_audit_trail() {
    let house = House::build().await;
    let (account, closed) = make(&house.identity, house.tenant).await;
    let new = NewKey { networks: vec!["10.1.0.0/16".into()], ..NewKey::default() };
    let inside = testkit::keys::key(&house.identity, house.tenant, account, new).await;
    house.identity.disable_key("test", closed.id, true).await.unwrap();
    let address = "192.0.2.7".parse().ok();
    for key in [closed.key.reveal(), inside.key.reveal(), "sk-kontor-wrong", "something else"] {
        assert!(house.identity.authenticate_key(key, address, request()).await.is_err(), "{key}");
    }
    house.test.db.write_refusals().await.unwrap();
    let of = |key: &MadeKey, reason: &str| {
        let detail = format!(r#"{{"key": "{}", "reason": "{reason}", "count": 1}}"#, key.id);
        format!("tenant_id = '{}' AND actor = '{account}' AND detail @> '{detail}'", house.tenant)
    };
    assert_eq!(house.audited("policy.refused", &of(&closed, "disabled_key")).await, 1);
    assert_eq!(house.audited("policy.refused", &of(&inside, "foreign_network")).await, 1);
    let unknown = r#"tenant_id IS NULL AND detail @> '{"reason": "unknown_key", "count": 2}'"#;
    assert_eq!(house.audited("policy.refused", unknown).await, 1);
    assert_eq!(house.audited("policy.refused", "true").await, 3);
    assert_eq!(house.audited("policy.refused", "detail::text LIKE '%sk-kontor%'").await, 0, "no key is in it");
}
