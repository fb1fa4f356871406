//! Keys of service accounts, on several replicas.

use crate::{House, request};
use contract::key::Scope;
use domain::{Action, DataClass};
use identity::NewKey;
use std::time::Duration;
use testkit::keys::{make, reports};

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
