//! Keys of upstreams from whoever sets them to whoever asks with them, and a master key that changes meanwhile.

use domain::{Error, secret::Secret};
use identity::sealing::{KeyKeeper, MasterKeys};
use inference::Pool;
use services::{
    UpstreamCredentials,
    upstream_credentials::{Checked, Successor},
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use testkit::{
    TestDb, eventually,
    fake_upstream::FakeUpstream,
    fake_worker::{FAKE_MODEL, quick_pool},
    ledger::execute_as_owner,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A change is in force after two seconds; the third one is for a busy machine.
const SOON: u64 = 3;

/// Master keys in memory, as a node finds them in its file.
#[derive(Default)]
struct Memory {
    text: Mutex<Option<Secret>>,
    /// All that was ever written.
    written: Mutex<Vec<MasterKeys>>,
    full: Mutex<bool>,
}

impl Memory {
    fn keys(&self) -> Option<MasterKeys> {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.as_ref().map(|text| MasterKeys::parse(text.reveal()).expect("keys"))
    }

    fn put(&self, keys: Option<&MasterKeys>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = keys.map(MasterKeys::text);
    }

    fn fill(&self) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn written(&self) -> Vec<String> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|keys| format!("{keys:?}")).collect()
    }
}

impl KeyKeeper for Memory {
    fn read(&self) -> io::Result<Option<MasterKeys>> {
        Ok(self.keys())
    }

    fn write(&self, keys: &MasterKeys) -> io::Result<()> {
        if *self.full.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(io::Error::other("the disk is full"));
        }
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(keys.clone());
        self.put(Some(keys));
        Ok(())
    }
}

/// A node with one upstream, *vllm*.
struct Node {
    upstream: FakeUpstream,
    pool: Pool,
    keeper: Arc<Memory>,
    credentials: UpstreamCredentials,
}

impl Node {
    async fn start(db: &TestDb, keeper: &Arc<Memory>) -> Self {
        let (upstream, pool) = (FakeUpstream::start().await, quick_pool());
        pool.add_upstream(upstream.config("vllm", FAKE_MODEL)).expect("a client");
        let credentials = UpstreamCredentials::new(db.db.clone(), pool.clone(), keeper.clone());
        Self { upstream, pool, keeper: keeper.clone(), credentials }
    }

    async fn set(&self, key: &str) {
        self.credentials.set("test", "vllm", &Secret::new(key)).await.expect("kept");
    }

    async fn is_polled_with(&self, key: &str, seconds: u64) {
        let wanted = format!("Bearer {key}");
        eventually(&format!("it is polled with {key}"), seconds, || async { self.upstream.polled_with().last() == Some(&wanted) }).await;
    }

    async fn faults(&self) -> Vec<Option<String>> {
        self.credentials.check().await.expect("checked").into_iter().map(|checked| checked.fault).collect()
    }
}

#[tokio::test]
async fn a_key_is_in_force_on_every_node_within_two_seconds_and_the_configured_one_after_it() {
    let db = TestDb::new().await;
    let keeper = Arc::new(Memory::default());
    let (first, second) = (Node::start(&db, &keeper).await, Node::start(&db, &keeper).await);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    for node in [&first, &second] {
        let (credentials, stop) = (node.credentials.clone(), stop.clone());
        tasks.spawn(async move { credentials.tend(stop).await });
    }
    tasks.close();
    second.is_polled_with("sk-upstream", SOON).await;
    first.set("sk-kept").await;
    tokio::join!(first.is_polled_with("sk-kept", SOON), second.is_polled_with("sk-kept", SOON));
    second.set("sk-other").await;
    tokio::join!(first.is_polled_with("sk-other", SOON), second.is_polled_with("sk-other", SOON));
    first.credentials.remove("test", "vllm").await.expect("removed");
    tokio::join!(first.is_polled_with("sk-upstream", SOON), second.is_polled_with("sk-upstream", SOON));
    assert!(matches!(first.credentials.remove("test", "vllm").await, Err(Error::NotFound { .. })));
    stop.cancel();
    tasks.wait().await;
}

