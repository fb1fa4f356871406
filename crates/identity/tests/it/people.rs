use crate::{EMAIL, House, PASSWORD, code, person};
use domain::secret::Secret;

#[tokio::test]
async fn names_and_emails_are_unique() {
    let house = House::build().await;
    assert_eq!(code(house.identity.create_tenant("test", "demo", "Again").await), "slug_taken");
    assert_eq!(code(house.identity.create_user("test", person(house.tenant, "ANNA@example.org")).await), "email_taken");
    let other = house.identity.create_tenant("test", "other", "Other").await.unwrap();
    assert_eq!(code(house.identity.create_user("test", person(other, EMAIL)).await), "email_taken", "sign-in knows only the e-mail");
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM app_user").await, 1, "nothing half made");
    assert_eq!(house.identity.tenant_by_slug("test", "demo").await.unwrap(), house.tenant);
    assert_eq!(code(house.identity.tenant_by_slug("test", "none").await), "tenant_not_found");
    assert!(!house.identity.is_first_start().await.unwrap());
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let house = House::build().await;
    let field = |problem: contract::problem::Problem| problem.field.unwrap_or_default();
    let mut wrong = person(house.tenant, "nonsense");
    assert_eq!(field(house.identity.create_user("test", wrong.clone()).await.unwrap_err().problem()), "email");
    wrong.email = "new@example.org".into();
    wrong.name = "  ".into();
    assert_eq!(field(house.identity.create_user("test", wrong.clone()).await.unwrap_err().problem()), "name");
    wrong.name = "New".into();
    wrong.password = Secret::new("short");
    assert_eq!(field(house.identity.create_user("test", wrong.clone()).await.unwrap_err().problem()), "password");
    wrong.password = Secret::new(PASSWORD);
    house.identity.create_user("test", wrong).await.unwrap();
    assert_eq!(field(house.identity.create_tenant("test", "Not A Slug", "x").await.unwrap_err().problem()), "slug");
}

#[tokio::test]
async fn administration_leaves_a_trace() {
    let house = House::build().await;
    assert_eq!(house.audited("tenant.created", &format!("target = '{}' AND actor = 'test'", house.tenant)).await, 1);
    assert_eq!(house.audited("user.created", &format!("target = '{}'", house.anna)).await, 1);
}

#[tokio::test]
async fn a_tenant_weighs_what_the_operator_says() {
    let house = House::build().await;
    let other = house.identity.create_tenant("test", "acme", "Acme").await.unwrap();
    let weights = async || {
        let tenants = house.identity.tenants("test").await.unwrap();
        tenants.into_iter().map(|tenant| (tenant.slug, tenant.weight)).collect::<Vec<_>>()
    };
    assert_eq!(weights().await, [("acme".to_owned(), 1), ("demo".to_owned(), 1)]);
    assert!(house.test.db.tenant_weights().await.unwrap().is_empty());
    house.identity.set_weight("test", other, 100).await.unwrap();
    for wrong in [0, 101] {
        assert_eq!(code(house.identity.set_weight("test", other, wrong).await), "out_of_range");
    }
    assert_eq!(weights().await, [("acme".to_owned(), 100), ("demo".to_owned(), 1)]);
    assert_eq!(house.test.db.tenant_weights().await.unwrap(), [(other, 100)]);
    assert_eq!(house.audited("tenant.weight_set", &format!("target = '{other}' AND detail ->> 'weight' = '100'")).await, 1);
    let nobody = contract::ids::TenantId(uuid::Uuid::now_v7());
    assert_eq!(code(house.identity.set_weight("test", nobody, 2).await), "tenant_not_found");
}
