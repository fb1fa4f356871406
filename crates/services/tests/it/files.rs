//! Files: in and out in pieces, within limits, without a trace of what was broken off.

use crate::world::{World, until};
use contract::ids::FileId;
use domain::{Actor, Error};
use futures::TryStreamExt;
use services::{
    FileLimits, Services,
    files::{FilePurpose, Slice, StoredFile, Upload},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;
const SOME: Slice<FileId> = Slice { after: None, limit: 10, ascending: false };

/// Bytes that do not repeat where pieces do.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

async fn begun(services: &Services, actor: &Actor, content: &[u8]) -> domain::Result<Upload> {
    let mut upload = services.files.upload(actor, "in\r\nput.jsonl").await?;
    for part in content.chunks(300_001) {
        upload.write(part).await?;
    }
    Ok(upload)
}

pub async fn bring(services: &Services, actor: &Actor, content: &[u8], purpose: FilePurpose) -> domain::Result<StoredFile> {
    let upload = begun(services, actor, content).await?;
    services.files.finish(actor, upload, purpose, None).await
}

pub async fn read(services: &Services, actor: &Actor, id: FileId) -> Vec<u8> {
    let (_, pieces) = services.files.content(actor, id).await.expect("the file");
    pieces.try_concat().await.expect("its content")
}

fn code<T: std::fmt::Debug>(result: domain::Result<T>) -> String {
    result.expect_err("refused").problem().code
}

#[tokio::test]
async fn what_comes_out_is_what_went_in() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    for length in [1, MIB - 1, MIB, MIB + 1, 2 * MIB + 500_000] {
        let content = bytes(length);
        let file = bring(&world.services, &program, &content, FilePurpose::Batch).await.expect("a file");
        assert_eq!((file.bytes, file.filename.as_str()), (u64::try_from(length).expect("small"), "input.jsonl"));
        assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(&content)));
        assert!(file.expires_at.is_some_and(|at| at > file.created_at), "input of batches goes by itself");
        assert_eq!(world.services.files.get(&program, file.id).await.expect("the file"), file);
        assert!(read(&world.another_node(), &program, file.id).await == content, "{length} bytes");
        world.services.files.delete(&program, file.id).await.expect("deleted");
        assert_eq!(code(world.services.files.get(&program, file.id).await), "file_not_found");
    }
    assert_eq!(world.db.count_as_owner("SELECT count(*) AS value FROM file_chunk").await, 0);
    for (action, times) in [("file.created", 5), ("file.deleted", 5)] {
        let told = format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}'");
        assert_eq!(world.db.count_as_owner(&told).await, times, "{action}");
    }
}

#[tokio::test]
async fn limits_hold_and_what_is_broken_off_leaves_nothing() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    let mib = u64::try_from(MIB).expect("small");
    let services = world.services.clone().with_file_limits(FileLimits { file: 2 * mib, tenant: 3 * mib });
    let user_data = FilePurpose::UserData;
    assert_eq!(code(bring(&services, &program, &bytes(2 * MIB + 1), user_data).await), "file_too_large");
    assert_eq!(code(bring(&services, &program, b"", user_data).await), "empty");
    let upload = begun(&services, &program, b"x").await.expect("an upload");
    assert_eq!(code(services.files.finish(&program, upload, user_data, Some(10)).await), "out_of_range");
    let empty = || async { world.db.count_as_owner("SELECT count(*) AS value FROM file").await == 0 };
    until("nothing is left of what was refused", empty).await;
    drop(begun(&services, &program, &bytes(2 * MIB)).await.expect("an upload"));
    until("nothing is left of what was broken off", empty).await;
    let kept = bring(&services, &program, &bytes(2 * MIB), user_data).await.expect("a file");
    assert_eq!(kept.expires_at, None);
    assert_eq!(code(bring(&services, &program, &bytes(MIB + 1), user_data).await), "storage_full");
    services.files.delete(&program, kept.id).await.expect("deleted");
    until("there is room", empty).await;
    bring(&services, &program, &bytes(MIB + 1), user_data).await.expect("there is room again");
}

#[tokio::test]
async fn somebody_elses_file_is_not_found_and_people_have_none() {
    let world = World::new().await;
    let program = testkit::program(&world.db, &world.tenant).await;
    let colleague = testkit::program(&world.db, &world.tenant).await;
    let stranger = testkit::program(&world.db, &testkit::tenant(&world.db, "b").await).await;
    let file = bring(&world.services, &program, b"secret", FilePurpose::UserData).await.expect("a file");
    let files = &world.services.files;
    for other in [&colleague, &stranger] {
        assert_eq!(code(files.get(other, file.id).await), "file_not_found");
        assert_eq!(code(files.content(other, file.id).await.map(|(file, _)| file)), "file_not_found");
        assert_eq!(code(files.delete(other, file.id).await), "file_not_found");
        assert!(files.list(other, None, SOME).await.expect("a list").is_empty());
    }
    assert!(matches!(files.list(&world.actor, None, SOME).await, Err(Error::Forbidden { .. })));
    assert!(matches!(files.upload(&world.actor, "a").await, Err(Error::Forbidden { .. })));
    assert_eq!(code(files.get(&program, FileId(Uuid::now_v7())).await), "file_not_found");
    assert_eq!(files.list(&program, None, SOME).await.expect("a list"), [file]);
}
