use crate::{House, code, request};
use contract::ids::SessionId;
use std::time::Duration;
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A replica may trust its cache for a second.
const A_LITTLE_OVER_A_SECOND: Duration = Duration::from_millis(1_200);

#[tokio::test]
async fn rubbish_is_nobody() {
    let house = House::build().await;
    for rubbish in ["", "x", "' OR 1=1 --", &"A".repeat(43), &"A".repeat(1_000_000)] {
        assert!(house.identity.authenticate(rubbish, request()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_session_ends_with_sign_out() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    let actor = house.actor(&signed_in).await.unwrap();
    house.identity.sign_out(&actor).await.unwrap();
    assert!(house.actor(&signed_in).await.is_none());
    house.identity.sign_out(&actor).await.unwrap();
    assert_eq!(house.audited("sign_out", &format!("target = '{}'", signed_in.session)).await, 1);
}

#[tokio::test]
async fn other_replicas_notice_within_a_second() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    let other = house.other_replica();
    let actor = other.authenticate(signed_in.token.reveal(), request()).await.unwrap().unwrap();
    house.identity.sign_out(&actor).await.unwrap();
    tokio::time::sleep(A_LITTLE_OVER_A_SECOND).await;
    assert!(other.authenticate(signed_in.token.reveal(), request()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_lives_while_it_is_used() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    for _ in 0..3 {
        house.clock.advance(29 * DAY);
        assert!(house.other_replica().authenticate(signed_in.token.reveal(), request()).await.unwrap().is_some());
    }
    house.clock.advance(30 * DAY);
    assert!(house.actor(&signed_in).await.is_none());
}

#[tokio::test]
async fn the_cache_does_not_outlive_the_session() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    assert!(house.actor(&signed_in).await.is_some());
    house.clock.advance(30 * DAY);
    assert!(house.actor(&signed_in).await.is_none());
}

#[tokio::test]
async fn sessions_are_listed_and_ended_one_by_one_or_together() {
    let house = House::build().await;
    let (first, second, third) = (house.sign_in().await, house.sign_in().await, house.sign_in().await);
    let actor = house.actor(&second).await.unwrap();
    let listed = house.identity.sessions(&actor).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().filter(|session| session.current).map(|session| session.id).collect::<Vec<_>>(), [second.session]);
    assert!(listed.iter().all(|session| session.user_agent == "Mozilla/5.0"));

    house.identity.revoke_session(&actor, first.session).await.unwrap();
    assert!(house.actor(&first).await.is_none());
    assert_eq!(code(house.identity.revoke_session(&actor, first.session).await), "session_not_found");
    assert_eq!(code(house.identity.revoke_session(&actor, SessionId(Uuid::now_v7())).await), "session_not_found");
    assert_eq!(house.identity.revoke_other_sessions(&actor).await.unwrap(), 1);
    assert!(house.actor(&third).await.is_none());
    assert!(house.actor(&second).await.is_some());
}

#[tokio::test]
async fn somebody_elses_session_is_not_found() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    let other = house.identity.create_tenant("test", "other", "Other").await.unwrap();
    house.identity.create_user("test", crate::person(other, "bert@example.org")).await.unwrap();
    let bert = house.try_sign_in("bert@example.org", crate::PASSWORD).await.unwrap();
    let bert = house.actor(&bert).await.unwrap();
    assert_eq!(code(house.identity.revoke_session(&bert, signed_in.session).await), "session_not_found");
    assert_eq!(house.identity.sessions(&bert).await.unwrap().len(), 1);
    assert_eq!(house.identity.revoke_other_sessions(&bert).await.unwrap(), 0);
    assert!(house.actor(&signed_in).await.is_some());
}

#[tokio::test]
async fn a_database_that_does_not_answer_signs_nobody_out() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    house.test.db.close().await.unwrap();
    let outcome = house.identity.authenticate(signed_in.token.reveal(), request()).await;
    assert_eq!(code(outcome), "database_unavailable");
}

#[tokio::test]
async fn what_ended_long_ago_is_purged() {
    let house = House::build().await;
    house.sign_in().await;
    assert_eq!(house.identity.purge().await.unwrap(), 0);
    house.clock.advance(61 * DAY);
    house.sign_in().await;
    assert_eq!(house.identity.purge().await.unwrap(), 1, "the old session; the address's counter is in use");
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM session").await, 1);
    assert_eq!(house.audited("system.purge", "detail->>'rows' = '1'").await, 1);
}
