//! Profile, and an account that is erased.

use crate::world::World;
use contract::{
    account::{Language, Profile, Role, Theme},
    ids::{RequestId, SessionId},
};
use domain::{Actor, Error, secret::Secret};
use identity::{NewPerson, SignIn};
use std::time::Duration;
use testkit::fake_worker::Script;
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

/// Somebody with a password, signed in.
async fn person(world: &World, email: &str) -> Actor {
    let new = NewPerson {
        tenant: world.tenant.id,
        email: email.into(),
        name: "Somebody".into(),
        roles: vec![Role::User],
        password: Secret::new(PASSWORD),
    };
    let user = world.identity.create_user("test", new).await.expect("a person");
    Actor::authenticated(world.tenant.id, user, SessionId(Uuid::now_v7()), vec![Role::User], RequestId(Uuid::now_v7()))
}

#[tokio::test]
async fn a_profile_is_checked_and_stored() {
    let world = World::new().await;
    let profile = Profile {
        name: " Ada  L. ".into(),
        language: Some(Language::De),
        theme: Theme::Dark,
        default_model: None,
        instructions: "Kurz.".into(),
    };
    let stored = world.services.account.change_profile(&world.actor, profile.clone()).await.expect("stored");
    assert_eq!(stored.name, "Ada L.");
    assert_eq!(world.services.account.me(&world.actor).await.expect("me").profile.language, Some(Language::De));
    assert_eq!(world.services.account.me(&world.actor).await.expect("me").profile, stored);
    let refused = |profile: Profile| async { world.services.account.change_profile(&world.actor, profile).await };
    assert!(matches!(refused(Profile { name: " ".into(), ..profile.clone() }).await, Err(Error::Invalid { field: Some("name"), .. })));
    let unknown = Profile { default_model: Some("no-such".into()), ..profile };
    assert!(matches!(refused(unknown).await, Err(Error::Invalid { field: Some("default_model"), code: "unknown_model", .. })));
}

#[tokio::test]
async fn an_erased_account_leaves_only_anonymous_usage() {
    let world = World::new().await;
    let actor = person(&world, "canary-person@example.org").await;
    let profile = Profile { name: "canary-name".into(), instructions: "canary-instructions".into(), ..Profile::default() };
    world.services.account.change_profile(&actor, profile).await.expect("changed");
    world.worker.script(Script::answer("canary-answer"));
    let started = world.services.turns.start(&actor, crate::world::question(None, None, "canary-question")).await.expect("a turn");
    crate::world::follow(&world.services, &actor, started.turn, 0).await;
    // One more that still runs.
    world.worker.script(Script::answer("canary running").hangs_after(1));
    world.services.turns.start(&actor, crate::world::question(None, None, "canary-second")).await.expect("a turn");
    crate::world::until("it runs", || async { world.worker.running() == 1 }).await;
    assert!(world.rows_with("canary").await > 0);
    let uses = testkit::ledger::ledger(&world.db).await.len();

    let wrong = world.services.account.delete(&actor, Secret::new("not the password")).await;
    assert!(matches!(wrong, Err(Error::Invalid { field: Some("password"), code: "wrong_password", .. })), "{wrong:?}");
    assert!(world.rows_with("canary").await > 0, "a wrong password erases nothing");
    world.services.account.delete(&actor, Secret::new(PASSWORD)).await.expect("erased");
    crate::world::until("the slot is free", || async { world.worker.running() == 0 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.rows_with("canary").await, 0, "If you are here because this failed: an erased account left something behind.");
    let ledger = testkit::ledger::ledger(&world.db).await;
    assert_eq!(ledger.len(), uses, "what was used stays");
    assert!(ledger.iter().all(|row| row.user_id.is_none() && row.state == "settled"), "{ledger:?}");
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM audit_event WHERE action = 'account.deleted'").await, 1);

    let visitor = SignIn {
        email: "canary-person@example.org".into(),
        password: Secret::new(PASSWORD),
        user_agent: String::new(),
        client: "127.0.0.1".into(),
        previous: None,
        request: RequestId(Uuid::now_v7()),
    };
    assert!(matches!(world.identity.sign_in(visitor).await, Err(Error::Unauthenticated { .. })));
}
