//! A committed transaction is gone.

async fn twice(tx: store::TenantTx) {
    tx.commit().await.unwrap();
    let _users = tx.users();
}

fn main() {}
