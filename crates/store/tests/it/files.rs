//! Files: whose they are, how they come about, when they go.

use contract::ids::{FileId, ServiceAccountId};
use domain::{Actor, Clock, Error, SystemClock};
use store::{
    Reason,
    files::{FileEnd, FilePurpose, NewFile, Slice},
};
use testkit::{TestDb, ledger::execute_as_owner};
use uuid::Uuid;

/// A tenant with a program.
struct House {
    test: TestDb,
    actor: Actor,
}

impl House {
    async fn build() -> Self {
        let test = TestDb::new().await;
        let tenant = testkit::tenant(&test, "a").await;
        let actor = testkit::program(&test, &tenant).await;
        Self { test, actor }
    }

    async fn begin(&self) -> FileId {
        let new = NewFile {
            id: FileId(Uuid::now_v7()),
            account: account(&self.actor),
            filename: "a.jsonl".into(),
            created_at: SystemClock.now(),
            batch: None,
        };
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        tx.files().begin(&new).await.unwrap();
        tx.files().append(new.id, 0, b"one".to_vec()).await.unwrap();
        tx.files().append(new.id, 1, b"two!".to_vec()).await.unwrap();
        tx.commit().await.unwrap();
        new.id
    }

    async fn add(&self, purpose: FilePurpose) -> FileId {
        let id = self.begin().await;
        let tx = self.test.db.begin(&self.actor).await.unwrap();
        tx.files().complete(id, &end(purpose)).await.unwrap();
        tx.commit().await.unwrap();
        id
    }
}

fn end(purpose: FilePurpose) -> FileEnd {
    FileEnd { purpose, sha256: [7; 32], expires_at: Some(SystemClock.now() + 60_000) }
}

fn account(actor: &Actor) -> ServiceAccountId {
    actor.as_program().unwrap().account
}

#[tokio::test]
async fn an_upload_becomes_a_file_at_its_end_and_not_before() {
    let house = House::build().await;
    let id = house.begin().await;
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let whose = account(&house.actor);
    assert!(tx.files().get(whose, id).await.unwrap().is_none());
    assert!(!tx.files().delete(whose, id).await.unwrap());
    assert_eq!(tx.files().total().await.unwrap(), 7, "what is being brought counts, too");
    tx.files().complete(id, &end(FilePurpose::Batch)).await.unwrap();
    let file = tx.files().get(whose, id).await.unwrap().unwrap();
    assert_eq!((file.bytes, file.sha256, file.purpose, file.filename.as_str()), (7, [7; 32], FilePurpose::Batch, "a.jsonl"));
    assert_eq!(tx.files().chunk(id, 1).await.unwrap().as_deref(), Some(b"two!".as_slice()));
    assert_eq!(tx.files().chunk(id, 2).await.unwrap(), None);
    assert!(matches!(tx.files().append(id, 2, vec![1]).await, Err(Error::NotFound { .. })), "a file does not grow");
    tx.files().discard(id).await.unwrap();
    assert!(tx.files().get(whose, id).await.unwrap().is_some(), "only what is no file yet can be discarded");
    assert!(tx.files().delete(whose, id).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM file_chunk").await, 0);
}

#[tokio::test]
async fn a_file_is_its_accounts_alone() {
    let house = House::build().await;
    let id = house.add(FilePurpose::UserData).await;
    let tenant = testkit::TestTenant { id: house.actor.tenant() };
    let colleague = account(&testkit::program(&house.test, &tenant).await);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.files().get(colleague, id).await.unwrap().is_none());
    assert!(!tx.files().delete(colleague, id).await.unwrap());
    let all = Slice { after: None, limit: 10, ascending: false };
    assert!(tx.files().list(colleague, None, all).await.unwrap().is_empty());
}

#[tokio::test]
async fn lists_are_cut_behind_a_file() {
    let house = House::build().await;
    let mut ids = Vec::new();
    for purpose in [FilePurpose::Batch, FilePurpose::UserData, FilePurpose::Batch] {
        ids.push(house.add(purpose).await);
    }
    house.begin().await;
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    let list = async |purpose, after, limit, ascending| {
        let files = tx.files().list(account(&house.actor), purpose, Slice { after, limit, ascending }).await.unwrap();
        files.into_iter().map(|file| file.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 10, false).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(list(None, None, 2, true).await, [ids[0], ids[1]]);
    assert_eq!(list(None, Some(ids[2]), 10, false).await, [ids[1], ids[0]]);
    assert_eq!(list(Some(FilePurpose::Batch), Some(ids[0]), 10, true).await, [ids[2]]);
}

#[tokio::test]
async fn what_is_past_its_time_and_what_never_ended_is_purged() {
    let house = House::build().await;
    let (kept, _unfinished) = (house.add(FilePurpose::Batch).await, house.begin().await);
    let purge = async |now, begun| {
        let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
        let purged = tx.files().purge(now, begun).await.unwrap();
        tx.commit().await.unwrap();
        purged
    };
    let now = SystemClock.now();
    assert_eq!(purge(now, now - 60_000).await, 0);
    assert_eq!(purge(now, now + 60_000).await, 1, "the upload");
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.files().get(account(&house.actor), kept).await.unwrap().is_some());
    drop(tx);
    assert_eq!(purge(now + 120_000, now).await, 1, "the file");
    assert_eq!(house.test.count_as_owner("SELECT count(*) AS value FROM file_chunk").await, 0);
}

#[tokio::test]
async fn a_purge_takes_no_more_than_one_transaction_can() {
    let house = House::build().await;
    let purge = async || {
        let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
        let later = SystemClock.now() + 120_000;
        let purged = tx.files().purge(later, later).await.unwrap();
        tx.commit().await.unwrap();
        purged
    };
    for _ in 0..3 {
        house.add(FilePurpose::Batch).await;
    }
    execute_as_owner(&house.test, "UPDATE file SET bytes = 90 * 1024 * 1024").await;
    assert_eq!((purge().await, purge().await, purge().await), (2, 1, 0));
    house.add(FilePurpose::Batch).await;
    execute_as_owner(&house.test, "UPDATE file SET bytes = 900 * 1024 * 1024").await;
    assert_eq!((purge().await, purge().await), (1, 0), "If you are here because this failed: a large file stays for ever.");
}

#[tokio::test]
async fn the_total_follows_whatever_becomes_of_files() {
    let house = House::build().await;
    let total = async || house.test.db.begin(&house.actor).await.unwrap().files().total().await.unwrap();
    assert_eq!(total().await, 0);
    let (first, _) = (house.add(FilePurpose::Batch).await, house.add(FilePurpose::UserData).await);
    assert_eq!(total().await, 14);
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    tx.files().append(house.begin().await, 2, b"!!!".to_vec()).await.unwrap();
    assert_eq!(tx.files().total().await.unwrap(), 24, "what this transaction brought counts already");
    drop(tx);
    assert_eq!(total().await, 21, "and what was taken back does not");
    let tx = house.test.db.begin(&house.actor).await.unwrap();
    assert!(tx.files().delete(account(&house.actor), first).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(total().await, 14);
    let tx = house.test.db.begin_system("test", Reason::Purge).await.unwrap();
    let later = SystemClock.now() + 120_000;
    assert_eq!(tx.files().purge(later, later).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(total().await, 0, "If you are here because this failed: organisations lose the room of what was purged.");
    house.add(FilePurpose::Batch).await;
    execute_as_owner(&house.test, "DELETE FROM service_account").await;
    assert_eq!(total().await, 0, "an account takes its files along");
}
