//! `kontor certificates`: a private authority for the pool and the workers of other machines.

use crate::AnyError;
use domain::{Clock, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use time::{Duration, OffsetDateTime};
use worker_protocol::tls::{POOL, is_worker_name, worker_name};

/// How long the authority and what it issues are valid.
const AUTHORITY_YEARS: i32 = 10;
const ISSUED: Duration = Duration::days(825);

/// Makes what is missing: the authority, the pool's certificate, and one for each worker. Prints what it made.
///
/// # Errors
/// A name is no worker's, or a file cannot be read or written.
pub fn run(out: &Path, workers: &[String]) -> Result<(), AnyError> {
    let made = issue(out, workers)?;
    let mut text = String::new();
    for path in &made {
        text.push_str(&format!("made {}\n", path.display()));
    }
    if made.is_empty() {
        text.push_str("everything is there already\n");
    }
    super::print(&text);
    Ok(())
}

/// [`run`] without the words; returns the files that it made.
///
/// # Errors
/// As [`run`].
pub fn issue(out: &Path, workers: &[String]) -> Result<Vec<PathBuf>, AnyError> {
    if let Some(wrong) = workers.iter().find(|name| !is_worker_name(name)) {
        return Err(format!("{wrong:?} is no worker's name: 1 to 63 lower-case letters, digits and hyphens").into());
    }
    fs::create_dir_all(out)?;
    let mut made = Vec::new();
    let authority = authority(out, &mut made)?;
    let pool = (String::from("pool"), POOL.to_owned());
    let names = workers.iter().map(|name| (format!("worker-{name}"), worker_name(name)));
    for (file, name) in std::iter::once(pool).chain(names) {
        let paths = (out.join(format!("{file}.pem")), out.join(format!("{file}.key")));
        if paths.0.exists() && paths.1.exists() {
            continue;
        }
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        // A pool calls workers, and workers call the pool to register.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (yesterday(), yesterday() + ISSUED);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?;
        write(&paths.0, &certificate.pem(), 0o644, &mut made)?;
        write(&paths.1, &key.serialize_pem(), 0o600, &mut made)?;
    }
    Ok(made)
}

/// The one that is there, or a new one.
fn authority(out: &Path, made: &mut Vec<PathBuf>) -> Result<Issuer<'static, KeyPair>, AnyError> {
    let (certificate, key) = (out.join("ca.pem"), out.join("ca.key"));
    if certificate.exists() {
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        return Ok(Issuer::from_ca_cert_pem(&read(&certificate)?, KeyPair::from_pem(&read(&key)?)?)?);
    }
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Kontor workers");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = yesterday();
    params.not_after = date_time_ymd(yesterday().year() + AUTHORITY_YEARS, 1, 1);
    let pair = KeyPair::generate()?;
    write(&certificate, &params.self_signed(&pair)?.pem(), 0o644, made)?;
    write(&key, &pair.serialize_pem(), 0o600, made)?;
    Ok(Issuer::new(params, pair))
}

/// Clocks differ.
fn yesterday() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(SystemClock.now()) - Duration::days(1)
}

/// Never over what is there.
fn write(path: &Path, text: &str, mode: u32, made: &mut Vec<PathBuf>) -> Result<(), AnyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| format!("{}: {error}", path.display()))?;
    made.push(path.to_owned());
    Ok(())
}
