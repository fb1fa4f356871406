//! Lines of a streamed body.

use futures::StreamExt;

use crate::Result;

/// Calls `each` with every line, without its end.
pub async fn read(response: reqwest::Response, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut body = response.bytes_stream();
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = body.next().await {
        rest.extend_from_slice(&chunk?);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            each(line.trim_ascii_end())?;
        }
    }
    Ok(())
}
