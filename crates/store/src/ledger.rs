//! Writes the ledger: events of any tenants, opened and settled together.

use crate::{
    chat_sql::{instant, int},
    db::Db,
    error::{is_misplaced, is_rejection, map},
    ledger_sql::{Inserted, New, Written, insert, update},
    usage::{NewUsage, Settlement},
};
use contract::{Millis, ids::UsageId};
use domain::{Amount, Error, Result};
use sea_orm::{DbErr, FromQueryResult};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet, hash_map};
use time::{OffsetDateTime, serde::rfc3339};
use uuid::Uuid;

/// Days in one call that no partition was made for so far are few.
const MISPLACED_TRIES: u32 = 3;

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settling {
    Done,
    /// It was settled before, by another way out.
    Before,
    /// There is no such event.
    Missing,
    /// Somebody holds the row. Try again.
    Busy,
}

/// Why not all was written.
#[derive(Debug)]
pub enum WriteError {
    /// An entry is at fault, and no repetition helps.
    Rejected(Error),
    /// The database does not take anything now.
    Failed(Error),
}

/// What was written.
#[derive(Debug, Default)]
pub struct Wrote {
    /// Of each event that was to be settled what became of it; without those that [`Wrote::failed`] is about.
    pub told: HashMap<UsageId, Settling>,
    /// All is open that was to be opened, but the events that are not told of are not settled: why.
    pub failed: Option<WriteError>,
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected(error) | WriteError::Failed(error) => error,
        }
    }
}

/// Something to be written. As JSON it keeps its meaning until another process, maybe of another version, writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    id: UsageId,
    /// When the event was opened: the day that it is in.
    opened_at: Millis,
    /// The event's row, or what of it changes.
    #[serde(flatten)]
    row: Row,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row {
    Open(Box<Opening>),
    Settle(Ending),
}

/// What the row of an open event has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub tenant_id: Uuid,
    pub id: Uuid,
    pub user_id: Option<Uuid>,
    pub model: String,
    pub purpose: String,
    pub reserved_tokens: i32,
    pub request_id: Uuid,
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    pub account_id: Option<Uuid>,
    pub key_id: Option<Uuid>,
    pub team: String,
    pub cost_center: String,
    pub currency: Option<String>,
    /// A decimal number as text: a number of JSON may lose digits on its way.
    pub reserved_cost: String,
    pub node_id: Uuid,
}

/// What of the row changes with the end of the event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub tenant_id: Uuid,
    pub id: Uuid,
    #[serde(with = "rfc3339")]
    pub opened_at: OffsetDateTime,
    pub outcome: String,
    pub prompt_tokens: i32,
    pub cached_tokens: i32,
    pub completion_tokens: i32,
    pub ttft_ms: Option<i32>,
    pub duration_ms: Option<i32>,
    #[serde(with = "rfc3339")]
    pub settled_at: OffsetDateTime,
    pub model: Option<String>,
    /// As [`Opening::reserved_cost`].
    pub cost: String,
}

impl Entry {
    /// # Errors
    /// A time that the database has no room for.
    pub fn open(new: &NewUsage) -> Result<Self> {
        let row = Opening {
            tenant_id: new.tenant.0,
            id: new.id.0,
            user_id: new.user.map(|user| user.0),
            model: new.model.clone(),
            purpose: new.purpose.name().to_owned(),
            reserved_tokens: int(new.reserved_tokens),
            request_id: new.request.0,
            created_at: moment(new.created_at)?,
            account_id: new.program.map(|(account, _)| account.0),
            key_id: new.program.map(|(_, key)| key.0),
            team: new.team.clone(),
            cost_center: new.cost_center.clone(),
            currency: new.reserved.as_ref().map(|(currency, _)| currency.code().to_owned()),
            reserved_cost: new.reserved.map_or(Amount::ZERO, |(_, amount)| amount).decimal().to_string(),
            node_id: new.node.0,
        };
        Ok(Self { id: new.id, opened_at: new.created_at, row: Row::Open(Box::new(row)) })
    }

    /// # Errors
    /// As [`Entry::open`].
    pub fn settle(with: &Settlement) -> Result<Self> {
        let row = Ending {
            tenant_id: with.tenant.0,
            id: with.id.0,
            opened_at: moment(with.opened_at)?,
            outcome: with.outcome.name().to_owned(),
            prompt_tokens: int(with.prompt_tokens),
            cached_tokens: int(with.cached_tokens.min(with.prompt_tokens)),
            completion_tokens: int(with.completion_tokens),
            ttft_ms: with.ttft_ms.map(int),
            duration_ms: with.duration_ms.map(int),
            settled_at: moment(with.at)?,
            model: with.model.clone(),
            cost: with.cost.decimal().to_string(),
        };
        Ok(Self { id: with.id, opened_at: with.opened_at, row: Row::Settle(row) })
    }

