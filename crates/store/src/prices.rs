//! What models cost, from when on.

use crate::{
    chat_sql::{instant, millis, run, sql},
    db::Db,
    error::map,
    tx::SystemTx,
};
use contract::Millis;
use domain::{Result, money::PriceList};
use rust_decimal::Decimal;
use sea_orm::FromQueryResult;
use time::OffsetDateTime;
use uuid::Uuid;

/// A price of a model, until the next one of the same model begins.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPrice {
    pub model: String,
    /// ISO 4217.
    pub currency: String,
    pub list: PriceList,
    pub valid_from: Millis,
}

impl Db {
    /// All prices, by model, oldest first.
    ///
    /// # Errors
    /// As for any statement.
    pub async fn prices(&self) -> Result<Vec<StoredPrice>> {
        let statement =
            sql("SELECT model, currency, input, cached_input, output, per_request, valid_from FROM price ORDER BY model, valid_from", []);
        let rows = Row::find_by_statement(statement).all(self.system()).await.map_err(map)?;
        Ok(rows.into_iter().map(StoredPrice::from).collect())
    }
}

/// Prices, for whoever administers them.
#[derive(Debug)]
pub struct SystemPrices<'a> {
    tx: &'a SystemTx,
}

impl<'a> SystemPrices<'a> {
    pub(crate) fn new(tx: &'a SystemTx) -> Self {
        Self { tx }
    }

    /// Adds a price. What is there stays: bills refer to it.
    ///
    /// # Errors
    /// [`domain::Error::Conflict`] if the model has one from that instant on; else as for any statement.
    pub async fn add(&self, id: Uuid, price: &StoredPrice) -> Result<()> {
        let statement = sql(
            "INSERT INTO price (id, model, currency, input, cached_input, output, per_request, valid_from)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                id.into(),
                price.model.as_str().into(),
                price.currency.as_str().into(),
                price.list.input.into(),
                price.list.cached_input.into(),
                price.list.output.into(),
                price.list.per_request.into(),
                instant(price.valid_from)?.into(),
            ],
        );
        self.tx.changed(run(self.tx.conn(), statement).await?);
        Ok(())
    }
}

#[derive(FromQueryResult)]
struct Row {
    model: String,
    currency: String,
    input: Decimal,
    cached_input: Decimal,
    output: Decimal,
    per_request: Decimal,
    valid_from: OffsetDateTime,
}

impl From<Row> for StoredPrice {
    fn from(row: Row) -> Self {
        let list = PriceList { input: row.input, cached_input: row.cached_input, output: row.output, per_request: row.per_request };
        Self { model: row.model, currency: row.currency, list, valid_from: millis(row.valid_from) }
    }
}
