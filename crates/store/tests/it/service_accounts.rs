//! Service accounts that own chats.

use contract::{
    account::Role,
    ids::{ApiKeyId, ConversationId, ServiceAccountId, SessionId, TenantId, UserId},
    key::Scope,
};
use domain::{Clock, SystemClock};
use sea_orm::ConnectionTrait;
use store::{
    Reason, SystemTx,
    api_keys::NewApiKey,
    conversations::{NewConversation, TitleSource},
    sessions::NewSession,
    users::NewUser,
};
use testkit::{TestDb, TestTenant, ledger::execute_as_owner};
use uuid::Uuid;

struct House {
    test: TestDb,
    tenant: TestTenant,
    account: ServiceAccountId,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let account = testkit::program(&test, &tenant).await.as_program().unwrap().account;
        Self { test, tenant, account }
    }

    async fn begin(&self) -> SystemTx {
        self.test.db.begin_system("test", Reason::Administration).await.unwrap()
    }

    async fn key(&self, tx: &SystemTx, scopes: &[Scope]) {
        let id = ApiKeyId(Uuid::now_v7());
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(id.0.as_bytes());
        let new = NewApiKey {
            id,
            account: self.account,
            name: String::new(),
            hash,
            hint: "abcd".into(),
            scopes: scopes.to_vec(),
            models: None,
            networks: Vec::new(),
            expires_at: None,
            created_at: SystemClock.now(),
        };
        tx.api_keys().create(self.tenant.id, &new).await.unwrap();
    }

    /// Who owns the account's chats, as its keys have it.
    async fn owner(&self) -> Option<UserId> {
        self.test.db.authorities().await.unwrap().into_iter().find(|key| key.account == self.account).unwrap().user
    }
}

#[tokio::test]
async fn the_first_key_that_may_chat_lets_the_account_own_chats() {
    let house = House::build().await;
    let tx = house.begin().await;
    house.key(&tx, &[Scope::Inference, Scope::Usage]).await;
    tx.commit().await.unwrap();
    assert_eq!(house.owner().await, None);
    // Two at once wait for each other and do the same.
    let (one, other) = (house.begin().await, house.begin().await);
    let first = async {
        house.key(&one, &[Scope::Chat]).await;
        one.commit().await.unwrap();
    };
    let second = async {
        house.key(&other, &[Scope::Chat]).await;
        other.commit().await.unwrap();
    };
    tokio::join!(first, second);
    assert_eq!(house.owner().await, Some(UserId(house.account.0)));
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM app_user").await, 1);
}

#[tokio::test]
async fn nobody_can_sign_in_as_it_whatever_the_code_does() {
    let house = House::build().await;
    let tx = house.begin().await;
    house.key(&tx, &[Scope::Chat]).await;
    tx.commit().await.unwrap();
    let (tenant, owner): (TenantId, UserId) = (house.tenant.id, house.owner().await.unwrap());
    let why = "If you are here because this failed: somebody can sign in as a service account.";
    let now = SystemClock.now();

    let tx = house.begin().await;
    assert!(tx.credentials().set(tenant, owner, "robot@example.org", "x", now).await.is_err(), "{why}");
    drop(tx);
    let tx = house.begin().await;
    let session = NewSession {
        id: SessionId(Uuid::now_v7()),
        tenant,
        user: owner,
        token_hash: [7; 32],
        user_agent: String::new(),
        created_at: now,
        expires_at: now + 1_000,
    };
    assert!(tx.sessions().create(&session).await.is_err(), "{why}");
    drop(tx);
    let tx = house.begin().await;
    assert!(tx.administration().people(None).await.unwrap().is_empty(), "it is no person");
    // Its empty e-mail is in nobody's way, and a person's is not for it.
    let person =
        NewUser { id: UserId(Uuid::now_v7()), email: "a@example.org".into(), name: "A".into(), roles: vec![Role::User], created_at: now };
    tx.users().create(tenant, &person).await.unwrap();
    tx.commit().await.unwrap();
    let renamed = house.test.login("kontor_system").await;
    let update = format!("UPDATE app_user SET email = 'robot@example.org' WHERE id = '{owner}'");
    assert!(renamed.execute_unprepared(&update).await.is_err());
}

#[tokio::test]
async fn its_chats_go_with_the_account() {
    let house = House::build().await;
    let tx = house.begin().await;
    house.key(&tx, &[Scope::Chat]).await;
    tx.commit().await.unwrap();
    let user = house.owner().await.unwrap();
    let tx = house.test.db.begin(&testkit::program(&house.test, &house.tenant).await).await.unwrap();
    let now = SystemClock.now();
    let new = NewConversation {
        id: ConversationId(Uuid::now_v7()),
        user,
        title: String::new(),
        title_source: TitleSource::None,
        pinned: false,
        archived: false,
        settings: contract::chat::ConversationSettings::default(),
        created_at: now,
        updated_at: now,
    };
    tx.conversations().insert(&new).await.unwrap();
    tx.commit().await.unwrap();
    execute_as_owner(&house.test, &format!("DELETE FROM service_account WHERE id = '{}'", house.account)).await;
    for table in ["conversation", "app_user", "api_key"] {
        assert_eq!(house.test.count_as_owner(&format!("SELECT count(*) AS value FROM {table}")).await, 0, "{table}");
    }
}
