use worker_protocol::Priority;

use super::super::ledger::Kind;
use super::super::ledger::tests::Fake;
use super::super::{Demand, ModelState};
use super::*;
use crate::engine::queue::flows::Flow;
use crate::options::ModelOptions;

const ROOM: u64 = 1_000;

fn options() -> Options {
    Options::new("0123456789abcdef0123456789abcdef", ["a", "b", "c"].map(|id| ModelOptions::new("no such file", id)))
}

/// With three models whose files nobody has, into a memory of so many bytes that nobody takes anything of.
fn steward(options: &Options) -> (Steward, Residents) {
    let residents = Residents::new(options);
    let mut steward = Steward::with(options, residents.clone(), Fake::new(Kind::Processor, &[ROOM]).ledger(options.memory));
    steward.wished.clear();
    (steward, residents)
}

fn asked(steward: &mut Steward) -> Option<(usize, String)> {
    match steward.next()? {
        Next::Asked(wish) => Some((wish.place, wish.tenant.to_string())),
        Next::Wished { .. } => None,
    }
}

fn flow(tenant: &str) -> Flow {
    Flow { tenant: tenant.into(), priority: Priority::Interactive }
}

fn told(residents: &Residents, place: usize) -> (ModelState, String) {
    let info = residents.places[place].info();
    (info.state, info.problem.unwrap_or_default())
}

#[test]
fn the_tenant_that_had_the_fewest_loads_comes_first() {
    let (mut steward, residents) = steward(&options());
    assert_eq!(asked(&mut steward), None);
    let _first = Demand::new(&residents.places[2], &flow("many"), 1).unwrap();
    let _second = Demand::new(&residents.places[1], &flow("many"), 1).unwrap();
    let third = Demand::new(&residents.places[0], &flow("few"), 1).unwrap();
    assert_eq!(asked(&mut steward), Some((2, "many".into())), "nobody had any; the oldest");
    steward.shares.charge(&"many".into(), Instant::now());
    assert_eq!(
        asked(&mut steward),
        Some((0, "few".into())),
        "If you are here because this failed: who asks for many models keeps those out who ask for one."
    );
    drop(third);
    assert_eq!(asked(&mut steward), Some((2, "many".into())));
}

#[test]
fn room_that_was_made_for_one_is_not_taken_by_another_as_long_as_it_is_wished_for() {
    let (mut steward, residents) = steward(&options());
    let many = Demand::new(&residents.places[1], &flow("many"), 1).unwrap();
    steward.promised = steward.next().and_then(Next::wish);
    steward.shares.charge(&"many".into(), Instant::now());
    let _few = Demand::new(&residents.places[0], &flow("few"), 1).unwrap();
    assert_eq!(asked(&mut steward), Some((1, "many".into())));
    drop(many);
    assert_eq!(asked(&mut steward), Some((0, "few".into())));
}

#[test]
fn nothing_is_loaded_for_who_made_room_for_somebody_else_who_waits() {
    let two = |id| ModelOptions { queue_limit: 2, ..ModelOptions::new("no such file", id) };
    let (mut steward, residents) = steward(&Options { models: ["a", "b", "c"].map(two).into(), ..options() });
    let wishes = || residents.places[1].wishes(1).iter().map(|wish| wish.tenant.to_string()).collect::<Vec<_>>();
    let first = Demand::new(&residents.places[1], &flow("many"), 1).unwrap();
    let second = Demand::new(&residents.places[1], &flow("many"), 1).unwrap();
    let few = Demand::new(&residents.places[1], &flow("few"), 1).unwrap();
    assert!(second.is_displaced() && !first.is_displaced());
    assert_eq!(wishes(), ["many", "few"], "in the order in which they came");
    drop(second);
    assert_eq!(wishes(), ["many", "few"]);
    drop(first);
    assert_eq!(asked(&mut steward), Some((1, "few".into())));
    drop(few);
    assert_eq!(asked(&mut steward), None);
}

#[test]
fn a_model_waits_for_memory_that_others_have_and_then_is_refused() {
    let (mut steward, residents) = steward(&options());
    residents.places[1].seat.lock().measured = Some(ROOM + 1);
    let _asks = Demand::new(&residents.places[1], &flow("t"), 1).unwrap();
    assert_eq!(steward.act().unwrap(), Some(LOOK));
    let (state, problem) = told(&residents, 1);
    assert!(state == ModelState::Absent && problem.starts_with("it waits for memory"), "{state:?} {problem}");
    steward.shortage = Some((1, Instant::now().checked_sub(SHORTAGE).unwrap()));
    assert_eq!(steward.act().unwrap(), Some(LOOK));
    let (state, problem) = told(&residents, 1);
    assert!(state == ModelState::Failed && problem.contains("others have it"), "{state:?} {problem}");
    assert_eq!(asked(&mut steward), None, "it is not tried again at once");
}

#[test]
fn what_the_operator_does_not_allow_is_refused_at_once() {
    let (mut steward, residents) = steward(&Options { memory: Some(ROOM / 2), ..options() });
    residents.places[1].seat.lock().measured = Some(ROOM);
    let _asks = Demand::new(&residents.places[1], &flow("t"), 1).unwrap();
    assert_eq!(steward.act().unwrap(), Some(LOOK));
    let (state, problem) = told(&residents, 1);
    assert!(state == ModelState::Failed && problem.contains("more than the worker may give it"), "{state:?} {problem}");
}

#[test]
fn a_model_is_not_loaded_while_another_process_loads() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { lock_dir: Some(folder.path().into()), ..options() };
    let (mut steward, residents) = steward(&options);
    let mut other = Turn::new(Some(folder.path()), &steward.ledger.names());
    other.take("x", Instant::now()).unwrap();
    let _asks = Demand::new(&residents.places[1], &flow("t"), 1).unwrap();
    assert_eq!(steward.act().unwrap(), Some(TURN));
    let (state, problem) = told(&residents, 1);
    assert!(state == ModelState::Absent && problem.ends_with("which loads x"), "{state:?} {problem}");
    assert!(steward.lives.is_empty());
}
