//! The audit trail.

use super::{BY, day, output::Output, syslog::Sender};
use crate::{
    AnyError,
    cli::audit::{AuditFormat, ExportAuditArgs},
    commands::print,
};
use serde_json::json;
use services::{
    Services,
    audit::{Fault, Form, Proof, hex},
};
use store::audit_chain::{Hash, Seal};

/// Proves the chain. A broken one is an error, so that scripts notice.
///
/// # Errors
/// The chain is broken; `expect` is no seal; the database does not answer.
pub async fn verify(services: &Services, expect: Option<&str>) -> Result<Output, AnyError> {
    let expected = expect.map(seal).transpose()?;
    match services.audit.prove(BY, expected).await? {
        Proof::Whole { head: None } => Ok(Output::new("The audit trail is empty.".into(), json!({ "events": 0 }))),
        Proof::Whole { head: Some(head) } => {
            let seal = format!("{}:{}", head.number, hex(&head.hash));
            let text = format!("The audit trail is whole: {} events. Keep this seal elsewhere, for --expect:\n{seal}", head.number);
            Ok(Output::new(text, json!({ "events": head.number, "seal": seal })))
        }
        Proof::Broken { number, fault } => Err(match fault {
            Fault::Gap => format!("the audit trail is broken: before event {number} others are missing"),
            Fault::Missing => format!("the audit trail is broken: event {number} is gone"),
            Fault::Changed => format!("the audit trail is broken: event {number} is not what was sealed"),
        }
        .into()),
        Proof::Foreign { number } => Err(format!("the audit trail was made anew: event {number} has another seal than expected").into()),
        Proof::Unsealed { events } => Err(format!("{events} events of the audit trail are older than ten minutes and not sealed").into()),
    }
}

/// The trail, line by line: printed, or sent to a collector.
///
/// # Errors
/// `since` is no day; the database or the collector does not answer.
pub async fn export(services: &Services, args: &ExportAuditArgs) -> Result<Output, AnyError> {
    let since = args.since.as_deref().map(day::first_moment).transpose()?.unwrap_or(0);
    let mut sender = match &args.to {
        Some(to) => Some(Sender::connect(to).await.map_err(|error| format!("the collector cannot be reached: {error}"))?),
        None => None,
    };
    let form = match args.format {
        AuditFormat::Json if sender.is_none() => Form::Json,
        AuditFormat::Json | AuditFormat::Syslog => Form::Syslog { enterprise: args.enterprise },
    };
    let (mut after, mut sent) = (args.after, 0_u64);
    // What comes meanwhile is the next export's.
    let end = services.audit.newest(BY).await?;
    while after < end {
        let Some(lines) = services.audit.lines(BY, after, since, form).await? else { break };
        for line in &lines.lines {
            match &mut sender {
                None => print(&line.text),
                Some(sender) => sender.send(&line.text).await.map_err(|error| broken(line.number, &error))?,
            }
            sent += 1;
        }
        after = lines.last;
    }
    let Some(sender) = sender else { return Ok(Output::verbatim(String::new())) };
    sender.finish().await.map_err(|error| broken(after, &error))?;
    let text = format!("Sent {sent} events. To go on with those that come after: --after {after}");
    Ok(Output::new(text, json!({ "sent": sent, "last": after })))
}

fn broken(number: u64, error: &std::io::Error) -> String {
    format!("sending ended at event {number}: {error}; go on with --after and the number of the last event that has arrived")
}

fn seal(text: &str) -> Result<Seal, AnyError> {
    let wrong = || AnyError::from("a seal looks like 42:0123…, a number and 64 digits");
    let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
    let digits = hash.as_bytes();
    if digits.len() != 2 * size_of::<Hash>() || !hash.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hash[at..at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(Seal { number: number.parse().map_err(|_| wrong())?, hash: bytes })
}

#[cfg(test)]
mod tests {
    use super::{hex, seal};

    #[test]
    fn a_seal_is_read_as_it_is_told() {
        let hash: Vec<u8> = (0..32).collect();
        let read = seal(&format!("7:{}", hex(&hash))).expect("a seal");
        assert_eq!((read.number, read.hash.to_vec()), (7, hash));
        for wrong in ["", "7", "7:00", &format!("x:{}", "0".repeat(64)), &format!("7:{}", "g".repeat(64)), &format!("7:{}", "ä".repeat(32))]
        {
            assert!(seal(wrong).is_err(), "{wrong}");
        }
    }
}
