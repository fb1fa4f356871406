//! What became of a batch's lines, as files in OpenAI's shape: one for answers, one for refusals and failures.

use crate::{
    files::{FilePurpose, Room, Upload},
    shared::Shared,
};
use contract::ids::{BatchId, FileId, RequestId, ServiceAccountId};
use domain::{Actor, Error, Result};
use serde_json::json;
use std::sync::Arc;
use store::{
    TenantTx,
    batch_runs::{LineEnd, LineResult},
};
use uuid::Uuid;

/// One of the two files. It begins with its first line: a file without any is none.
pub(super) struct Output {
    shared: Arc<Shared>,
    actor: Actor,
    account: ServiceAccountId,
    room: Room,
    filename: String,
    upload: Option<Upload>,
}

impl Output {
    /// Of a batch, which the caller has with this lease. `kind` is `output` or `error`.
    pub(super) fn new(shared: &Arc<Shared>, actor: &Actor, account: ServiceAccountId, (id, lease): (BatchId, Uuid), kind: &str) -> Self {
        let filename = format!("batch_{}_{kind}.jsonl", id.0.simple());
        let room = Room::SetAside { batch: id, lease };
        Self { shared: shared.clone(), actor: actor.clone(), account, room, filename, upload: None }
    }

    pub(super) async fn write(&mut self, line: &str) -> Result<()> {
        if self.upload.is_none() {
            let begun = Upload::begin(self.shared.clone(), self.actor.clone(), self.account, &self.filename, self.room).await?;
            self.upload = Some(begun);
        }
        let Some(upload) = &mut self.upload else { return Err(Error::internal("an output that has just begun is not there")) };
        upload.write(line.as_bytes()).await?;
        upload.write(b"\n").await
    }

    /// Makes it a file, as part of a transaction. Once that is committed, [`Self::keep`] it.
    pub(super) async fn complete(&mut self, tx: &TenantTx) -> Result<Option<FileId>> {
        match &mut self.upload {
            Some(upload) => Ok(Some(upload.complete(tx, FilePurpose::BatchOutput, None).await?.id)),
            None => Ok(None),
        }
    }

    pub(super) fn keep(self) {
        if let Some(upload) = self.upload {
            upload.keep();
        }
    }
}

/// A line of a file. One that never ran says why.
pub(super) fn line(batch: BatchId, result: &LineResult) -> Result<String> {
    let custom_id = serde_json::to_string(&result.custom_id).map_err(Error::internal)?;
    let id = format!("batch_req_{}_{}", batch.0.simple(), result.number);
    Ok(match &result.end {
        // The answer is JSON already, and stays as the route wrote it.
        Some(end) => format!(
            r#"{{"id":"{id}","custom_id":{custom_id},"response":{{"status_code":{},"request_id":"{}","body":{}}},"error":null}}"#,
            end.status, end.request, end.response
        ),
        None => {
            let message = "This request could not be answered before the completion window expired.";
            let error = json!({ "code": "batch_expired", "message": message });
            format!(r#"{{"id":"{id}","custom_id":{custom_id},"response":null,"error":{error}}}"#)
        }
    })
}

/// The end of a line that is not asked any more: whoever computed it died each time.
pub(super) fn given_up(request: RequestId) -> LineEnd {
    let message = "Whoever computed this request stopped working each time. It is not tried again.";
    let error = json!({ "message": message, "type": "server_error", "param": null, "code": "model_interrupted" });
    LineEnd { request, status: 500, response: json!({ "error": error }).to_string() }
}

#[cfg(test)]
mod tests {
    use super::line;
    use contract::ids::{BatchId, RequestId};
    use serde_json::{Value, json};
    use store::batch_runs::{LineEnd, LineResult};
    use uuid::Uuid;

    #[test]
    fn lines_have_openais_shape() {
        let (batch, request) = (BatchId(Uuid::nil()), RequestId(Uuid::nil()));
        let end = LineEnd { request, status: 200, response: r#"{"text":"a\nb"}"#.into() };
        let answered = line(batch, &LineResult { number: 2, custom_id: "a\"b".into(), end: Some(end) }).unwrap();
        assert!(!answered.contains('\n'));
        let expected = json!({
            "id": format!("batch_req_{}_2", Uuid::nil().simple()), "custom_id": "a\"b", "error": null,
            "response": { "status_code": 200, "request_id": request.to_string(), "body": { "text": "a\nb" } },
        });
        assert_eq!(serde_json::from_str::<Value>(&answered).unwrap(), expected);
        let never = line(batch, &LineResult { number: 3, custom_id: "c".into(), end: None }).unwrap();
        let never: Value = serde_json::from_str(&never).unwrap();
        assert_eq!((&never["response"], &never["error"]["code"]), (&Value::Null, &json!("batch_expired")));
    }
}
