//! A transaction of one's own is no `TenantTx`: nothing would bind it to a tenant.

fn wrap(tx: sea_orm::DatabaseTransaction, tenant: contract::ids::TenantId) -> store::TenantTx {
    store::TenantTx { tx, tenant }
}

fn main() {}
