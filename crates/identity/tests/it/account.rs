use crate::{EMAIL, House, PASSWORD, code};
use contract::problem::ProblemKind;
use domain::secret::Secret;
use identity::NewPassword;

const NEW: &str = "Lampenschirm und Regen";

fn change(current: &str, new: &str) -> NewPassword {
    NewPassword { current: Secret::new(current), new: Secret::new(new) }
}

#[tokio::test]
async fn a_new_password_replaces_the_old_and_ends_other_sessions() {
    let house = House::build().await;
    let (here, elsewhere) = (house.sign_in().await, house.sign_in().await);
    let actor = house.actor(&here).await.unwrap();
    house.identity.change_password(&actor, change(PASSWORD, NEW)).await.unwrap();
    assert!(house.actor(&elsewhere).await.is_none());
    assert!(house.actor(&here).await.is_some());
    assert_eq!(code(house.try_sign_in(EMAIL, PASSWORD).await), "wrong_credentials");
    assert!(house.try_sign_in(EMAIL, NEW).await.is_ok());
    assert_eq!(house.audited("password.changed", &format!("actor = '{}'", house.anna)).await, 1);
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_to_a_good_one() {
    let house = House::build().await;
    let actor = house.actor(&house.sign_in().await).await.unwrap();
    let wrong = house.identity.change_password(&actor, change("wrong", NEW)).await.unwrap_err().problem();
    assert_eq!((wrong.code.as_str(), wrong.field.as_deref()), ("wrong_password", Some("current")));
    let weak = house.identity.change_password(&actor, change(PASSWORD, "kurz")).await.unwrap_err().problem();
    assert_eq!((weak.code.as_str(), weak.field.as_deref()), ("password_too_short", Some("new")));
    assert!(house.try_sign_in(EMAIL, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_stolen_session_cannot_guess_the_password() {
    let house = House::build().await;
    let actor = house.actor(&house.sign_in().await).await.unwrap();
    for _ in 0..5 {
        assert_eq!(code(house.identity.delete_account(&actor, Secret::new("wrong")).await), "wrong_password");
    }
    let blocked = house.identity.delete_account(&actor, Secret::new(PASSWORD)).await.unwrap_err();
    assert_eq!(blocked.kind(), ProblemKind::QuotaExceeded);
    // The person themselves can still sign in: the guesses were made in their name, not at the door.
    assert!(house.try_sign_in(EMAIL, PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_deleted_account_is_gone() {
    let house = House::build().await;
    let signed_in = house.sign_in().await;
    let actor = house.actor(&signed_in).await.unwrap();
    house.identity.delete_account(&actor, Secret::new(PASSWORD)).await.unwrap();
    assert!(house.actor(&signed_in).await.is_none());
    assert_eq!(code(house.try_sign_in(EMAIL, PASSWORD).await), "wrong_credentials");
    assert_eq!(house.audited("account.deleted", &format!("target = '{}'", house.anna)).await, 1);
    // The e-mail is free again.
    house.identity.create_user("test", crate::person(house.tenant, EMAIL)).await.unwrap();
}
