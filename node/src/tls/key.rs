//! Private keys, also those that a password protects.
//!
//! Three forms are in use: plain PEM; PKCS#8 with a password ("ENCRYPTED
//! PRIVATE KEY", what openssl writes today); and the older form whose PEM
//! headers name a cipher, which openssl wrote by default before its version 3.
//!
//! Invariant *no secret in an error*: an error names the file, never what is in
//! it, and never the password.

use super::{TlsError, bad};
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use md5::{Digest, Md5};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use std::path::Path;

const WANTED: &str = "a private key";
const PKCS8_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const OLD_LABELS: [&str; 2] = ["RSA PRIVATE KEY", "EC PRIVATE KEY"];
/// A key file is a few thousand bytes; whatever is larger is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the first key of the file. The password is used only where it is
/// needed.
pub(crate) fn read(
    path: &Path,
    password: Option<&str>,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    let size = std::fs::metadata(path).map_err(|e| bad(path, WANTED, e))?.len();
    if size > FILE_BYTES_MAX {
        return Err(bad(path, WANTED, "it is too large"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| bad(path, WANTED, e))?;
    let locked = Locked::find(&text);
    let Some(locked) = locked else {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|e| bad(path, WANTED, e));
    };
    let password = password.ok_or_else(|| bad(path, WANTED, "it has a password; set it too"))?;
    locked.open(password).map_err(|why| bad(path, WANTED, why))
}

/// A key that needs a password.
struct Locked<'a> {
    label: &'a str,
    /// The cipher and its first block, in the older form.
    cipher: Option<(&'a str, &'a str)>,
    /// PEM without headers.
    pem: String,
}

impl<'a> Locked<'a> {
    fn find(text: &'a str) -> Option<Locked<'a>> {
        let labels = OLD_LABELS.into_iter().chain([PKCS8_LABEL]);
        labels.into_iter().find_map(|label| Locked::with_label(text, label))
    }

    fn with_label(text: &'a str, label: &'static str) -> Option<Locked<'a>> {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        let (_, after) = text.split_once(&begin)?;
        let (inside, _) = after.split_once(&end)?;
        let is_header = |line: &&str| line.contains(": ");
        let headers: Vec<&str> = inside.lines().filter(is_header).collect();
        let cipher = headers.iter().find_map(|line| line.strip_prefix("DEK-Info: "));
        if cipher.is_none() && label != PKCS8_LABEL {
            return None;
        }
        let body = inside.lines().filter(|line| !is_header(line) && !line.trim().is_empty());
        let body: Vec<&str> = body.map(str::trim_end).collect();
        let pem = format!("{begin}\n{}\n{end}\n", body.join("\n"));
        Some(Locked { label, cipher: cipher.and_then(|text| text.trim().split_once(',')), pem })
    }

    fn open(&self, password: &str) -> Result<PrivateKeyDer<'static>, String> {
        let (_, bytes) = pem::decode_vec(self.pem.as_bytes()).map_err(|e| e.to_string())?;
        let wrong = || "its password is another one".to_string();
        let Some((cipher, first)) = self.cipher else {
            let sealed = EncryptedPrivateKeyInfoRef::try_from(bytes.as_slice());
            let opened = sealed.map_err(|e| e.to_string())?.decrypt(password);
            let opened = opened.map_err(|why| format!("{}: {why}", wrong()))?;
            return Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into());
        };
        let first = hex(first).ok_or("its DEK-Info header is broken")?;
        let opened = match cipher {
            "AES-128-CBC" => decrypt::<aes::Aes128>(password, &first, &bytes),
            "AES-192-CBC" => decrypt::<aes::Aes192>(password, &first, &bytes),
            "AES-256-CBC" => decrypt::<aes::Aes256>(password, &first, &bytes),
            other => {
                let remedy = "write it anew: openssl pkcs8 -topk8 -v2 aes-256-cbc";
                return Err(format!("its cipher {other} is not supported; {remedy}"));
            }
        };
        let opened = opened.ok_or_else(wrong)?;
        Ok(match self.label {
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(opened).into(),
            _ => PrivatePkcs1KeyDer::from(opened).into(),
        })
    }
}

/// CBC with the key that openssl's older derivation makes of the password. A
/// wrong password shows in the padding, or later as a key that is none.
fn decrypt<C>(password: &str, first: &[u8], bytes: &[u8]) -> Option<Vec<u8>>
where
    C: aes::cipher::BlockCipherDecrypt + aes::cipher::KeyInit,
{
    let salt = first.get(..8)?;
    let mut key = Vec::new();
    let mut last = Vec::new();
    while key.len() < C::key_size() {
        last = Md5::new()
            .chain_update(&last)
            .chain_update(password)
            .chain_update(salt)
            .finalize()
            .to_vec();
        key.extend_from_slice(&last);
    }
    key.truncate(C::key_size());
    let decryptor = cbc::Decryptor::<C>::new_from_slices(&key, first).ok()?;
    decryptor.decrypt_padded_vec::<Pkcs7>(bytes).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::made::openssl;

    #[test]
    fn every_form_of_a_key_is_opened_with_its_password_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        openssl(dir.path(), "genrsa -out plain.key 2048");
        let forms = [
            ("pkcs8.key", "pkcs8 -topk8 -in plain.key -passout pass:open -out pkcs8.key"),
            ("scrypt.key", "pkcs8 -topk8 -scrypt -in plain.key -passout pass:open -out scrypt.key"),
            ("des3.key", "pkcs8 -topk8 -v2 des3 -in plain.key -passout pass:open -out des3.key"),
            ("old.key", "rsa -aes256 -traditional -in plain.key -passout pass:open -out old.key"),
        ];
        assert!(read(&path("plain.key"), None).is_ok());
        assert!(read(&path("plain.key"), Some("not needed")).is_ok());
        for (name, how) in forms {
            openssl(dir.path(), how);
            let key = read(&path(name), Some("open")).unwrap_or_else(|e| panic!("{name}: {e}"));
            rustls::crypto::ring::sign::any_supported_type(&key).expect(name);
            let none = read(&path(name), None).unwrap_err().to_string();
            assert!(none.contains(name) && none.contains("password"), "{none}");
            let wrong = read(&path(name), Some("shut"));
            let opened = |key| rustls::crypto::ring::sign::any_supported_type(&key).is_ok();
            assert!(!wrong.is_ok_and(opened), "{name} opened with a wrong password");
        }
    }

    #[test]
    fn an_elliptic_key_of_the_older_form_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        openssl(dir.path(), "ecparam -name prime256v1 -genkey -noout -out ec.key");
        openssl(dir.path(), "ec -aes128 -in ec.key -passout pass:open -out locked.key");
        let key = read(&dir.path().join("locked.key"), Some("open")).unwrap();
        rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    }

    #[test]
    fn what_holds_no_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.key");
        std::fs::write(&empty, "nothing").unwrap();
        assert!(read(&empty, None).unwrap_err().to_string().contains("empty.key"));
    }
}
