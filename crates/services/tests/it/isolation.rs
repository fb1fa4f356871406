//! Nobody gets at anybody else's: every method that takes an id, for a colleague and for somebody of another tenant;
//! every method at all, for somebody without the right.

use crate::world::{World, question};
use contract::{
    account::{Language, Profile, Role},
    chat::{ConversationChange, NewAttachment, PromptFilter, StartTemporaryTurn, StartTurn},
    ids::{AttachmentId, ConversationId, MessageId, SessionId, TurnId},
    problem::ProblemKind,
    usage::UsageRange,
};
use domain::{Actor, Result, secret::Secret};
use services::{ListConversations, Services};
use uuid::Uuid;

/// Ids of somebody's things.
#[derive(Clone, Copy)]
struct Things {
    conversation: ConversationId,
    question: MessageId,
    answer: MessageId,
    attachment: AttachmentId,
    turn: TurnId,
    session: SessionId,
}

async fn things(world: &World) -> Things {
    let attachments = vec![NewAttachment { name: "secret.txt".into(), content: "secret".into() }];
    let input = StartTurn { attachments, ..question(None, None, "A secret question") };
    let started = world.services.turns.start(&world.actor, input).await.expect("a turn");
    world.wait(&started).await;
    Things {
        conversation: started.conversation,
        question: started.question.id,
        answer: started.answer.id,
        attachment: started.question.attachments[0].id,
        turn: started.turn,
        session: world.actor.session().expect("a session"),
    }
}

/// Every method that takes an id, with its outcome.
async fn by_id(services: &Services, actor: &Actor, of: Things) -> Vec<(&'static str, Result<()>)> {
    let s = services;
    let asks = |conversation, parent| question(Some(conversation), parent, "Mine?");
    vec![
        ("view", s.chats.view(actor, of.conversation).await.map(drop)),
        ("earlier", s.chats.earlier(actor, of.conversation, of.answer).await.map(drop)),
        ("around", s.chats.around(actor, of.conversation, of.answer).await.map(drop)),
        (
            "change",
            s.chats.change(actor, of.conversation, ConversationChange { title: Some("Mine".into()), ..Default::default() }).await.map(drop),
        ),
        ("restore", s.chats.restore(actor, of.conversation).await),
        ("select_branch", s.chats.select_branch(actor, of.question).await.map(drop)),
        ("rate", s.chats.rate(actor, of.answer, None).await),
        ("attachment", s.chats.attachment(actor, of.attachment).await.map(drop)),
        ("start", s.turns.start(actor, asks(of.conversation, None)).await.map(drop)),
        ("start below", s.turns.start(actor, asks(of.conversation, Some(of.answer))).await.map(drop)),
        ("regenerate", s.turns.regenerate(actor, of.answer).await.map(drop)),
        ("resume", s.turns.resume(actor, of.answer).await.map(drop)),
        ("stop", s.turns.stop(actor, of.turn).await),
        ("events", s.turns.events(actor, of.turn, 0).await.map(drop)),
        ("revoke_session", s.account.revoke_session(actor, of.session).await),
        ("conversation_markdown", s.transfer.conversation_markdown(actor, of.conversation, Language::En).await.map(drop)),
        ("conversation_json", s.transfer.conversation_json(actor, of.conversation).await.map(drop)),
        ("delete", s.chats.delete(actor, of.conversation).await),
    ]
}

