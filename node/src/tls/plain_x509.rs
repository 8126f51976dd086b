//! Certificates that Web PKI refuses and OpenSSL does not: of the oldest
//! version, of an authority as the end of a chain, and those that are called by
//! their common name.
//!
//! The recipes in PostgreSQL's own documentation make the first and the last,
//! `openssl req -x509 -CA` the second. Such a certificate is believed if one of
//! the configured authorities itself has signed it.
//!
//! Absent on purpose: chains of more than one step.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{CertificateError, DigitallySignedStruct, Error};
use x509_cert::certificate::{Certificate, Version};
use x509_cert::der::{Decode, Encode, EncodeValue};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const COMMON_NAME: &str = "2.5.4.3";

fn parse(cert: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding.into())
}

/// Is it of the version that has no extensions?
pub(crate) fn is_plain(cert: &CertificateDer<'_>) -> bool {
    parse(cert).is_ok_and(|cert| cert.tbs_certificate.version == Version::V1)
}

/// Does Web PKI refuse it at the end of a chain, whichever authority signed it?
pub(crate) fn is_odd(cert: &CertificateDer<'_>) -> bool {
    let is_authority = |cert: Certificate| {
        let constraints = cert.tbs_certificate.get::<BasicConstraints>();
        constraints.is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
    };
    is_plain(cert) || parse(cert).is_ok_and(is_authority)
}

/// Has one of the authorities itself signed it, and is it valid now?
pub(crate) fn verify(
    cert: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    now: UnixTime,
    known: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let cert = parse(cert)?;
    let validity = &cert.tbs_certificate.validity;
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    let issued = |authority: &Certificate| {
        authority.tbs_certificate.subject == cert.tbs_certificate.issuer
            && has_signed(&authority.tbs_certificate.subject_public_key_info, &cert, known)
    };
    let mut authorities = authorities.iter().filter_map(|authority| parse(authority).ok());
    match authorities.any(|authority| issued(&authority)) {
        true => Ok(()),
        false => Err(CertificateError::UnknownIssuer.into()),
    }
}

fn has_signed(
    key: &SubjectPublicKeyInfoOwned,
    cert: &Certificate,
    known: &WebPkiSupportedAlgorithms,
) -> bool {
    let (Ok(message), Some(signature)) = (cert.tbs_certificate.to_der(), cert.signature.as_bytes())
    else {
        return false;
    };
    let wanted = identifier(&cert.signature_algorithm);
    let mut fitting = known.all.iter().filter(|a| a.signature_alg_id().as_ref() == wanted);
    fitting.any(|algorithm| is_signed(*algorithm, key, &message, signature))
}

fn is_signed(
    algorithm: &dyn SignatureVerificationAlgorithm,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> bool {
    algorithm.public_key_alg_id().as_ref() == identifier(&key.algorithm)
        && algorithm
            .verify_signature(key.subject_public_key.raw_bytes(), message, signature)
            .is_ok()
}

/// As the algorithms name themselves: without the outer tag and length.
fn identifier(algorithm: &AlgorithmIdentifierOwned) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory does not fail; an empty name fits nothing.
    let _ = algorithm.encode_value(&mut bytes);
    bytes
}

/// The signature of a handshake of TLS 1.2 by the key of a plain certificate.
pub(crate) fn handshake(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = parse(cert)?.tbs_certificate.subject_public_key_info;
    let schemes = known.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
    let mut algorithms = schemes.flat_map(|(_, algorithms)| *algorithms);
    match algorithms.any(|a| is_signed(*a, &key, message, signed.signature())) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

/// The same for TLS 1.3.
pub(crate) fn handshake13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    known: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = parse(cert)?.tbs_certificate.subject_public_key_info;
    let key = key.to_der().map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let key = SubjectPublicKeyInfoDer::from(key);
    verify_tls13_signature_with_raw_key(message, &key, signed, known)
}

/// Is the host the certificate's common name? Only a certificate without
/// alternative names of hosts is called so.
pub(crate) fn common_name(cert: &CertificateDer<'_>, host: &ServerName<'_>) -> Result<(), Error> {
    let wrong = || Error::from(CertificateError::NotValidForName);
    let cert = parse(cert)?;
    if has_alternatives(&cert) {
        return Err(wrong());
    }
    let subject = cert.tbs_certificate.subject.0.iter();
    let mut names = subject.flat_map(|part| part.0.iter());
    let name = names.find(|pair| pair.oid.to_string() == COMMON_NAME).ok_or_else(wrong)?;
    let name = std::str::from_utf8(name.value.value()).map_err(|_| wrong())?;
    if is_called(&host.to_str(), name) { Ok(()) } else { Err(wrong()) }
}

fn has_alternatives(cert: &Certificate) -> bool {
    let names = cert.tbs_certificate.get::<SubjectAltName>();
    let is_host =
        |name: &GeneralName| matches!(name, GeneralName::DnsName(_) | GeneralName::IpAddress(_));
    match names {
        Ok(Some((_, names))) => names.0.iter().any(is_host),
        Ok(None) => false,
        // It has some that cannot be read.
        Err(_) => true,
    }
}

/// A star stands for the first label, and for nothing else.
fn is_called(host: &str, name: &str) -> bool {
    let is_same = host.eq_ignore_ascii_case(name);
    let rest = name.strip_prefix("*.").zip(host.split_once('.'));
    is_same || rest.is_some_and(|(wanted, (_, given))| given.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(is_called("db.example.org", "DB.example.org"));
        assert!(is_called("db.example.org", "*.example.org"));
        assert!(!is_called("a.db.example.org", "*.example.org"));
        assert!(!is_called("example.org", "*.example.org"));
        assert!(!is_called("db.example.org", "*.db.example.org"));
    }
}