#[tokio::test]
async fn no_key_is_readable_in_the_database_and_each_change_is_audited() {
    let db = TestDb::new().await;
    let node = Node::start(&db, &Arc::default()).await;
    node.set("sk-kept-secret").await;
    let readable = "SELECT count(*) AS value FROM upstream_credentials c
                    WHERE c::text LIKE '%sk-kept%' OR position('sk-kept'::bytea IN c.sealed) > 0";
    assert_eq!(db.count_as_owner(readable).await, 0);
    node.credentials.rotate("test", Successor::New).await.expect("rotated");
    node.credentials.remove("test", "vllm").await.expect("removed");
    for action in ["upstream_key.set", "master_key.rotated", "upstream_key.removed"] {
        let rows = format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}' AND actor = 'test'");
        assert_eq!(db.count_as_owner(&rows).await, 1, "{action}");
    }
    let told = "SELECT count(*) AS value FROM audit_event a WHERE a::text LIKE '%sk-kept%'";
    assert_eq!(db.count_as_owner(told).await, 0, "If you are here because this failed: the audit trail gives keys away.");
}

#[tokio::test]
async fn what_cannot_be_opened_takes_the_upstream_out_of_service_until_it_can() {
    let db = TestDb::new().await;
    let keeper = Arc::new(Memory::default());
    let node = Node::start(&db, &keeper).await;
    node.set("sk-kept").await;
    let right = keeper.keys().expect("made with the first key");
    keeper.put(Some(&MasterKeys::random()));
    node.credentials.apply().await.expect("applied");
    let state = node.pool.describe();
    assert!(state.contains("vllm: its key cannot be opened") && state.contains(right.id()), "{state}");
    let faults = node.faults().await;
    assert!(faults.len() == 1 && faults[0].as_ref().is_some_and(|fault| fault.contains(right.id())), "{faults:?}");

    keeper.put(None);
    node.credentials.apply().await.expect("applied");
    assert!(node.pool.describe().contains("there is no master key on this node"), "{}", node.pool.describe());
    let refused = node.credentials.set("test", "other", &Secret::new("sk-other")).await;
    assert!(
        matches!(refused, Err(Error::Conflict { code: "master_key_missing", .. })),
        "If you are here because this failed: a lost master key is replaced as if nothing had been sealed with it. {refused:?}"
    );

    // Nothing changes in the database when the file comes back.
    keeper.put(Some(&right));
    node.credentials.apply().await.expect("applied");
    node.is_polled_with("sk-kept", SOON).await;
    assert_eq!(node.faults().await, [None::<String>]);
}

#[tokio::test]
async fn nothing_is_sealed_with_a_master_key_that_opens_nothing_else() {
    let db = TestDb::new().await;
    let keeper = Arc::new(Memory::default());
    let node = Node::start(&db, &keeper).await;
    node.set("sk-kept").await;
    let right = keeper.keys().expect("made with the first key");
    let wrong = MasterKeys::random();
    keeper.put(Some(&wrong));
    let refused = node.credentials.set("test", "other", &Secret::new("sk-other")).await.expect_err("another master key");
    assert!(matches!(refused, Error::Conflict { code: "upstream_key_unopened", .. }), "{refused:?}");
    let said = refused.problem().message;
    assert!(said.contains("vllm") && said.contains(wrong.id()) && said.contains("remove-upstream-key"), "{said}");
    assert_eq!(
        node.credentials.list("test").await.expect("listed").len(),
        1,
        "If you are here because this failed: no node has a file that opens all keys."
    );
    // The only one that there is may be set anew.
    assert_eq!(node.credentials.set("test", "vllm", &Secret::new("sk-kept")).await.expect("kept"), wrong.id());
    keeper.put(Some(&right));
    node.credentials.remove("test", "vllm").await.expect("removed");
    assert_eq!(node.credentials.set("test", "other", &Secret::new("sk-other")).await.expect("kept"), right.id());
}

#[tokio::test]
async fn a_row_that_was_moved_or_changed_is_not_used() {
    let db = TestDb::new().await;
    let node = Node::start(&db, &Arc::default()).await;
    node.credentials.set("test", "other", &Secret::new("sk-other")).await.expect("kept");
    execute_as_owner(&db, "UPDATE upstream_credentials SET upstream = 'vllm'").await;
    node.credentials.apply().await.expect("applied");
    assert!(
        node.pool.describe().contains("it is not what was sealed under this name"),
        "If you are here because this failed: one upstream is shown the key of another one. {}",
        node.pool.describe()
    );
    let moved = Checked { upstream: "vllm".into(), fault: Some("it is not what was sealed under this name".into()) };
    assert_eq!(node.credentials.check().await.expect("checked"), [moved]);

    node.set("sk-kept").await;
    node.credentials.apply().await.expect("applied");
    node.is_polled_with("sk-kept", SOON).await;
    let flipped = "UPDATE upstream_credentials SET sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)";
    execute_as_owner(&db, flipped).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.credentials.apply().await.expect("applied");
    assert!(node.pool.describe().contains("its key cannot be opened"), "{}", node.pool.describe());
}