    /// The event.
    #[must_use]
    pub fn id(&self) -> UsageId {
        self.id
    }

    /// It opens the event.
    #[must_use]
    pub fn opens(&self) -> bool {
        matches!(self.row, Row::Open(_))
    }

    /// What the ledger finds the event by.
    fn key(&self) -> (Uuid, UsageId, Millis) {
        let tenant = match &self.row {
            Row::Open(row) => row.tenant_id,
            Row::Settle(row) => row.tenant_id,
        };
        (tenant, self.id, self.opened_at)
    }
}

impl Db {
    /// [`Db::write_entries`] of events and their ends.
    ///
    /// # Errors
    /// As for any statement; then events may be open that were to be opened.
    pub async fn write_ledger(&self, open: &[&NewUsage], settle: &[&Settlement]) -> Result<HashMap<UsageId, Settling>> {
        let opened = open.iter().map(|new| Entry::open(new));
        let entries = opened.chain(settle.iter().map(|with| Entry::settle(with))).collect::<Result<Vec<Entry>>>()?;
        let wrote = self.write_entries(&entries.iter().collect::<Vec<_>>()).await?;
        wrote.failed.map_or(Ok(wrote.told), |error| Err(error.into()))
    }

    /// Opens events, all of them or none; then settles events, all of them or none, but for those that are held by somebody
    /// else. An event may be opened and settled by the same call. What is open already stays as it is, and what is settled too,
    /// so a call that failed, or whose end was not heard, can be repeated. Tells of each that was to be settled.
    ///
    /// # Errors
    /// See [`WriteError`]. Nothing was opened, and nothing settled.
    pub async fn write_entries(&self, entries: &[&Entry]) -> Result<Wrote, WriteError> {
        let (new, mut left) = paired(entries);
        let (mut told, mut failed) = (HashMap::new(), None);
        if !new.is_empty() {
            let inserted: HashSet<Uuid> = self.open_events(&new).await?.into_iter().map(|row| row.id).collect();
            for (row, end) in new.iter().filter_map(|new| Some((new.row, new.end?))) {
                if inserted.contains(&row.id) {
                    told.insert(UsageId(row.id), Settling::Done);
                } else {
                    left.push(end);
                }
            }
        }
        let opened_at = || left.iter().map(|end| end.opened_at);
        if let Some((first, last)) = opened_at().min().zip(opened_at().max()) {
            let opened: HashSet<Uuid> = new.iter().map(|new| new.row.id).collect();
            match self.settle_events(&left, first, last).await {
                Ok(rows) => {
                    for row in rows {
                        told.entry(UsageId(row.id)).or_insert_with(|| row.settling(opened.contains(&row.id)));
                    }
                }
                Err(error) if new.is_empty() => return Err(error),
                Err(error) => failed = Some(error),
            }
        }
        Ok(Wrote { told, failed })
    }

