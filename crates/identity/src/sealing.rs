//! Sealing: what the database keeps of secrets can be read only with a key that does not lie there.
//!
//! A seal is AES-256-GCM with a random nonce. The name of what is sealed belongs to it, so a row that is copied to another
//! name cannot be opened. Its bytes: version, nonce, text, tag.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use domain::{Error, Result, secret::Secret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use std::{fmt, io};
use zeroize::Zeroizing;

/// What a seal begins with; another way of sealing would have another number.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// Bytes of a key's hash that stand for it where the key itself must not be seen.
const ID_BYTES: usize = 8;
/// So that the hash of a key is of use for nothing else.
const ID_CONTEXT: &[u8] = b"kontor master key\0";
/// With or without `=` at its end.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Where master keys are kept.
pub trait KeyKeeper: Send + Sync {
    /// `None`: there are none yet, and [`KeyKeeper::write`] may make them.
    ///
    /// # Errors
    /// They cannot be read, or are none. The text names the place and never a key.
    fn read(&self) -> io::Result<Option<MasterKeys>>;

    /// Puts these in the place of those that are there: wholly or not at all.
    ///
    /// # Errors
    /// They cannot be written.
    fn write(&self, keys: &MasterKeys) -> io::Result<()>;
}

/// The keys of an installation: the first one seals, all of them open. More than one there is only while they change.
#[derive(Clone)]
pub struct MasterKeys {
    first: MasterKey,
    others: Vec<MasterKey>,
}

#[derive(Clone)]
struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    id: String,
}

/// Something sealed, and the id of the key that opens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub bytes: Vec<u8>,
    pub key_id: String,
}

/// Why something cannot be opened. The texts are for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It was sealed with a key of this id, which is not at hand.
    Key(String),
    /// It is not what was sealed under this name.
    Changed,
    /// It was sealed in a way that this version does not know.
    Version,
}

impl MasterKeys {
    /// A single new one.
    #[must_use]
    pub fn random() -> Self {
        Self { first: MasterKey::of(Zeroizing::new(rand::random())), others: Vec::new() }
    }

    /// Reads 32 bytes as hexadecimal or base64 from each line; empty lines and those that begin with `#` count for nothing.
    ///
    /// # Errors
    /// Which line is no key, or that there is none. Never its text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let mut keys = lines.map(|(number, line)| MasterKey::parse(number, line));
        let first = keys.next().ok_or_else(|| "there is no key in it".to_owned())??;
        Ok(Self { first, others: keys.collect::<Result<_, String>>()? })
    }

    /// As [`MasterKeys::parse`] reads it.
    #[must_use]
    pub fn text(&self) -> Secret {
        let mut text = Zeroizing::new(String::with_capacity((1 + self.others.len()) * (2 * KEY_BYTES + 1)));
        for key in self.all() {
            key.bytes.iter().for_each(|byte| push_hex(&mut text, *byte));
            text.push('\n');
        }
        Secret::new(text.as_str())
    }

    /// A new one before those that there are.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self { others: self.all().cloned().collect(), ..Self::random() }
    }

    /// The first one, and of the others those whose id is needed.
    #[must_use]
    pub fn keeping(mut self, needed: impl Fn(&str) -> bool) -> Self {
        self.others.retain(|key| needed(&key.id));
        self
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.first.id
    }

    /// Whether one of them has this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.all().any(|key| key.id == id)
    }

    /// Seals a secret under a name.
    ///
    /// # Errors
    /// [`Error::Internal`] for a secret of more than 64 GiB.
    pub fn seal(&self, name: &str, secret: &Secret) -> Result<Sealed> {
        let failed = |_| Error::internal("this cannot be sealed");
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = Zeroizing::new(secret.reveal().as_bytes().to_vec());
        let key = self.first.cipher().map_err(failed)?;
        let tag = key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), belonging(name), &mut text).map_err(failed)?;
        let bytes = [[VERSION].as_slice(), nonce.as_slice(), text.as_slice(), tag.as_ref()].concat();
        Ok(Sealed { bytes, key_id: self.first.id.clone() })
    }

    /// Opens what was sealed under this name.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn open(&self, name: &str, sealed: &Sealed) -> Result<Secret, Unopened> {
        let (version, rest) = sealed.bytes.split_first().ok_or(Unopened::Changed)?;
        if *version != VERSION {
            return Err(Unopened::Version);
        }
        let key = self.all().find(|key| key.id == sealed.key_id).ok_or_else(|| Unopened::Key(sealed.key_id.clone()))?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(Unopened::Changed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Changed)?;
        let mut text = Zeroizing::new(text.to_vec());
        let cipher = key.cipher().map_err(|_| Unopened::Changed)?;
        let opened = cipher.open_in_place(nonce, belonging(name), &mut text).map_err(|_| Unopened::Changed)?;
        std::str::from_utf8(opened).map(Secret::new).map_err(|_| Unopened::Changed)
    }

    fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl MasterKey {
    fn of(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let hash = Sha256::new().chain_update(ID_CONTEXT).chain_update(bytes.as_slice()).finalize();
        let mut id = String::with_capacity(2 * ID_BYTES);
        hash.iter().take(ID_BYTES).for_each(|byte| push_hex(&mut id, *byte));
        Self { bytes, id }
    }

    fn parse(number: usize, line: &str) -> Result<Self, String> {
        key_bytes(line).map(Self::of).ok_or_else(|| format!("line {number} is not 32 bytes in hexadecimal or base64"))
    }

    fn cipher(&self) -> Result<LessSafeKey, ring::error::Unspecified> {
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.bytes.as_slice())?))
    }
}

