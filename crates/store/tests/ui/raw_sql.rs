//! Nobody outside of `store` reaches the connection below a transaction.

async fn raw(tx: &store::TenantTx, system: &store::SystemTx) {
    let _ = tx.conn();
    let _ = system.conn();
}

fn main() {}