#[tokio::test]
async fn a_new_master_key_seals_everything_anew_and_the_old_one_is_gone() {
    let db = TestDb::new().await;
    let keeper = Arc::new(Memory::default());
    let node = Node::start(&db, &keeper).await;
    node.set("sk-kept").await;
    node.credentials.set("test", "other", &Secret::new("sk-other")).await.expect("kept");
    let old = keeper.keys().expect("made");
    let rotated = node.credentials.rotate("test", Successor::New).await.expect("rotated");
    assert_eq!((rotated.resealed, rotated.key_id == old.id()), (2, false));
    let rows = node.credentials.list("test").await.expect("listed");
    assert!(rows.iter().all(|row| row.key_id == rotated.key_id), "{rows:?}");
    let new = &rotated.key_id;
    assert_eq!(
        keeper.written(),
        [format!("{old:?}"), format!("[{new:?}, {:?}]", old.id()), format!("[{new:?}]")],
        "If you are here because this failed: after a crash in between, keys cannot be opened any more."
    );
    node.credentials.apply().await.expect("applied");
    node.is_polled_with("sk-kept", SOON).await;
}

#[tokio::test]
async fn a_rotation_that_breaks_off_loses_nothing_and_is_done_again() {
    let db = TestDb::new().await;
    let keeper = Arc::new(Memory::default());
    let node = Node::start(&db, &keeper).await;
    node.set("sk-kept").await;
    let old = keeper.keys().expect("made");

    // The new key cannot be kept.
    keeper.fill();
    node.credentials.rotate("test", Successor::New).await.expect_err("the disk is full");
    assert_eq!(node.faults().await, [None::<String>]);
    *keeper.full.lock().unwrap_or_else(PoisonError::into_inner) = false;

    // It was kept, and then the process was killed: before anything was sealed with it, or after everything was.
    keeper.put(Some(&old.renewed()));
    assert_eq!(node.faults().await, [None::<String>]);
    let again = node.credentials.rotate("test", Successor::New).await.expect("done again");
    assert_eq!(keeper.keys().map(|keys| format!("{keys:?}")), Some(format!("[{:?}]", again.key_id)));
    assert_eq!(node.faults().await, [None::<String>]);

    // One that cannot be opened keeps all as they are.
    let before = node.credentials.list("test").await.expect("listed");
    execute_as_owner(&db, "INSERT INTO upstream_credentials (upstream, sealed, key_id, changed_by) VALUES ('lost', '', 'gone', '')").await;
    let refused = node.credentials.rotate("test", Successor::New).await;
    assert!(matches!(refused, Err(Error::Conflict { code: "upstream_key_unopened", .. })), "{refused:?}");
    let after = node.credentials.list("test").await.expect("listed");
    assert_eq!(after.iter().find(|row| row.upstream == "vllm"), before.first());
}

#[tokio::test]
async fn a_key_that_somebody_put_first_is_taken_without_writing() {
    let db = TestDb::new().await;
    let node = Node::start(&db, &Arc::default()).await;
    node.set("sk-kept").await;
    let both = node.keeper.keys().expect("made").renewed();
    node.keeper.put(Some(&both));
    node.keeper.fill();
    let rotated = node.credentials.rotate("test", Successor::First).await.expect("sealed anew");
    assert_eq!((rotated.key_id.as_str(), rotated.resealed), (both.id(), 1));
    node.keeper.put(Some(&both.keeping(|_| false)));
    assert_eq!(node.faults().await, [None::<String>]);
}

#[tokio::test]
async fn a_rotation_while_keys_are_set_leaves_none_that_cannot_be_opened() {
    let db = TestDb::with_connections(16).await;
    let keeper = Arc::new(Memory::default());
    let (first, second) = (Node::start(&db, &keeper).await, Node::start(&db, &keeper).await);
    first.set("sk-0").await;
    let setting = async {
        for n in 1..10 {
            first.set(&format!("sk-{n}")).await;
        }
    };
    let rotating = async {
        for _ in 0..5 {
            second.credentials.rotate("test", Successor::New).await.expect("rotated");
        }
    };
    tokio::join!(setting, rotating);
    assert_eq!(
        first.faults().await,
        [None::<String>],
        "If you are here because this failed: a master key is removed that is still needed."
    );
    first.credentials.apply().await.expect("applied");
    first.is_polled_with("sk-9", SOON).await;
}
