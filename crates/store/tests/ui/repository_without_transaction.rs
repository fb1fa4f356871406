//! Repositories have no constructor outside of `store`, not even for somebody who has a transaction.

fn by_function(tx: &store::TenantTx) {
    let _ = store::conversations::Conversations::new(tx);
}

fn by_hand(tx: &store::TenantTx) {
    let _ = store::users::Users { tx };
}

fn main() {}
