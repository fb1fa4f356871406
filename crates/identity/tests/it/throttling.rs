use crate::{EMAIL, House, PASSWORD, code, visitor};
use domain::Error;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn retry_after<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Option<u32> {
    match outcome.unwrap_err() {
        Error::QuotaExceeded { which, retry_after_ms, .. } if which == "sign-in attempts" => retry_after_ms.map(domain::error::seconds),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn five_wrong_passwords_make_a_pause_that_grows() {
    let house = House::build().await;
    for _ in 0..5 {
        assert_eq!(code(house.try_sign_in(EMAIL, "wrong").await), "wrong_credentials");
    }
    assert_eq!(retry_after(house.try_sign_in(EMAIL, PASSWORD).await), Some(60), "even with the right one");
    // On any replica, and in any spelling.
    assert_eq!(retry_after(house.other_replica().sign_in(visitor("ANNA@example.org", PASSWORD)).await), Some(60));
    house.clock.advance(MINUTE);
    assert_eq!(code(house.try_sign_in(EMAIL, "wrong").await), "wrong_credentials");
    assert_eq!(retry_after(house.try_sign_in(EMAIL, PASSWORD).await), Some(120));
    house.clock.advance(2 * MINUTE);
    house.try_sign_in(EMAIL, PASSWORD).await.unwrap();
    // And all is forgotten.
    for _ in 0..5 {
        assert_eq!(code(house.try_sign_in(EMAIL, "wrong").await), "wrong_credentials");
    }
    assert_eq!(retry_after(house.try_sign_in(EMAIL, PASSWORD).await), Some(60));
}

#[tokio::test]
async fn unknown_emails_are_throttled_too() {
    let house = House::build().await;
    for _ in 0..5 {
        assert_eq!(code(house.try_sign_in("nobody@example.org", "wrong").await), "wrong_credentials");
    }
    assert_eq!(
        retry_after(house.try_sign_in("nobody@example.org", "wrong").await),
        Some(60),
        "If you are here because this failed: the pause tells who has an account."
    );
}

#[tokio::test]
async fn guesses_at_the_same_time_do_not_slip_through() {
    let house = House::build().await;
    let guesses = futures::future::join_all((0..20).map(|_| house.try_sign_in(EMAIL, "wrong"))).await;
    let checked = guesses.into_iter().filter(|guess| matches!(guess, Err(Error::Unauthenticated { .. }))).count();
    assert_eq!(checked, 5);
}

#[tokio::test]
async fn an_address_that_tries_many_people_is_stopped() {
    let house = House::build().await;
    for number in 0..50 {
        assert_eq!(code(house.try_sign_in(&format!("user{number}@example.org"), "wrong").await), "wrong_credentials");
    }
    assert_eq!(retry_after(house.try_sign_in(EMAIL, PASSWORD).await), Some(60));
    let mut elsewhere = visitor(EMAIL, PASSWORD);
    elsewhere.client = "198.51.100.1".into();
    assert!(house.identity.sign_in(elsewhere).await.is_ok(), "others are not concerned");
}

#[tokio::test]
async fn people_behind_one_address_do_not_add_up_when_they_succeed() {
    let house = House::build().await;
    for _ in 0..55 {
        house.sign_in().await;
    }
}