    async fn open_events(&self, new: &[New<'_>]) -> Result<Vec<Inserted>, WriteError> {
        let mut inserted = Inserted::find_by_statement(insert(new)).all(self.system()).await;
        // Something was on its way into the rest of the ledger while a partition was made for its day: it has a place now.
        for _ in 0..MISPLACED_TRIES {
            if !inserted.as_ref().is_err_and(is_misplaced) {
                break;
            }
            inserted = Inserted::find_by_statement(insert(new)).all(self.system()).await;
        }
        inserted.map_err(not_written)
    }

    async fn settle_events(&self, ends: &[&Ending], first: OffsetDateTime, last: OffsetDateTime) -> Result<Vec<Written>, WriteError> {
        let tx = self.begin_planned_anew().await.map_err(WriteError::Failed)?;
        let written = Written::find_by_statement(update(ends, first, last)).all(&tx).await.map_err(not_written)?;
        tx.commit().await.map_err(not_written)?;
        Ok(written)
    }
}

fn not_written(error: DbErr) -> WriteError {
    if is_rejection(&error) { WriteError::Rejected(map(error)) } else { WriteError::Failed(map(error)) }
}

/// What is to be opened, with its end where that is among the entries, and the other ends.
fn paired<'a>(entries: &[&'a Entry]) -> (Vec<New<'a>>, Vec<&'a Ending>) {
    let (mut new, mut left, mut places) = (Vec::<New<'a>>::new(), Vec::new(), HashMap::<_, usize>::new());
    for entry in entries {
        if let (Row::Open(row), hash_map::Entry::Vacant(place)) = (&entry.row, places.entry(entry.key())) {
            place.insert(new.len());
            new.push(New { row, end: None });
        }
    }
    for entry in entries {
        let Row::Settle(end) = &entry.row else { continue };
        match places.get(&entry.key()) {
            Some(&place) if new[place].end.is_none() => new[place].end = Some(end),
            _ => left.push(end),
        }
    }
    (new, left)
}

/// A time that Postgres has room for, and the journal, too.
fn moment(at: Millis) -> Result<OffsetDateTime> {
    let moment = instant(at)?;
    if (0..=9999).contains(&moment.year()) { Ok(moment) } else { Err(Error::internal(format!("{at} is no time for a use of a model"))) }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Row, moment, paired};
    use serde_json::{Value, json};

    /// As the version before wrote them.
    const OPEN: &str = r#"{"id":"01970000-0000-7000-8000-000000000002","opened_at":1750000000123,"open":{"account_id":"01970000-0000-7000-8000-000000000005","cost_center":"","created_at":"2025-06-15T15:06:40.123Z","currency":"EUR","id":"01970000-0000-7000-8000-000000000002","key_id":"01970000-0000-7000-8000-000000000006","model":"m","node_id":"01970000-0000-7000-8000-000000000004","purpose":"api","request_id":"01970000-0000-7000-8000-000000000003","reserved_cost":"0.000000000123","reserved_tokens":100,"team":"t","tenant_id":"01970000-0000-7000-8000-000000000001","user_id":null}}"#;
    const SETTLE: &str = r#"{"id":"01970000-0000-7000-8000-000000000002","opened_at":1750000000123,"settle":{"cached_tokens":4,"completion_tokens":7,"cost":"0.000000000000","duration_ms":9,"id":"01970000-0000-7000-8000-000000000002","model":null,"opened_at":"2025-06-15T15:06:40.123Z","outcome":"ok","prompt_tokens":10,"settled_at":"2025-06-15T15:06:41Z","tenant_id":"01970000-0000-7000-8000-000000000001","ttft_ms":null}}"#;

    fn read(line: &str) -> Entry {
        serde_json::from_str(line).expect("an entry")
    }

    #[test]
    fn lines_of_a_journal_of_the_version_before_are_read_and_written_as_they_were() {
        for line in [OPEN, SETTLE] {
            let entry = read(line);
            assert_eq!(serde_json::to_value(&entry).expect("JSON"), serde_json::from_str::<Value>(line).expect("JSON"));
        }
        let (open, settle) = (read(OPEN), read(SETTLE));
        assert_eq!((open.opens(), settle.opens()), (true, false));
        assert_eq!(open.key(), settle.key());
        let (Row::Open(row), Row::Settle(end)) = (&open.row, &settle.row) else { panic!("{open:?} {settle:?}") };
        assert_eq!((row.reserved_cost.as_str(), row.user_id, row.reserved_tokens), ("0.000000000123", None, 100));
        assert_eq!((end.prompt_tokens, end.ttft_ms, end.duration_ms), (10, None, Some(9)));
        assert_eq!((row.created_at, end.opened_at), (moment(1_750_000_000_123).expect("a time"), row.created_at));
    }

    #[test]
    fn an_end_goes_with_its_beginning_and_nothing_is_opened_twice() {
        let other_day = read(&SETTLE.replace("1750000000123", "1750000000124"));
        let (open, settle) = (read(OPEN), read(SETTLE));
        let (new, left) = paired(&[&settle, &open, &open, &other_day, &settle]);
        assert_eq!(new.iter().map(|new| new.end.is_some()).collect::<Vec<_>>(), [true]);
        assert_eq!(left.len(), 2, "of another day, and once more");
    }

    #[test]
    fn times_at_the_border_are_kept_and_those_beyond_it_refused() {
        // 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z
        let (first, last): (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);
        for at in [first, 0, last] {
            let line = SETTLE.replace("1750000000123", &at.to_string());
            let mut entry: Value = serde_json::from_str(&line).expect("JSON");
            let time = moment(at).expect("a time").format(&time::format_description::well_known::Rfc3339).expect("a text");
            entry["settle"]["opened_at"] = json!(time);
            let entry: Entry = serde_json::from_value(entry).expect("an entry");
            let Row::Settle(end) = &entry.row else { panic!("{entry:?}") };
            assert_eq!(end.opened_at, moment(at).expect("a time"));
        }
        for at in [first - 1, last + 1, i64::MIN, i64::MAX] {
            assert!(moment(at).is_err(), "{at}");
        }
    }
}
