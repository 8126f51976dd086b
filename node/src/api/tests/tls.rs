//! One self-signed certificate as authority, server and client at once.

use super::member::{Member, WAIT_MAX};
use super::*;
use crate::peers::Peers;
use crate::tls::{Believed, Own, Trust, client_config};
use std::path::PathBuf;
use std::process::Command;

pub(super) struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A certificate with CA:TRUE and no key usage, made by openssl.
pub(super) fn self_signed(directory: &tempfile::TempDir, name: &str) -> Pair {
    let cert = directory.path().join(format!("{name}.crt"));
    let key = directory.path().join(format!("{name}.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "30", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=DNS:elsewhere.example"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Pair { cert, key }
}

pub(super) fn restapi(pair: &Pair, verify_client: &str) -> RestApi {
    RestApi {
        certfile: Some(pair.cert.clone()),
        keyfile: Some(pair.key.clone()),
        cafile: Some(pair.cert.clone()),
        verify_client: verify_client.to_string(),
        ..RestApi::default()
    }
}

pub(super) fn client(trust: Trust, ca: &Pair, own: Option<&Pair>) -> reqwest::Client {
    let own = own.map(|pair| Own { cert: &pair.cert, key: Some(&pair.key), password: None });
    let config = client_config(Believed::new(trust, Some(&ca.cert)), own).unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(config);
    builder.no_proxy().timeout(WAIT_MAX).build().unwrap()
}

async fn reload(client: &reqwest::Client, member: &Member) -> Option<(u16, String)> {
    let url = format!("https://{}/reload", member.handle.addresses[0]);
    let answer = client.post(url).send().await.ok()?;
    Some((answer.status().as_u16(), answer.text().await.ok()?))
}

#[tokio::test]
async fn a_self_signed_authority_is_server_and_client_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (self_signed(&directory, "ours"), self_signed(&directory, "other"));
    let member = Member::start(published("n1"), primary(), restapi(&ours, "required")).await;
    let scheduled = Some((202, "reload scheduled".to_string()));
    let with_it = client(Trust::Chain, &ours, Some(&ours));
    assert_eq!(reload(&with_it, &member).await, scheduled);
    assert_eq!(reload(&client(Trust::Anyone, &ours, None), &member).await, None);
    assert_eq!(reload(&client(Trust::Anyone, &ours, Some(&other)), &member).await, None);
    assert_eq!(reload(&client(Trust::Chain, &other, Some(&ours)), &member).await, None);
}

#[tokio::test]
async fn an_optional_certificate_is_needed_only_to_change_something() {
    let directory = tempfile::tempdir().unwrap();
    let ours = self_signed(&directory, "ours");
    let member = Member::start(published("n1"), primary(), restapi(&ours, "optional")).await;
    let without = client(Trust::Anyone, &ours, None);
    let refused = Some((403, "client certificate required".to_string()));
    assert_eq!(reload(&without, &member).await, refused);
    let url = format!("https://{}/primary", member.handle.addresses[0]);
    assert_eq!(without.get(url).send().await.unwrap().status(), 200);
    let with_it = client(Trust::Anyone, &ours, Some(&ours));
    assert_eq!(reload(&with_it, &member).await.unwrap().0, 202);
}

#[tokio::test]
async fn members_ask_each_other_with_their_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let ours = self_signed(&directory, "ours");
    let member = Member::start(published("n2"), standby(), restapi(&ours, "required")).await;
    let api_url = format!("https://{}/patroni", member.handle.addresses[0]);
    let mut settings = settings(RestApi::default());
    let without = Peers::new(&settings).unwrap();
    assert_eq!(without.status(&api_url).await, None);
    settings.ctl.cacert = Some(ours.cert.clone());
    settings.ctl.certfile = Some(ours.cert.clone());
    settings.ctl.keyfile = Some(ours.key.clone());
    let with_it = Peers::new(&settings).unwrap();
    assert_eq!(with_it.status(&api_url).await.unwrap().lsn, Lsn(67108960));
}

/// A daemon without a certificate trusts every server; one that has a certificate
/// verifies the server's chain, and never its host name.
#[tokio::test]
async fn which_members_a_daemon_believes_depends_on_its_own_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, other) = (self_signed(&directory, "ours"), self_signed(&directory, "other"));
    let member = Member::start(published("n2"), standby(), restapi(&ours, "none")).await;
    let api_url = format!("https://{}/patroni", member.handle.addresses[0]);
    let believes = async |ca: &PathBuf, own: bool, insecure: bool| {
        let mut settings = settings(RestApi::default());
        settings.ctl.cacert = Some(ca.clone());
        settings.ctl.insecure = insecure;
        settings.ctl.certfile = own.then(|| other.cert.clone());
        settings.ctl.keyfile = own.then(|| other.key.clone());
        Peers::new(&settings).unwrap().status(&api_url).await.is_some()
    };
    assert!(believes(&other.cert, false, false).await);
    assert!(!believes(&other.cert, true, false).await, "of another authority");
    assert!(believes(&other.cert, true, true).await);
    assert!(believes(&ours.cert, true, false).await, "its certificate is for elsewhere.example");
    let all = directory.path().to_path_buf();
    assert!(believes(&all, true, false).await, "authorities of a directory");
}

#[test]
fn a_missing_file_is_named() {
    let missing = PathBuf::from("nowhere.crt");
    let error = client_config(Believed::new(Trust::Chain, Some(&missing)), None).unwrap_err();
    assert!(error.to_string().contains("nowhere.crt"), "{error}");
}
