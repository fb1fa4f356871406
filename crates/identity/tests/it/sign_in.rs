use crate::{EMAIL, House, PASSWORD, code, request, visitor};
use contract::account::Role;
use domain::{Caller, Clock, secret::Secret};
use std::time::{Duration, Instant};
use store::Reason;

#[tokio::test]
async fn the_right_password_leads_to_an_actor() {
    let house = House::build().await;
    let signed_in = house.try_sign_in(" Anna@Example.ORG ", PASSWORD).await.unwrap();
    let request = request();
    let actor = house.identity.authenticate(signed_in.token.reveal(), request).await.unwrap().unwrap();
    assert_eq!(*actor.caller(), Caller::User { user: house.anna, session: signed_in.session });
    assert_eq!((actor.tenant(), actor.roles(), actor.request()), (house.tenant, &[Role::User][..], request));
    assert_eq!(signed_in.expires_at, house.clock.now() + 30 * 24 * 3_600_000);
    assert_eq!(house.audited("sign_in.ok", &format!("actor = '{}' AND tenant_id = '{}'", house.anna, house.tenant)).await, 1);
}

#[tokio::test]
async fn the_token_is_stored_nowhere() {
    let house = House::build().await;
    let token = house.sign_in().await.token;
    let rows = format!("SELECT count(*) AS value FROM session s WHERE s::text LIKE '%{}%'", token.reveal());
    assert_eq!(house.test.count_as_owner(&rows).await, 0, "If you are here because this failed: whoever reads a backup could sign in.");
    assert_eq!(format!("{token:?}"), "[secret]");
}

#[tokio::test]
async fn unknown_wrong_and_disabled_are_told_alike() {
    let house = House::build().await;
    let unknown = house.try_sign_in("nobody@example.org", PASSWORD).await.unwrap_err();
    let wrong = house.try_sign_in(EMAIL, "Fahrradkette am Bahnhof").await.unwrap_err();
    let tx = house.test.db.begin_system("test", Reason::Administration).await.unwrap();
    tx.users().disable(house.tenant, house.anna, Some(house.clock.now())).await.unwrap();
    tx.commit().await.unwrap();
    let disabled = house.try_sign_in(EMAIL, PASSWORD).await.unwrap_err();
    assert_eq!(unknown.problem(), wrong.problem());
    assert_eq!(unknown.problem(), disabled.problem());
    assert_eq!(unknown.problem().code, "wrong_credentials");
    // The trail knows better, but not what was typed as e-mail.
    assert_eq!(house.audited("sign_in.failed", "actor = 'nobody' AND tenant_id IS NULL AND detail->>'reason' = 'unknown e-mail'").await, 1);
    assert_eq!(house.audited("sign_in.failed", &format!("actor = '{}' AND detail->>'reason' = 'wrong password'", house.anna)).await, 1);
    assert_eq!(house.audited("sign_in.failed", "detail->>'reason' = 'disabled' AND detail->>'client' = '192.0.2.7'").await, 1);
    assert_eq!(house.audited("sign_in.failed", "audit_event::text LIKE '%nobody@%'").await, 0);
}

#[tokio::test]
async fn unknown_people_cost_what_known_ones_do() {
    let house = House::build().await;
    let mut times = [Duration::MAX; 2];
    // The quickest of many is what the work itself costs; the rest is the machine's other business.
    for _ in 0..12 {
        for (time, email) in times.iter_mut().zip([EMAIL, "nobody@example.org"]) {
            let start = Instant::now();
            assert_eq!(code(house.try_sign_in(email, "Fahrradkette am Bahnhof").await), "wrong_credentials");
            *time = (*time).min(start.elapsed());
        }
        // Past the throttle's window.
        house.clock.advance(Duration::from_secs(60 * 60));
    }
    let [known, unknown] = times;
    assert!(
        unknown > known / 2,
        "known {known:?}, unknown {unknown:?}. If you are here because this failed: the time tells who has an account."
    );
}

#[tokio::test]
async fn signing_in_rotates_the_session() {
    let house = House::build().await;
    let first = house.sign_in().await;
    assert!(house.actor(&first).await.is_some());
    let mut again = visitor(EMAIL, PASSWORD);
    again.previous = Some(first.token.clone());
    let second = house.identity.sign_in(again).await.unwrap();
    assert_ne!(first.token.reveal(), second.token.reveal());
    assert!(
        house.actor(&first).await.is_none(),
        "If you are here because this failed: a planted cookie survives the sign-in (session fixation)."
    );
    assert!(house.actor(&second).await.is_some());
    // A cookie that is no token is no obstacle.
    let mut odd = visitor(EMAIL, PASSWORD);
    odd.previous = Some(Secret::new("not a token"));
    assert!(house.identity.sign_in(odd).await.is_ok());
}

#[tokio::test]
async fn an_endless_password_is_only_wrong() {
    let house = House::build().await;
    let endless = format!("{PASSWORD}{}", "x".repeat(1_000_000));
    assert_eq!(code(house.try_sign_in(EMAIL, &endless).await), "wrong_credentials");
    assert_eq!(code(house.try_sign_in(&"x".repeat(100_000), PASSWORD).await), "wrong_credentials");
    assert_eq!(code(house.try_sign_in("", "").await), "wrong_credentials");
}

#[tokio::test]
async fn many_at_once_all_come_in() {
    let house = House::build().await;
    let outcomes = futures::future::join_all((0..4).map(|_| house.try_sign_in(EMAIL, PASSWORD))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}
