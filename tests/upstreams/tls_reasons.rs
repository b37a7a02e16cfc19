//! The cause of a failed TLS handshake, with its remedy: clients get the cause, the operator's log and status have
//! both.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::secrets::file;
use crate::jwt;
use crate::status::{has_begun, has_ended};
use crate::support::gateway::Builder;
use crate::support::{Gateway, Scratch, Upstream, wait_for};

/// An authority, and its key in DER.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    key: Vec<u8>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let pair = KeyPair::generate().unwrap();
    let key = pair.serialize_der();
    Authority { issuer: CertifiedIssuer::self_signed(params, pair).unwrap(), key }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A server with this certificate and key; with an authority it requires client certificates from it.
fn server(certificate: &CertificateDer<'static>, key: Vec<u8>, clients: Option<&Authority>) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
    builder.with_single_cert(vec![certificate.clone()], key).unwrap()
}

/// A valid certificate for `name` after one change, and its key.
fn certificate(
    authority: &Authority,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateDer<'static>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    change(&mut params);
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    (certificate.der().clone(), key.serialize_der())
}

fn issued(authority: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
    let (certificate, key) = certificate(authority, name, change);
    server(&certificate, key, None)
}

/// A server with a replaceable certificate; without one it uses plain HTTP.
struct Server {
    address: SocketAddr,
    tls: Arc<Mutex<Option<Arc<ServerConfig>>>>,
}

impl Server {
    async fn start(config: Option<ServerConfig>) -> Self {
        let tls = Arc::new(Mutex::new(config.map(Arc::new)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, of_server) = (listener.local_addr().unwrap(), Arc::clone(&tls));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let config = of_server.lock().unwrap().clone();
                tokio::spawn(async move {
                    let Some(config) = config else {
                        let _ = stream.read(&mut [0; 1024]).await;
                        let _ =
                            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
                        return;
                    };
                    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                    if stream.read(&mut [0; 4096]).await.is_ok() {
                        let _ = stream
                            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx")
                            .await;
                        let _ = stream.shutdown().await;
                    }
                });
            }
        });
        Self { address, tls }
    }

    fn change(&self, config: ServerConfig) {
        *self.tls.lock().unwrap() = Some(Arc::new(config));
    }

    /// A gateway with the endpoint `localhost` that trusts only this authority.
    fn gateway(&self, trusted: &Authority, directory: &Scratch) -> Builder {
        let ca = file(directory.path(), "ca.pem", &trusted.issuer.pem(), 0o644);
        Gateway::builder()
            .set("buckets.b.auth", "anonymous")
            .set("buckets.b.s3.endpoints", &format!("https://localhost:{}", self.address.port()))
            .set("buckets.b.s3.retry.max_attempts", "1")
            .set("buckets.b.s3.tls.ca_file", ca.to_str().unwrap())
            .set("buckets.b.s3.tls.system_roots", "false")
    }
}

async fn cause(gateway: &Gateway) -> Option<Value> {
    let status = gateway.status().await;
    status["causes"].as_array().unwrap().iter().find(|cause| cause["code"] == "upstream_tls").cloned()
}

/// Servers with one fault each: the client's text, and the operator's additional text.
fn faults(trusted: &Authority) -> Vec<(Option<ServerConfig>, &'static str, Vec<&'static str>)> {
    let (other, same_name) = (authority("other"), authority("trusted"));
    let year = |from, to| {
        move |params: &mut CertificateParams| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
    };
    let (sound, key) = certificate(trusted, "localhost", |_| {});
    let demanding = server(&sound, key, Some(&other));
    let own = server(trusted.issuer.der(), trusted.key.clone(), None);
    let two = |params: &mut CertificateParams| {
        params
            .subject_alt_names
            .extend(CertificateParams::new(vec!["b.example".to_owned()]).unwrap().subject_alt_names);
    };
    let clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    vec![
        (Some(own), "the certificate of an authority as its own", vec!["CA:FALSE", "tls.ca_file"]),
        (
            Some(issued(&other, "localhost", |_| {})),
            "no authority that the gateway trusts",
            vec!["tls.ca_file"],
        ),
        (
            Some(issued(&same_name, "localhost", |_| {})),
            "does not match its issuer's key",
            vec!["tls.ca_file"],
        ),
        (
            Some(issued(trusted, "a.example", two)),
            "is for other names",
            vec!["localhost", "a.example, b.example", "endpoints"],
        ),
        (Some(issued(trusted, "localhost", year(2020, 2021))), "has expired", vec!["Jan 2021", "clock"]),
        (Some(issued(trusted, "localhost", year(2100, 2101))), "is not valid yet", vec!["Jan 2100", "clock"]),
        (Some(issued(trusted, "localhost", clients)), "is not meant for servers", vec!["serverAuth"]),
        (Some(demanding), "requires a client certificate", vec!["turn client authentication off"]),
        (None, "is not TLS", vec!["http://"]),
    ]
}

