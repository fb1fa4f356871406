//! Exporting the audit trail: names and help.

use clap::Args;
use std::str::FromStr;

#[derive(Debug, Args)]
pub struct ExportAuditArgs {
    /// First day, YYYY-MM-DD (UTC).
    #[arg(long, value_name = "DAY")]
    pub since: Option<String>,
    /// Only events beyond this number: goes on where an earlier export ended.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub after: u64,
    /// How an event is written on its line.
    #[arg(long, value_enum, default_value_t = AuditFormat::Json)]
    pub format: AuditFormat,
    /// Send messages of syslog there instead of printing: udp://HOST:PORT, or tcp://HOST:PORT (octet-counted, RFC 6587).
    #[arg(long, value_name = "COLLECTOR")]
    pub to: Option<Collector>,
    /// Private enterprise number of the messages' structured data; the default is the one for examples (RFC 5612).
    #[arg(long, value_name = "NUMBER", default_value_t = 32473)]
    pub enterprise: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditFormat {
    /// An object for each event.
    Json,
    /// RFC 5424.
    Syslog,
}

/// Who collects messages of syslog: host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    Udp(String),
    Tcp(String),
}

impl FromStr for Collector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let has_port = |addr: &str| addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        match text.split_once("://") {
            Some(("udp", addr)) if has_port(addr) => Ok(Self::Udp(addr.to_owned())),
            Some(("tcp", addr)) if has_port(addr) => Ok(Self::Tcp(addr.to_owned())),
            _ => Err("a collector looks like udp://logs.example.org:514 or tcp://logs.example.org:601".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Collector;

    #[test]
    fn a_collector_has_a_protocol_and_a_port() {
        assert_eq!("udp://127.0.0.1:514".parse(), Ok(Collector::Udp("127.0.0.1:514".into())));
        assert_eq!("tcp://[::1]:601".parse(), Ok(Collector::Tcp("[::1]:601".into())));
        for wrong in ["", "logs:514", "udp://logs", "tcp://:601", "tls://logs:6514", "udp://logs:x"] {
            assert!(wrong.parse::<Collector>().is_err(), "{wrong}");
        }
    }
}
