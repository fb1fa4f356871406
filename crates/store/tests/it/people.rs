//! Profiles, passwords, sessions, throttling.

use contract::{
    account::{Language, Profile, Role, Theme},
    ids::{SessionId, TenantId, UserId},
};
use domain::{Clock, SystemClock};
use store::{
    Reason,
    sessions::{NewSession, TokenHash},
    throttle::ThrottleRule,
    users::NewUser,
};
use testkit::TestDb;
use uuid::Uuid;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;

async fn sign_in(test: &TestDb, tenant: TenantId, user: UserId, token_hash: TokenHash, at: i64) -> SessionId {
    let id = SessionId(Uuid::now_v7());
    let tx = test.db.begin_system("test", Reason::SignIn).await.unwrap();
    let new = NewSession { id, tenant, user, token_hash, user_agent: "Firefox".into(), created_at: at, expires_at: at + DAY };
    tx.sessions().create(&new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn a_profile_comes_back_as_it_was_stored() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User, Role::ServiceAdmin]).await;
    let profile = Profile {
        name: "Änne Groß".into(),
        language: Some(Language::De),
        theme: Theme::Contrast,
        default_model: Some("m".into()),
        instructions: "Kurz, bitte.".into(),
    };
    let tx = test.db.begin(&actor).await.unwrap();
    assert_eq!(tx.users().get(actor.user().unwrap()).await.unwrap().profile.language, None, "nobody has chosen one yet");
    let following = Profile { language: None, ..profile.clone() };
    for profile in [&profile, &following, &profile] {
        tx.users().change_profile(actor.user().unwrap(), profile).await.unwrap();
        assert_eq!(tx.users().get(actor.user().unwrap()).await.unwrap().profile, *profile);
    }
    assert_eq!(tx.users().roles(actor.user().unwrap()).await.unwrap(), [Role::ServiceAdmin, Role::User]);
    assert_eq!(tx.tenants().name().await.unwrap(), "Tenant a");
}

#[tokio::test]
async fn an_email_signs_in_one_person_in_the_whole_house() {
    let test = TestDb::new().await;
    let (a, b) = (testkit::tenant(&test, "a").await, testkit::tenant(&test, "b").await);
    let tx = test.db.begin_system("test", Reason::SignIn).await.unwrap();
    let new = |id| NewUser { id, email: "Ann@Example.org".into(), name: "Ann".into(), roles: vec![], created_at: SystemClock.now() };
    let (first, second) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
    tx.users().create(a.id, &new(first)).await.unwrap();
    tx.users().create(b.id, &new(second)).await.unwrap();
    tx.credentials().set(a.id, first, "Ann@Example.org", "hash", SystemClock.now()).await.unwrap();
    let found = tx.credentials().by_email(" ann@EXAMPLE.org ").await.unwrap().unwrap();
    assert_eq!((found.tenant, found.user, found.disabled), (a.id, first, false));
    tx.users().disable(a.id, first, Some(SystemClock.now())).await.unwrap();
    assert!(tx.credentials().by_email("ann@example.org").await.unwrap().unwrap().disabled);
    let taken = tx.credentials().set(b.id, second, "ann@example.org", "hash", SystemClock.now()).await.unwrap_err();
    assert_eq!(taken.problem().code, "already_exists");
}

#[tokio::test]
async fn a_token_leads_to_its_session_until_it_ends() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User, Role::SystemAdmin]).await;
    let (user, now) = (actor.user().unwrap(), SystemClock.now());
    let session = sign_in(&test, tenant.id, user, [1; 32], now).await;
    let found = test.db.session_by_token(&[1; 32], now, DAY).await.unwrap().unwrap();
    assert_eq!((found.tenant, found.user, found.session, found.expires_at), (tenant.id, user, session, now + DAY));
    assert_eq!(found.roles.len(), 2);
    assert_eq!(test.db.session_by_token(&[2; 32], now, DAY).await.unwrap(), None);
    // Within a minute nothing is written; after it the end slides.
    assert_eq!(test.db.session_by_token(&[1; 32], now + MINUTE - 1, DAY).await.unwrap().unwrap().expires_at, now + DAY);
    assert_eq!(test.db.session_by_token(&[1; 32], now + MINUTE, DAY).await.unwrap().unwrap().expires_at, now + MINUTE + DAY);
    assert_eq!(test.db.session_by_token(&[1; 32], now + MINUTE + DAY, DAY).await.unwrap(), None);
}

