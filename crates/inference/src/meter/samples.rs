//! A use as tests write it down.

use contract::{
    Millis,
    ids::{NodeId, RequestId, UsageId},
    usage::Purpose,
};
use domain::Amount;
use store::{
    ledger::Entry,
    usage::{NewUsage, Outcome, Settlement},
};
use uuid::Uuid;

const AT: Millis = 1_750_000_000_000;

pub(super) fn beginning(id: UsageId) -> Entry {
    let new = NewUsage {
        tenant: Uuid::nil().into(),
        id,
        user: None,
        program: None,
        team: String::new(),
        cost_center: String::new(),
        model: "m".to_owned(),
        purpose: Purpose::Api,
        reserved_tokens: 1,
        reserved: None,
        node: NodeId(Uuid::nil()),
        request: RequestId(Uuid::nil()),
        created_at: AT,
    };
    Entry::open(&new).expect("an entry")
}

pub(super) fn end(id: UsageId) -> Entry {
    let settlement = Settlement {
        tenant: Uuid::nil().into(),
        id,
        opened_at: AT,
        outcome: Outcome::Ok,
        model: None,
        prompt_tokens: 3,
        cached_tokens: 0,
        completion_tokens: 4,
        cost: Amount::ZERO,
        ttft_ms: None,
        duration_ms: None,
        at: AT,
    };
    Entry::settle(&settlement).expect("an entry")
}
