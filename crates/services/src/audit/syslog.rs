//! Events of the audit trail as messages of syslog (RFC 5424).

use super::hex;
use contract::Millis;
use std::fmt::Write;
use store::audit_chain::SealedEvent;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Facility 13, *log audit*, and severity 5, *notice*.
const PRIORITY: u8 = 13 * 8 + 5;
/// What stands for a field that is not known.
const NIL: &str = "-";
/// Characters of a message's id.
const LONGEST_ID: usize = 32;

/// One event on one line. The fields are structured data, of this private enterprise number; nothing else is certain to arrive
/// as it was sent.
pub(super) fn line(sealed: &SealedEvent, enterprise: u32) -> String {
    let number = sealed.seal.number;
    let mut data = format!("audit@{enterprise}");
    put(&mut data, "number", &number.to_string());
    put(&mut data, "hash", &hex(&sealed.seal.hash));
    let Some(event) = &sealed.event else {
        put(&mut data, "missing", "true");
        return message(NIL, "audit.missing", number, &data);
    };
    put(&mut data, "id", &event.id.to_string());
    for (name, id) in [("tenant", event.tenant), ("request", event.request)] {
        if let Some(id) = id {
            put(&mut data, name, &id.to_string());
        }
    }
    for (name, text) in [("actor", &event.actor), ("action", &event.action), ("target", &event.target)] {
        put(&mut data, name, text);
    }
    put(&mut data, "detail", &event.detail().to_string());
    message(&timestamp(event.at()), &event.action, number, &data)
}

/// Readers that show no structured data show the text behind it.
fn message(at: &str, action: &str, number: u64, data: &str) -> String {
    let id: String = action.chars().filter(char::is_ascii_graphic).take(LONGEST_ID).collect();
    let id = if id.is_empty() { NIL } else { &id };
    format!("<{PRIORITY}>1 {at} {NIL} kontor {NIL} {id} [{data}] {id}, event {number}")
}

/// Adds a parameter. A line stays one, so control characters become blanks.
fn put(data: &mut String, name: &str, value: &str) {
    // Writing into a string does not fail.
    let _ = write!(data, " {name}=\"");
    for character in value.chars() {
        match character {
            '"' | '\\' | ']' => data.extend(['\\', character]),
            character if character.is_control() => data.push(' '),
            character => data.push(character),
        }
    }
    data.push('"');
}

fn timestamp(at: Millis) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| NIL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{line, message, put, timestamp};
    use store::audit_chain::{Seal, SealedEvent};

    #[test]
    fn nothing_in_a_value_ends_it() {
        let mut data = "audit@1".to_owned();
        put(&mut data, "target", "a\"b]c\\d\ne\u{85}\u{e4}");
        assert_eq!(data, "audit@1 target=\"a\\\"b\\]c\\\\d e \u{e4}\"");
    }

    #[test]
    fn fields_are_those_of_the_specification() {
        assert_eq!(timestamp(1_767_225_600_123), "2026-01-01T00:00:00.123Z");
        assert_eq!(timestamp(i64::MAX), "-");
        let long = message("-", &"x y".repeat(40), 1, "audit@1");
        assert!(long.starts_with(&format!("<109>1 - - kontor - {} [audit@1] ", "xy".repeat(16))), "{long}");
        let gone = SealedEvent { seal: Seal { number: 7, hash: [1; 32] }, event: None };
        let expected =
            format!("<109>1 - - kontor - audit.missing [audit@32473 number=\"7\" hash=\"{}\" missing=\"true\"] ", "01".repeat(32));
        assert!(line(&gone, 32473).starts_with(&expected), "{}", line(&gone, 32473));
    }
}
