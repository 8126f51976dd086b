//! libpq's rules, against a server that shows certificates of openssl.

use super::*;
use crate::tls::made::{NEW, openssl, self_signed};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::tls::MakeTlsConnect;

fn login(extra: &[(&str, String)]) -> Login {
    let mut login = Login::default();
    login.extra.extend(extra.iter().map(|(key, value)| (key.to_string(), value.clone())));
    login
}

/// Shakes hands with a server that shows `name.crt`; the error is the client's.
async fn shake(
    dir: &Path,
    name: &str,
    host: &str,
    login: &Login,
    mode: &str,
) -> Result<(), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = CertificateDer::pem_file_iter(dir.join(format!("{name}.crt"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
    let resolver = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let shown = rustls::sign::CertifiedKey::new(chain.map(|c| c.unwrap()).collect(), resolver);
    // A plain certificate is refused by the usual ways of setting one.
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(stream).await;
    });
    let mut maker = connector(login, mode).map_err(|e| e.to_string())?;
    let stream = TcpStream::connect(address).await.unwrap();
    assert!(ServerName::try_from(host.to_string()).is_ok());
    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, host).unwrap();
    use tokio_postgres::tls::TlsConnect;
    tls.connect(stream).await.map(|_| ()).map_err(|e| e.to_string())
}

#[test]
fn verification_without_a_root_is_refused() {
    let files = Files { login: &Login::default(), home: None };
    let why = files.believed("verify-ca").err().unwrap().to_string();
    assert!(why.contains("sslrootcert"), "{why}");
    assert!(files.believed("require").is_ok());
}

#[test]
fn a_root_that_cannot_be_read_is_named() {
    let login = login(&[("sslrootcert", "/nowhere/root.crt".into())]);
    let why = connector(&login, "require").err().unwrap().to_string();
    assert!(why.contains("/nowhere/root.crt"), "{why}");
}

#[test]
fn what_is_not_named_is_looked_for_where_libpq_looks() {
    let home = tempfile::tempdir().unwrap();
    for name in ["root.crt", "postgresql.crt", "postgresql.key"] {
        std::fs::write(home.path().join(name), "").unwrap();
    }
    let login = login(&[("sslkey", "/own.key".into())]);
    let files = Files { login: &login, home: Some(home.path().to_path_buf()) };
    assert_eq!(files.believed("require").unwrap().trust, Trust::Chain);
    let own = files.own();
    assert_eq!(own.cert, Some(home.path().join("postgresql.crt")));
    assert_eq!(own.key, Some("/own.key".into()));
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let dir = tempfile::tempdir().unwrap();
    self_signed(dir.path(), "all");
    self_signed(dir.path(), "other");
    let root = |name: &str| dir.path().join(name).display().to_string();
    let right = login(&[("sslrootcert", root("all.crt"))]);
    let wrong = login(&[("sslrootcert", root("other.crt"))]);
    for mode in ["require", "verify-ca", "verify-full"] {
        shake(dir.path(), "all", "127.0.0.1", &right, mode).await.expect(mode);
        shake(dir.path(), "all", "127.0.0.1", &wrong, mode).await.expect_err(mode);
    }
    shake(dir.path(), "all", "elsewhere", &right, "verify-ca").await.expect("no name is asked for");
    shake(dir.path(), "all", "elsewhere", &right, "verify-full").await.expect_err("a wrong name");
    shake(dir.path(), "all", "elsewhere", &login(&[]), "prefer").await.expect("anybody");
}

/// The recipe of PostgreSQL's documentation: the server's certificate has no
/// extensions and is called by its common name.
#[tokio::test]
async fn certificates_made_by_the_manual_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), &format!("{NEW} -subj /CN=authority -keyout ca.key -out ca.crt"));
    let request = "req -new -newkey rsa:2048 -nodes -subj /CN=db.example.org";
    openssl(dir.path(), &format!("{request} -keyout plain.key -out plain.csr"));
    let sign = "x509 -req -in plain.csr -days 2 -CA ca.crt -CAkey ca.key -CAcreateserial";
    openssl(dir.path(), &format!("{sign} -out plain.crt"));
    openssl(dir.path(), &format!("{NEW} -subj /CN=authority -keyout x.key -out x.crt"));
    let root = |name: &str| dir.path().join(name).display().to_string();
    let right = login(&[("sslrootcert", root("ca.crt"))]);
    let wrong = login(&[("sslrootcert", root("x.crt"))]);
    shake(dir.path(), "plain", "127.0.0.1", &login(&[]), "require").await.expect("anybody");
    shake(dir.path(), "plain", "127.0.0.1", &right, "verify-ca").await.expect("signed");
    shake(dir.path(), "plain", "127.0.0.1", &wrong, "verify-ca").await.expect_err("not signed");
    shake(dir.path(), "plain", "db.example.org", &right, "verify-full").await.expect("the name");
    shake(dir.path(), "plain", "127.0.0.1", &right, "verify-full").await.expect_err("the name");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    openssl(dir.path(), &format!("{NEW} -subj /CN=authority -keyout ca.key -out ca.crt"));
    for name in ["good", "bad"] {
        let end = "-addext basicConstraints=critical,CA:FALSE -CA ca.crt -CAkey ca.key";
        openssl(
            dir.path(),
            &format!("{NEW} -subj /CN={name} {end} -keyout {name}.key -out {name}.crt"),
        );
    }
    let authority = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\n\
                     default_crl_days=2\ncrlnumber=number\ncrl_extensions=e\n\
                     [e]\nauthorityKeyIdentifier=keyid:always\n";
    std::fs::write(dir.path().join("ca.conf"), authority).unwrap();
    std::fs::write(dir.path().join("index"), "").unwrap();
    std::fs::write(dir.path().join("number"), "01\n").unwrap();
    let ca = "ca -config ca.conf -cert ca.crt -keyfile ca.key";
    openssl(dir.path(), &format!("{ca} -revoke bad.crt"));
    openssl(dir.path(), &format!("{ca} -gencrl -out ca.crl"));
    std::fs::create_dir(dir.path().join("lists")).unwrap();
    std::fs::copy(dir.path().join("ca.crl"), dir.path().join("lists/1.r0")).unwrap();
    let file = |name: &str| dir.path().join(name).display().to_string();
    for (key, value) in [("sslcrl", file("ca.crl")), ("sslcrldir", file("lists"))] {
        let login = login(&[("sslrootcert", file("ca.crt")), (key, value)]);
        shake(dir.path(), "good", "h", &login, "verify-ca").await.expect(key);
        let why = shake(dir.path(), "bad", "h", &login, "verify-ca").await.unwrap_err();
        assert!(why.contains("Revoked"), "{why}");
    }
    let empty = login(&[("sslrootcert", file("ca.crt")), ("sslcrl", file("index"))]);
    assert!(shake(dir.path(), "good", "h", &empty, "verify-ca").await.is_err());
}
