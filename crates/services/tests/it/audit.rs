//! The audit trail is a chain: whatever is changed behind its back is found.

use crate::world::World;
use services::audit::{Fault, Proof};
use store::{Reason, audit::AuditEvent, audit_chain::Seal};
use testkit::ledger::execute_as_owner;

async fn act(world: &World, times: usize) {
    for number in 0..times {
        let tx = world.db.db.begin_system("test", Reason::SignIn).await.expect("a transaction");
        tx.audit(&AuditEvent::new("test", "test.acted").detail("number", number), Some(world.actor.tenant())).await.expect("added");
        tx.commit().await.expect("committed");
    }
}

async fn whole(world: &World) -> Seal {
    match world.services.audit.prove("test", None).await.expect("proved") {
        Proof::Whole { head: Some(head) } => head,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_chain_grows_and_keeps_what_was_sealed() {
    let world = World::new().await;
    act(&world, 3).await;
    let first = whole(&world).await;
    act(&world, 2).await;
    let second = whole(&world).await;
    assert_eq!(second.number, first.number + 2);
    assert_eq!(world.services.audit.prove("test", Some(first)).await.expect("proved"), Proof::Whole { head: Some(second) });
    let foreign = Seal { hash: [7; 32], ..first };
    assert_eq!(world.services.audit.prove("test", Some(foreign)).await.expect("proved"), Proof::Foreign { number: first.number });
}

#[tokio::test]
async fn what_is_changed_behind_its_back_is_found() {
    let number = |which: &str| format!("SELECT event_id FROM audit_seal WHERE number = (SELECT max(number) FROM audit_seal) - {which}");
    let cases = [
        (format!("UPDATE audit_event SET actor = 'somebody else' WHERE id = ({})", number("1")), Fault::Changed, 1),
        (format!("UPDATE audit_event SET detail = '{{}}' WHERE id = ({})", number("2")), Fault::Changed, 2),
        ("DELETE FROM audit_seal WHERE number = (SELECT max(number) FROM audit_seal) - 1".to_owned(), Fault::Gap, 0),
        (
            "ALTER TABLE audit_seal DROP CONSTRAINT audit_seal_event_id_fkey;
             DELETE FROM audit_event WHERE id = (SELECT event_id FROM audit_seal ORDER BY number DESC LIMIT 1)"
                .to_owned(),
            Fault::Missing,
            0,
        ),
    ];
    for (attack, expected, before_last) in cases {
        let world = World::new().await;
        act(&world, 4).await;
        let head = whole(&world).await;
        execute_as_owner(&world.db, &attack).await;
        let found = world.services.audit.prove("test", None).await.expect("proved");
        assert_eq!(
            found,
            Proof::Broken { number: head.number - before_last, fault: expected },
            "If you are here because this failed: the audit trail can be changed unnoticed by: {attack}"
        );
    }
}

#[tokio::test]
async fn an_old_event_that_was_smuggled_in_is_found() {
    let world = World::new().await;
    act(&world, 2).await;
    whole(&world).await;
    let smuggle = "INSERT INTO audit_event (id, actor, action, at) VALUES (gen_random_uuid(), 'x', 'y', now() - interval '1 day')";
    execute_as_owner(&world.db, smuggle).await;
    assert_eq!(world.services.audit.prove("test", None).await.expect("proved"), Proof::Unsealed { events: 1 });
}

#[tokio::test]
async fn lines_tell_every_event_with_its_seal() {
    let world = World::new().await;
    act(&world, 3).await;
    let head = whole(&world).await;
    let text = world.services.audit.lines("test", 0).await.expect("lines");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len() as u64, head.number);
    let last = lines.last().expect("a line");
    assert_eq!((last["action"].as_str(), last["detail"]["number"].as_u64()), (Some("test.acted"), Some(2)));
    assert_eq!(last["hash"].as_str().expect("a hash").len(), 64);
    assert_eq!(world.services.audit.lines("test", i64::MAX).await.expect("lines"), "");
}
