//! A transaction is opened for somebody.

async fn open(db: &store::Db) {
    let _ = db.begin().await;
}

fn main() {}
