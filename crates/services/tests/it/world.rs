//! A product in miniature: database, worker, services, people.

use contract::{
    account::Role,
    chat::{Message, MessageStatus, StartTurn, StartedTurn, TurnEvent},
    ids::{ConversationId, MessageId, TurnId},
};
use domain::{Actor, SystemClock};
use futures::StreamExt;
use identity::{Identity, IdentityConfig};
use inference::Inference;
use services::Services;
use std::{future::Future, sync::Arc, time::Duration};
use testkit::{FakeWorker, TestDb, TestTenant, fake_worker};
use tokio::time::{Instant, sleep, timeout};

/// Nothing in these tests takes longer, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct World {
    pub worker: FakeWorker,
    pub inference: Inference,
    pub identity: Identity,
    pub services: Services,
    pub tenant: TestTenant,
    pub actor: Actor,
    // Last, so that what uses it goes first.
    pub db: TestDb,
}

impl World {
    pub async fn new() -> Self {
        let db = TestDb::new().await;
        let worker = FakeWorker::start().await;
        let inference = fake_worker::inference(&db, &worker);
        let identity = Identity::new(db.db.clone(), Arc::new(SystemClock), IdentityConfig::default());
        let services = Services::new(db.db.clone(), inference.clone(), identity.clone(), Arc::new(SystemClock));
        let tenant = testkit::tenant(&db, "a").await;
        let actor = testkit::user(&db, &tenant, &[Role::User]).await;
        Self { worker, inference, identity, services, tenant, actor, db }
    }

    /// Another process over the same database.
    pub fn another_node(&self) -> Services {
        Services::new(self.db.db.clone(), self.inference.clone(), self.identity.clone(), Arc::new(SystemClock))
    }

    /// Asks in a new conversation.
    pub async fn ask(&self, content: &str) -> StartedTurn {
        self.services.turns.start(&self.actor, question(None, None, content)).await.expect("a turn")
    }

    /// Asks below an answer.
    pub async fn ask_below(&self, conversation: ConversationId, parent: Option<MessageId>, content: &str) -> StartedTurn {
        self.services.turns.start(&self.actor, question(Some(conversation), parent, content)).await.expect("a turn")
    }

    /// All events of a turn, up to its end.
    pub async fn follow(&self, turn: TurnId) -> Vec<(i32, TurnEvent)> {
        follow(&self.services, &self.actor, turn, 0).await
    }

    /// Asks and waits for the end; the stored answer.
    pub async fn ask_and_wait(&self, content: &str) -> (StartedTurn, Message) {
        let started = self.ask(content).await;
        let answer = self.wait(&started).await;
        (started, answer)
    }

    /// Waits for a turn's end; the stored answer.
    pub async fn wait(&self, started: &StartedTurn) -> Message {
        self.follow(started.turn).await;
        self.message(started.conversation, started.answer.id).await
    }

    /// A message of the path in view.
    pub async fn message(&self, conversation: ConversationId, id: MessageId) -> Message {
        let view = self.services.chats.view(&self.actor, conversation).await.expect("the conversation");
        view.messages.messages.into_iter().find(|message| message.id == id).expect("the message is in view")
    }

    /// Rows of any table in which a text occurs, in whatever column.
    pub async fn rows_with(&self, text: &str) -> i64 {
        let finder = "CREATE OR REPLACE FUNCTION rows_with(needle text) RETURNS bigint LANGUAGE plpgsql AS $$
            DECLARE t record; n bigint; total bigint := 0;
            BEGIN
              FOR t IN SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE' LOOP
                EXECUTE format('SELECT count(*) FROM %I x WHERE x::text ILIKE %L', t.table_name, '%' || needle || '%') INTO n;
                total := total + n;
              END LOOP;
              RETURN total;
            END $$";
        testkit::ledger::execute_as_owner(&self.db, finder).await;
        self.db.count_as_owner(&format!("SELECT rows_with('{text}') AS value")).await
    }
}

/// All events of a turn after number `after`, up to its end.
pub async fn follow(services: &Services, actor: &Actor, turn: TurnId, after: i32) -> Vec<(i32, TurnEvent)> {
    let events = services.turns.events(actor, turn, after).await.expect("the turn");
    timeout(PATIENCE, events.collect()).await.expect("the turn ends in time")
}

pub fn question(conversation: Option<ConversationId>, parent: Option<MessageId>, content: &str) -> StartTurn {
    StartTurn { conversation, parent, content: content.into(), attachments: Vec::new(), settings: None }
}

/// The text that events build up.
pub fn text(events: &[(i32, TurnEvent)]) -> String {
    apply(String::new(), events)
}

/// Applies events to a text as a browser does.
pub fn apply(mut text: String, events: &[(i32, TurnEvent)]) -> String {
    for (_, event) in events {
        if let TurnEvent::Text { at, text: piece } = event {
            text.truncate(usize::try_from(*at).expect("small"));
            text.push_str(piece);
        }
    }
    text
}

/// Status and error code of the last event.
pub fn end(events: &[(i32, TurnEvent)]) -> (MessageStatus, Option<String>) {
    match events.last() {
        Some((_, TurnEvent::End { status, error, .. })) => (*status, error.clone()),
        other => panic!("the last event is no end: {other:?}"),
    }
}

/// Waits until something is true.
pub async fn until<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
