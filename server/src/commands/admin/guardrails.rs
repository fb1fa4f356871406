//! Guardrails.

use super::{BY, output::Output};
use crate::{AnyError, cli::guardrails::GuardrailsCommand, startup::product::Product};
use serde_json::{Value, json};
use services::guardrails::Found;
use tokio::io::AsyncReadExt;

/// Longest text that is tried, in bytes.
const LONGEST_TEXT: u64 = 4 * 1024 * 1024;

/// The commands about guardrails.
///
/// # Errors
/// The command is refused; the file is not JSON.
pub async fn execute(product: &Product, command: GuardrailsCommand) -> Result<Output, AnyError> {
    let (identity, guardrails) = (&product.identity, &product.services.guardrails);
    match command {
        GuardrailsCommand::SetGuardrails { tenant, file } => {
            let text = tokio::fs::read_to_string(&file).await.map_err(|error| format!("{}: {error}", file.display()))?;
            let policy: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            let policy = guardrails.set(BY, identity.tenant_by_slug(BY, &tenant).await?, policy).await?;
            let text = format!("{tenant} has {} guardrails now.", policy.rules.len());
            Ok(Output::new(text, serde_json::to_value(&policy)?))
        }
        GuardrailsCommand::ShowGuardrails { tenant } => match guardrails.get(BY, identity.tenant_by_slug(BY, &tenant).await?).await? {
            None => Ok(Output::new(format!("{tenant} has no guardrails."), Value::Null)),
            Some(policy) => Ok(Output::new(serde_json::to_string_pretty(&policy)?, serde_json::to_value(&policy)?)),
        },
        GuardrailsCommand::RemoveGuardrails { tenant } => {
            guardrails.remove(BY, identity.tenant_by_slug(BY, &tenant).await?).await?;
            Ok(Output::new(format!("{tenant} has no guardrails any more."), json!({ "tenant": tenant })))
        }
        GuardrailsCommand::TryGuardrails { tenant } => {
            let tenant = identity.tenant_by_slug(BY, &tenant).await?;
            let mut text = String::new();
            tokio::io::stdin().take(LONGEST_TEXT).read_to_string(&mut text).await?;
            let found = guardrails.try_out(BY, tenant, &text).await?;
            let lines: Vec<String> = found.iter().map(line).collect();
            let text = if lines.is_empty() { "No rule sees anything.".to_owned() } else { lines.join("\n") };
            Ok(Output::new(text, found.iter().map(value).collect()))
        }
    }
}

fn line(found: &Found) -> String {
    format!("{}: {}, {:.2}", found.rule, found.kind, found.score)
}

fn value(found: &Found) -> Value {
    json!({ "rule": found.rule, "kind": found.kind, "score": found.score })
}