/// A7, E4, O4, X10: each cause has its text in the answer, and text and remedy in the access log, the log and the
/// status
#[tokio::test]
async fn a_failed_handshake_has_its_cause_and_remedy() {
    let trusted = authority("trusted");
    for (config, words, operators) in faults(&trusted) {
        let is_late = words.contains("client certificate");
        let (server, directory) = (Server::start(config).await, Scratch::new());
        let gateway = server.gateway(&trusted, &directory).start().await;
        let answer = gateway.get("/b/k").await;
        assert_eq!(
            (answer.complete_status(), answer.reason()),
            (502, "upstream_tls"),
            "{words}: {}",
            answer.text()
        );
        assert!(
            answer.text().contains(&words.replace('\'', "&apos;")) || answer.text().contains(words),
            "{words}: {}",
            answer.text()
        );
        assert!(
            operators.iter().all(|part| *part == "localhost" || !answer.text().contains(part)),
            "{}",
            answer.text()
        );
        let line = gateway.wait_for_log_line("request", |line| line["reason"] == "upstream_tls").await;
        let detail = line["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words) && operators.iter().all(|part| detail.contains(part)), "{detail}");
        if is_late {
            // With TLS 1.3 the gateway's handshake is complete by then.
            continue;
        }
        assert_eq!(gateway.get("/b/k").await.complete_status(), 502);
        let lines = || {
            let all = gateway.log_lines().into_iter();
            all.filter(|line| line["msg"] == "TLS handshake with the endpoint failed").collect::<Vec<_>>()
        };
        let endpoint = format!("localhost:{}", server.address.port());
        wait_for("it is logged", || async { (!lines().is_empty()).then_some(()) }).await;
        assert_eq!(lines().len(), 1, "once");
        assert_eq!(
            (&lines()[0]["bucket"], &lines()[0]["endpoint"]),
            (&"b".into(), &endpoint.as_str().into())
        );
        assert_eq!(lines()[0]["error"], detail.as_str());
        let cause = cause(&gateway).await.unwrap();
        assert_eq!(
            (&cause["scope"]["bucket"], &cause["scope"]["name"], cause["message"].as_str()),
            (&"b".into(), &endpoint.as_str().into(), Some(format!("{endpoint}: {detail}").as_str()))
        );
        assert!(cause["since_ms"].is_u64());
    }
}

/// A7, X8, X10: the cause ends with the first handshake that succeeds
#[tokio::test]
async fn a_renewed_certificate_ends_the_cause() {
    let (trusted, directory) = (authority("trusted"), Scratch::new());
    let expired = issued(&trusted, "localhost", |params| params.not_after = date_time_ymd(2021, 1, 1));
    let server = Server::start(Some(expired)).await;
    let gateway = server.gateway(&trusted, &directory).start().await;
    assert_eq!(gateway.get("/b/k").await.complete_status(), 502);
    has_begun(&gateway, "upstream_tls", "b").await;
    server.change(issued(&trusted, "localhost", |_| {}));
    assert_eq!(gateway.get("/b/k").await.complete_status(), 200);
    assert_eq!(cause(&gateway).await, None);
    assert_eq!(has_ended(&gateway, "upstream_tls", "b").await["refused"], 1);
    gateway
        .wait_for_log_line("TLS handshake with the endpoint succeeds again", |line| line["bucket"] == "b")
        .await;
}

/// A7, P5: a health check reports the same cause
#[tokio::test]
async fn a_health_check_reports_the_tls_cause() {
    let (trusted, directory) = (authority("trusted"), Scratch::new());
    let server = Server::start(Some(server(trusted.issuer.der(), trusted.key.clone(), None))).await;
    let gateway =
        server.gateway(&trusted, &directory).set("buckets.b.s3.health_check.path", "/up").start().await;
    let line = gateway.wait_for_log_line("health check failed", |_| true).await;
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("certificate of an authority") && error.contains("CA:FALSE"), "{error}");
}

/// A3, A7: a fetch of token keys reports the same cause
#[tokio::test]
async fn a_fetch_of_token_keys_reports_the_tls_cause() {
    let (trusted, directory, upstream) = (authority("trusted"), Scratch::new(), Upstream::ok("x"));
    let server = Server::start(Some(issued(&trusted, "keys.example", |_| {}))).await;
    let ca = file(directory.path(), "ca.pem", &trusted.issuer.pem(), 0o644);
    let gateway = jwt::buckets(&upstream)
        .set("jwt.jwks_url", &format!("https://localhost:{}/keys", server.address.port()))
        .set("jwt.tls.ca_file", ca.to_str().unwrap())
        .set("jwt.tls.system_roots", "false")
        .start()
        .await;
    let line = gateway.wait_for_log_line("token keys cannot be refreshed", |_| true).await;
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("for other names") && error.contains("keys.example"), "{error}");
}

/// A2, A7: the credential endpoint reports the same cause
#[tokio::test]
async fn a_renewal_of_credentials_reports_the_tls_cause() {
    let (trusted, directory, upstream) = (authority("trusted"), Scratch::new(), Upstream::ok("x"));
    let server = Server::start(Some(issued(&authority("other"), "localhost", |_| {}))).await;
    let ca = file(directory.path(), "ca.pem", &trusted.issuer.pem(), 0o644);
    let url = format!("https://localhost:{}/credentials", server.address.port());
    let gateway = Gateway::builder()
        .bucket("b", &upstream)
        .set("buckets.b.s3.container_credentials.url", &url)
        .set("buckets.b.s3.tls.ca_file", ca.to_str().unwrap())
        .set("buckets.b.s3.tls.system_roots", "false")
        .start()
        .await;
    let line = gateway.wait_for_log_line("credentials cannot be renewed", |_| true).await;
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("no authority that the gateway trusts") && error.contains("tls.ca_file"),
        "{error}"
    );
}