#[tokio::test]
async fn somebody_elses_things_do_not_exist() {
    let world = World::new().await;
    let of = things(&world).await;
    let other_tenant = testkit::tenant(&world.db, "b").await;
    let colleague = testkit::user(&world.db, &world.tenant, &[Role::User]).await;
    let stranger = testkit::user(&world.db, &other_tenant, &[Role::User, Role::ServiceAdmin, Role::SystemAdmin]).await;
    let nothing = Things {
        conversation: Uuid::now_v7().into(),
        question: Uuid::now_v7().into(),
        answer: Uuid::now_v7().into(),
        attachment: Uuid::now_v7().into(),
        turn: Uuid::now_v7().into(),
        session: Uuid::now_v7().into(),
    };
    for actor in [&colleague, &stranger] {
        let foreign = by_id(&world.services, actor, of).await;
        let missing = by_id(&world.services, actor, nothing).await;
        for ((method, outcome), (_, of_nothing)) in foreign.into_iter().zip(missing) {
            let (error, of_nothing) = (outcome.expect_err(method), of_nothing.expect_err(method));
            assert_eq!(
                error.kind(),
                ProblemKind::NotFound,
                "If you are here because this failed: {method} gives away somebody else's. {error:?}"
            );
            assert_eq!(error.problem(), of_nothing.problem(), "{method}: what is somebody else's differs from what does not exist");
        }
        assert!(world.services.chats.list(actor, ListConversations::default()).await.expect("list").items.is_empty());
        assert!(world.services.chats.search(actor, "secret".into(), None).await.expect("search").items.is_empty());
        assert!(world.services.prompts.list(actor, PromptFilter::default(), None).await.expect("prompts").items.is_empty());
        let of_conversation = PromptFilter { conversation: Some(of.conversation), ..PromptFilter::default() };
        assert!(world.services.prompts.list(actor, of_conversation, None).await.expect("prompts").items.is_empty());
        let range = UsageRange { from: "2026-01-01".into(), to: "2027-12-31".into() };
        assert!(world.services.usage.report(actor, range).await.expect("report").rows.is_empty());
        assert_eq!(world.services.account.sessions(actor).await.expect("sessions").len(), 1);
        assert_ne!(Some(world.services.account.me(actor).await.expect("me").user), world.actor.user().ok());
    }
    // And the owner's are still as they were.
    let view = world.services.chats.view(&world.actor, of.conversation).await.expect("still there");
    assert_eq!((view.messages.messages.len(), view.conversation.title.as_str() == "Mine"), (2, false));
}

/// Every method, with its outcome.
async fn all(services: &Services, actor: &Actor, of: Things) -> Vec<(&'static str, Result<()>)> {
    let s = services;
    let range = || UsageRange { from: "2026-01-01".into(), to: "2026-12-31".into() };
    let secret = || Secret::new("x");
    let mut outcomes = by_id(services, actor, of).await;
    outcomes.extend([
        ("list", s.chats.list(actor, ListConversations::default()).await.map(drop)),
        ("search", s.chats.search(actor, "x".into(), None).await.map(drop)),
        ("ask", s.turns.start(actor, question(None, None, "x")).await.map(drop)),
        (
            "start_temporary",
            s.turns.start_temporary(actor, StartTemporaryTurn { messages: Vec::new(), settings: Default::default() }).await.map(drop),
        ),
        ("prompts", s.prompts.list(actor, PromptFilter::default(), None).await.map(drop)),
        ("report", s.usage.report(actor, range()).await.map(drop)),
        ("csv", s.usage.csv(actor, range()).await.map(drop)),
        ("me", s.account.me(actor).await.map(drop)),
        ("change_profile", s.account.change_profile(actor, Profile::default()).await.map(drop)),
        ("change_password", s.account.change_password(actor, secret(), secret()).await),
        ("sessions", s.account.sessions(actor).await.map(drop)),
        ("revoke_other_sessions", s.account.revoke_other_sessions(actor).await),
        ("delete account", s.account.delete(actor, secret()).await),
        ("everything_zip", s.transfer.everything_zip(actor, Language::En).await.map(drop)),
        ("import", s.transfer.import(actor, "{}".into()).await.map(drop)),
        ("seed_long_chat", s.transfer.seed_long_chat(actor, 2, 2).await.map(drop)),
        ("models", s.models.list(actor).await.map(drop)),
    ]);
    outcomes
}

#[tokio::test]
async fn without_the_right_nothing_works() {
    let world = World::new().await;
    let of = things(&world).await;
    let nobody = testkit::user(&world.db, &world.tenant, &[]).await;
    for (method, outcome) in all(&world.services, &nobody, of).await {
        let error = outcome.expect_err(method);
        assert_eq!(
            error.kind(),
            ProblemKind::Forbidden,
            "If you are here because this failed: {method} does not ask for the right first. {error:?}"
        );
    }
    let admin = testkit::user(&world.db, &world.tenant, &[Role::SystemAdmin]).await;
    assert_eq!(world.services.chats.view(&admin, of.conversation).await.expect_err("no chat").kind(), ProblemKind::Forbidden);
}