/// What is not secret but must be the same when it is opened.
fn belonging(name: &str) -> Aad<Vec<u8>> {
    Aad::from([[VERSION].as_slice(), name.as_bytes()].concat())
}

fn key_bytes(line: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if line.len() == 2 * KEY_BYTES && line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&line[at..at + 2], 16).ok()?;
        }
        return Some(bytes);
    }
    let decoded = Zeroizing::new(BASE64.decode(line).ok()?);
    if decoded.len() != KEY_BYTES {
        return None;
    }
    bytes.copy_from_slice(&decoded);
    Some(bytes)
}

fn push_hex(text: &mut String, byte: u8) {
    text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().map(|key| &key.id)).finish()
    }
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "it was sealed with the master key {id}, which is not in the master key file of this node"),
            Self::Changed => f.write_str("it is not what was sealed under this name"),
            Self::Version => f.write_str("it was sealed by a later version"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MasterKeys, NONCE_LEN, Sealed, Unopened, VERSION};
    use base64::{Engine, engine::general_purpose::STANDARD};
    use domain::secret::Secret;

    const TEXT: &str = "sk-one-two-three";

    fn sealed(keys: &MasterKeys) -> Sealed {
        keys.seal("vllm", &Secret::new(TEXT)).expect("sealed")
    }

    #[test]
    fn what_was_sealed_is_opened_and_never_looks_the_same() {
        let keys = MasterKeys::random();
        let (one, two) = (sealed(&keys), sealed(&keys));
        assert_ne!(one.bytes, two.bytes, "If you are here because this failed: a nonce is used twice, which gives the key away.");
        assert_ne!(one.bytes[1..=NONCE_LEN], two.bytes[1..=NONCE_LEN]);
        assert_eq!(keys.open("vllm", &one), Ok(Secret::new(TEXT)));
        assert!(!one.bytes.windows(6).any(|part| part == b"sk-one"), "the text can be read");
        assert_eq!(one.bytes[0], VERSION);
    }

    #[test]
    fn nothing_is_opened_under_another_name() {
        let keys = MasterKeys::random();
        for other in ["azure", "", "vllm2", "vll"] {
            assert_eq!(keys.open(other, &sealed(&keys)), Err(Unopened::Changed), "{other}");
        }
    }

    #[test]
    fn another_master_key_is_named_and_opens_nothing() {
        let (keys, others) = (MasterKeys::random(), MasterKeys::random());
        let one = sealed(&keys);
        let error = others.open("vllm", &one).expect_err("another key");
        assert_eq!(error, Unopened::Key(keys.id().to_owned()));
        let (told, secret) = (error.to_string(), keys.text());
        assert!(told.contains(keys.id()) && !told.contains(secret.reveal().trim_end()), "{told}");
        // Even one that claims to be the right one.
        assert_eq!(others.open("vllm", &Sealed { key_id: others.id().to_owned(), ..one }), Err(Unopened::Changed));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let keys = MasterKeys::random();
        let one = sealed(&keys);
        for at in 0..one.bytes.len() {
            let mut changed = one.clone();
            changed.bytes[at] ^= 1;
            let expected = if at == 0 { Unopened::Version } else { Unopened::Changed };
            assert_eq!(keys.open("vllm", &changed), Err(expected), "byte {at}");
        }
        for length in 0..one.bytes.len() {
            let cut = Sealed { bytes: one.bytes[..length].to_vec(), ..one.clone() };
            assert_eq!(keys.open("vllm", &cut), Err(Unopened::Changed), "{length} bytes");
        }
    }

    #[test]
    fn a_new_key_seals_and_the_old_one_opens_as_long_as_it_is_needed() {
        let old = MasterKeys::random();
        let before = sealed(&old);
        let both = old.renewed();
        assert_ne!(both.id(), old.id());
        assert_eq!(both.open("vllm", &before), Ok(Secret::new(TEXT)));
        let after = sealed(&both);
        assert_eq!(after.key_id, both.id());
        assert_eq!(both.clone().keeping(|id| id == old.id()).open("vllm", &before), Ok(Secret::new(TEXT)));
        let new = both.keeping(|_| false);
        assert_eq!(new.open("vllm", &before), Err(Unopened::Key(old.id().to_owned())));
        assert_eq!(new.open("vllm", &after), Ok(Secret::new(TEXT)));
    }

    #[test]
    fn keys_are_read_as_they_are_written_in_hexadecimal_and_in_base64() {
        let keys = MasterKeys::random().renewed();
        let read = MasterKeys::parse(keys.text().reveal()).expect("keys");
        assert_eq!(format!("{read:?}"), format!("{keys:?}"));
        let bytes = [0x5a; 32];
        let (hex, base64) = ("5A".repeat(32), STANDARD.encode(bytes));
        let ids = [hex, base64.clone(), base64.trim_end_matches('=').to_owned()]
            .map(|text| MasterKeys::parse(&format!("# ours\n\n {text} \n")).expect("a key").id().to_owned());
        assert!(ids.iter().all(|id| id == &ids[0] && id.len() == 16), "{ids:?}");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_told() {
        let long = "ab".repeat(33);
        for wrong in ["", "# nothing\n", "correct horse", &long, &"é".repeat(32), &format!("{}\nrest", "ab".repeat(32))] {
            let error = MasterKeys::parse(wrong).expect_err("no key");
            assert!(!error.contains("horse") && !error.contains("rest") && !error.contains("abab"), "{error}");
        }
    }

    #[test]
    fn no_key_is_seen_in_logs() {
        let keys = MasterKeys::random();
        assert_eq!(format!("{keys:?}"), format!("[{:?}]", keys.id()));
    }
}
