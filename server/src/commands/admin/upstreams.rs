//! Keys of upstreams.

use super::{BY, output::Output, password};
use crate::{
    AnyError,
    cli::upstreams::UpstreamsCommand,
    config::Config,
    startup::{master_key::MasterKeyFile, product::Product},
};
use contract::Millis;
use serde_json::{Value, json};
use services::upstream_credentials::Successor;
use store::upstream_credentials::UpstreamCredential;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The commands about keys of upstreams.
///
/// # Errors
/// The command is refused; standard input cannot be read.
pub async fn execute(config: &Config, product: &Product, command: UpstreamsCommand) -> Result<Output, AnyError> {
    let credentials = &product.upstream_credentials;
    match command {
        UpstreamsCommand::SetUpstreamKey { name } => {
            let id = credentials.set(BY, &name, &password::from_stdin().await?).await?;
            let (file, warning) = (MasterKeyFile::of(config), warning(config, &name));
            let file = file.path().display();
            let text = format!(
                "The key of {name} is kept, sealed with the master key {id} of {file}. It is in force within two seconds.{warning}"
            );
            Ok(Output::new(text, json!({ "upstream": name, "master_key": id, "configured": is_configured(config, &name) })))
        }
        UpstreamsCommand::ListUpstreamKeys => list(config, &credentials.list(BY).await?),
        UpstreamsCommand::RemoveUpstreamKey { name } => {
            credentials.remove(BY, &name).await?;
            let text = format!("The key of {name} is forgotten. The configured one is in force within two seconds.");
            Ok(Output::new(text + &warning(config, &name), json!({ "upstream": name, "configured": is_configured(config, &name) })))
        }
        UpstreamsCommand::RotateMasterKey { reseal_only } => {
            let successor = if reseal_only { Successor::First } else { Successor::New };
            let rotated = credentials.rotate(BY, successor).await?;
            let (file, id) = (MasterKeyFile::of(config), rotated.key_id);
            let text =
                format!("{} keys of upstreams are sealed with the master key {id} of {} now.", rotated.resealed, file.path().display());
            Ok(Output::new(text, json!({ "master_key": id, "resealed": rotated.resealed })))
        }
    }
}

fn is_configured(config: &Config, name: &str) -> bool {
    config.upstreams.iter().any(|upstream| upstream.name == name)
}

/// Empty for an upstream that the configuration has.
fn warning(config: &Config, name: &str) -> String {
    if is_configured(config, name) {
        return String::new();
    }
    format!("\nWarning: the configuration of this node has no upstream of the name {name}.")
}

fn list(config: &Config, kept: &[UpstreamCredential]) -> Result<Output, AnyError> {
    let lines = kept.iter().map(|row| line(config, row)).collect::<Result<Vec<String>, AnyError>>()?;
    let text = if lines.is_empty() { "No key of an upstream is kept.".into() } else { lines.join("\n") };
    Ok(Output::new(text, kept.iter().map(|row| value(config, row)).collect()))
}

fn line(config: &Config, row: &UpstreamCredential) -> Result<String, AnyError> {
    let UpstreamCredential { upstream, key_id, changed_at, changed_by, .. } = row;
    let unknown = if is_configured(config, upstream) { "" } else { "  (not in the configuration)" };
    Ok(format!("{upstream:<24} {}  by {changed_by}  master key {key_id}{unknown}", second(*changed_at)?))
}

fn value(config: &Config, row: &UpstreamCredential) -> Value {
    json!({
        "upstream": row.upstream, "master_key": row.key_id, "changed_at": row.changed_at, "changed_by": row.changed_by,
        "configured": is_configured(config, &row.upstream),
    })
}

/// 2027-01-31T12:00:00Z
fn second(at: Millis) -> Result<String, AnyError> {
    Ok(OffsetDateTime::from_unix_timestamp(at.div_euclid(1000))?.format(&Rfc3339)?)
}