#[tokio::test]
async fn revoked_and_disabled_end_at_once() {
    let test = TestDb::new().await;
    let tenant = testkit::tenant(&test, "a").await;
    let actor = testkit::user(&test, &tenant, &[Role::User]).await;
    let (user, now) = (actor.user().unwrap(), SystemClock.now());
    sign_in(&test, tenant.id, user, [1; 32], now).await;
    let second = sign_in(&test, tenant.id, user, [2; 32], now + 1).await;
    let tx = test.db.begin(&actor).await.unwrap();
    let listed: Vec<_> = tx.sessions().list(user, now).await.unwrap().into_iter().map(|session| session.id).collect();
    assert_eq!((listed.len(), listed[0]), (3, second), "last used first");
    assert!(tx.sessions().revoke(user, second, now).await.unwrap());
    assert!(!tx.sessions().revoke(user, second, now).await.unwrap());
    assert_eq!(tx.sessions().revoke_others(user, actor.session(), now).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(test.db.session_by_token(&[1; 32], now, DAY).await.unwrap(), None);
    assert_eq!(test.db.session_by_token(&[2; 32], now, DAY).await.unwrap(), None);

    sign_in(&test, tenant.id, user, [3; 32], now).await;
    let tx = test.db.begin_system("test", Reason::Administration).await.unwrap();
    tx.users().disable(tenant.id, user, Some(now)).await.unwrap();
    assert_eq!(tx.sessions().purge(now + 1).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(test.db.session_by_token(&[3; 32], now, DAY).await.unwrap(), None);
}

const RULE: ThrottleRule = ThrottleRule { limit: 3, window_ms: 15 * MINUTE, first_wait_ms: MINUTE, longest_wait_ms: 60 * MINUTE };

async fn attempt(test: &TestDb, at: i64) -> Option<i64> {
    let tx = test.db.begin_system("test", Reason::SignIn).await.unwrap();
    let blocked = tx.throttle().attempt(&[7; 32], &RULE, at).await.unwrap();
    tx.commit().await.unwrap();
    blocked
}

#[tokio::test]
async fn failures_block_longer_and_longer() {
    let test = TestDb::new().await;
    let now = SystemClock.now();
    for _ in 0..3 {
        assert_eq!(attempt(&test, now).await, None);
    }
    assert_eq!(attempt(&test, now + 1).await, Some(now + MINUTE));
    assert_eq!(attempt(&test, now + MINUTE).await, None, "the wait is over");
    assert_eq!(attempt(&test, now + MINUTE + 1).await, Some(now + 3 * MINUTE), "twice as long");
    assert_eq!(attempt(&test, now + 20 * MINUTE).await, None, "a quiet window forgets");
    assert_eq!(attempt(&test, now + 20 * MINUTE).await, None);
}

#[tokio::test]
async fn attempts_at_the_same_time_cannot_all_pass() {
    let test = TestDb::new().await;
    let now = SystemClock.now();
    let passed = futures::future::join_all((0..12).map(|_| attempt(&test, now))).await.into_iter().filter(Option::is_none).count();
    assert_eq!(passed, 3, "If you are here because this failed: attempts must be counted before the password is checked.");
}

#[tokio::test]
async fn a_success_takes_its_attempt_back() {
    let test = TestDb::new().await;
    let now = SystemClock.now();
    for _ in 0..10 {
        assert_eq!(attempt(&test, now).await, None);
        let tx = test.db.begin_system("test", Reason::SignIn).await.unwrap();
        tx.throttle().forgive(&[7; 32], &RULE).await.unwrap();
        tx.commit().await.unwrap();
    }
    for _ in 0..3 {
        attempt(&test, now).await;
    }
    let tx = test.db.begin_system("test", Reason::SignIn).await.unwrap();
    assert!(tx.throttle().attempt(&[7; 32], &RULE, now).await.unwrap().is_some());
    tx.throttle().clear(&[7; 32]).await.unwrap();
    assert!(tx.throttle().attempt(&[7; 32], &RULE, now).await.unwrap().is_none());
    assert_eq!(tx.throttle().purge(now + DAY).await.unwrap(), 1);
}
