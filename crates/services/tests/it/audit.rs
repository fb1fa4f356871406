//! The audit trail is a chain: whatever is changed behind its back is found.

use crate::world::World;
use services::audit::{Fault, Form, Line, Proof};
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
async fn what_was_refused_is_in_the_chain() {
    let world = World::new().await;
    act(&world, 1).await;
    let before = whole(&world).await;
    for _ in 0..1000 {
        world.db.db.refusals().of(&world.actor, "budget", "small");
        world.db.db.refusals().of_unknown("unknown_key", world.actor.request());
    }
    world.db.db.write_refusals().await.expect("written");
    assert_eq!(whole(&world).await.number, before.number + 2);
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

async fn lines(world: &World, after: u64, since: i64, form: Form) -> Vec<Line> {
    let end = world.services.audit.newest("test").await.expect("sealed");
    let (mut all, mut last) = (Vec::new(), after);
    while last < end {
        let page = world.services.audit.lines("test", last, since, form).await.expect("lines").expect("more");
        all.extend(page.lines);
        last = page.last;
    }
    assert_eq!(world.services.audit.lines("test", last, since, form).await.expect("lines"), None);
    all
}

#[tokio::test]
async fn lines_tell_every_event_with_its_seal() {
    let world = World::new().await;
    act(&world, 3).await;
    let head = whole(&world).await;
    let all = lines(&world, 0, 0, Form::Json).await;
    assert_eq!(all.len() as u64, head.number);
    let last: serde_json::Value = serde_json::from_str(&all.last().expect("a line").text).expect("JSON");
    assert_eq!((last["action"].as_str(), last["detail"]["number"].as_u64()), (Some("test.acted"), Some(2)));
    assert_eq!(last["hash"].as_str().expect("a hash").len(), 64);
    assert!(lines(&world, 0, i64::MAX, Form::Json).await.is_empty());
    let rest = lines(&world, head.number - 2, 0, Form::Json).await;
    assert_eq!(rest, all[all.len() - 2..], "an export goes on where another ended");
}

#[tokio::test]
async fn an_event_is_one_message_of_syslog() {
    let world = World::new().await;
    let tx = world.db.db.begin_system("test", Reason::SignIn).await.expect("a transaction");
    let event = AuditEvent::new("Kim \"]", "test.acted").target("two\nlines").detail("number", 7);
    tx.audit(&event, Some(world.actor.tenant())).await.expect("added");
    tx.commit().await.expect("committed");
    let all = lines(&world, 0, 0, Form::Syslog { enterprise: 32473 }).await;
    let Line { number, text } = all.last().expect("a line");
    assert!(text.starts_with("<109>1 20") && text.contains("Z - kontor - test.acted [audit@32473 number=\""), "{text}");
    let fields = [
        format!(" number=\"{number}\""),
        format!(" tenant=\"{}\"", world.actor.tenant()),
        r#" actor="Kim \"\]""#.to_owned(),
        r#" target="two lines""#.to_owned(),
        r#" detail="{\"number\":7}""#.to_owned(),
    ];
    assert!(fields.iter().all(|field| text.contains(field.as_str())), "{text}");
    assert!(!text.contains('\n') && text.ends_with(&format!("] test.acted, event {number}")), "{text}");
}
