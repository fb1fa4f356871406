//! Tenants, people, chats, ledger, audit.

use sea_orm_migration::{prelude::*, sea_orm::ConnectionTrait};

/// The step's text; part of [`crate::fingerprint`].
pub const SQL: &str = include_str!("m0001_ground_floor.sql");

pub struct Migration;

// Spelled out rather than derived: the derive takes the file name of the macro's call site, and the name
// in the database must survive a move of the file.
impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_ground_floor"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "async_trait needs the trait's own spelling")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(SQL).await.map(|_| ())
    }

    async fn down(&self, _manager: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("migrations only go forward; restore a backup instead".into()))
    }
}
