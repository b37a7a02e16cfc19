//! Session tickets: keys and their rotation, what a ticket is bound to, and handshakes of rustls with them.

use std::io::{Read, Write};

use proptest::prelude::*;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion, version,
};

use super::*;

const NAME: &str = "gateway.test";
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

fn chain() -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(vec![1, 2, 3]), CertificateDer::from(vec![4, 5])]
}

fn ticketer(keys: &Arc<TicketKeys>) -> Ticketer {
    Ticketer::new(keys, TicketBinding::new("server.tls", &[b"h2"], &chain()))
}

fn new_keys() -> Arc<TicketKeys> {
    Arc::new(TicketKeys::generate())
}

/// The keys of a successor.
fn successor(keys: &TicketKeys) -> Arc<TicketKeys> {
    Arc::new(TicketKeys::import(&keys.export()).unwrap())
}

/// A7: a ticket has the layout of RFC 5077, 4, hides the state, and is different for each session
#[test]
fn a_ticket_has_the_recommended_layout() {
    let ticketer = ticketer(&new_keys());
    let state = b"the state of a session";
    let [one, two] = [(); 2].map(|()| ticketer.encrypt(state).unwrap());
    assert_eq!(one.len(), 16 + 12 + state.len() + 16);
    assert_eq!(one[..16], two[..16], "the name of the key");
    assert_ne!(one[16..28], two[16..28], "the nonce");
    assert!(!one.windows(5).any(|window| state.windows(5).any(|part| part == window)));
    for ticket in [one, two] {
        assert_eq!(ticketer.decrypt(&ticket).unwrap(), state);
    }
    assert_eq!((ticketer.enabled(), ticketer.lifetime()), (true, 12 * 3600));
}

/// A7: a ticket of another listener, certificate, chain or list of protocols cannot be opened
#[test]
fn a_ticket_is_bound_to_listener_certificates_and_protocols() {
    let keys = new_keys();
    let ticket = ticketer(&keys).encrypt(b"state").unwrap();
    let certificate = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
    for (what, binding) in [
        ("listener", TicketBinding::new("admin.tls", &[b"h2"], &chain())),
        (
            "certificate",
            TicketBinding::new("server.tls", &[b"h2"], &[certificate(&[1, 2, 4]), certificate(&[4, 5])]),
        ),
        ("shorter chain", TicketBinding::new("server.tls", &[b"h2"], &chain()[..1])),
        (
            "other borders",
            TicketBinding::new("server.tls", &[b"h2"], &[certificate(&[1, 2]), certificate(&[3, 4, 5])]),
        ),
        ("protocols", TicketBinding::new("server.tls", &[b"h2", b"http/1.1"], &chain())),
        ("no protocol", TicketBinding::new("server.tls", &[], &chain())),
    ] {
        assert_eq!(Ticketer::new(&keys, binding).decrypt(&ticket), None, "{what}");
    }
    assert_eq!(ticketer(&new_keys()).decrypt(&ticket), None, "another process");
    assert_eq!(ticketer(&keys).decrypt(&ticket).unwrap(), b"state");
}

/// A7: a key seals tickets for 6 h and is accepted for 12 h, then it is erased
#[tokio::test(start_paused = true)]
async fn keys_rotate() {
    let keys = new_keys();
    let ticketer = ticketer(&keys);
    let seal = || ticketer.encrypt(b"state").unwrap();
    let first = seal();
    tokio::time::advance(6 * HOUR - SECOND).await;
    let late = seal();
    assert_eq!(first[..16], late[..16]);
    tokio::time::advance(2 * SECOND).await;
    let second = seal();
    assert_ne!(second[..16], late[..16]);
    assert_eq!(ticketer.decrypt(&late).unwrap(), b"state");
    assert_eq!(keys.export().len(), 1 + 2 * EXPORTED_BYTES);
    tokio::time::advance(6 * HOUR - 2 * SECOND).await;
    assert_eq!(ticketer.decrypt(&first).unwrap(), b"state");
    tokio::time::advance(2 * SECOND).await;
    assert_eq!(ticketer.decrypt(&late), None);
    assert_eq!(ticketer.decrypt(&second).unwrap(), b"state");
    // A process without handshakes erases by time too.
    tokio::time::advance(20 * HOUR).await;
    keys.rotate(clock::now());
    assert_eq!(keys.export().len(), 1 + EXPORTED_BYTES);
    assert_eq!(ticketer.decrypt(&second), None);
}

/// G8: a successor opens the tickets of its predecessor for the rest of their time, and seals with the same key
#[tokio::test(start_paused = true)]
async fn exported_keys_open_tickets_in_another_process() {
    let keys = new_keys();
    let old = ticketer(&keys).encrypt(b"old").unwrap();
    tokio::time::advance(7 * HOUR).await;
    let new = ticketer(&keys).encrypt(b"new").unwrap();
    let successor = ticketer(&successor(&keys));
    assert_eq!(successor.decrypt(&old).unwrap(), b"old");
    assert_eq!(successor.decrypt(&new).unwrap(), b"new");
    assert_eq!(ticketer(&keys).decrypt(&successor.encrypt(b"back").unwrap()).unwrap(), b"back");
    tokio::time::advance(5 * HOUR + SECOND).await;
    assert_eq!(successor.decrypt(&old), None, "12 h after the key was made");
    assert_eq!(successor.decrypt(&new).unwrap(), b"new");
}

/// G8: exports of another version or length are refused; a remaining time is never longer than that of a new key
#[tokio::test(start_paused = true)]
async fn invalid_exports_are_refused() {
    let exported = new_keys().export();
    let refused = |bytes: &[u8]| TicketKeys::import(bytes).err() == Some(TicketKeysError);
    assert!((0..exported.len()).filter(|length| *length != 1).all(|length| refused(&exported[..length])));
    assert!(refused(&[&[2], &exported[1..]].concat()), "version");
    assert!(refused(&[&exported[..], &exported[1..], &exported[1..]].concat()), "three keys");
    assert!(refused(&[&exported[..], &[0]].concat()));
    let mut long = exported.to_vec();
    long[1 + NAME_BYTES..][..8].fill(0xff);
    let keys = Arc::new(TicketKeys::import(&long).unwrap());
    let ticket = ticketer(&keys).encrypt(b"state").unwrap();
    tokio::time::advance(12 * HOUR + SECOND).await;
    assert_eq!(ticketer(&keys).decrypt(&ticket), None);
    // A predecessor without random bytes exports no key: the successor makes its own.
    let keys = Arc::new(TicketKeys::import(&[EXPORT_VERSION]).unwrap());
    assert!(ticketer(&keys).encrypt(b"state").is_some());
    assert_eq!(format!("{:?}", ticketer(&keys)), "Ticketer { keys: TicketKeys, binding: TicketBinding }");
}

/// A7: a state that is too long gets no ticket, and a ticket that is too long is not opened
#[test]
fn long_states_get_no_ticket() {
    let ticketer = ticketer(&new_keys());
    let longest = TICKET_BYTES_MAX - 44;
    let ticket = ticketer.encrypt(&vec![7; longest]).unwrap();
    assert_eq!((ticket.len(), ticketer.decrypt(&ticket).unwrap().len()), (TICKET_BYTES_MAX, longest));
    assert_eq!(ticketer.encrypt(&vec![7; longest + 1]), None);
    assert_eq!(ticketer.decrypt(&[&ticket[..], &[0]].concat()), None);
}

proptest! {
    /// A7, Bad input: no bytes of a client open as a ticket, or panic: neither garbage nor a changed ticket
    #[test]
    fn no_garbage_is_opened(
        garbage in proptest::collection::vec(any::<u8>(), 0..1200),
        state in proptest::collection::vec(any::<u8>(), 0..200),
        (at, bit, cut) in (any::<proptest::sample::Index>(), 0..8_u8, any::<proptest::sample::Index>()),
    ) {
        let ticketer = ticketer(&new_keys());
        prop_assert_eq!(ticketer.decrypt(&garbage), None);
        let ticket = ticketer.encrypt(&state).unwrap();
        prop_assert_eq!(ticketer.decrypt(&ticket[..cut.index(ticket.len())]), None);
        let mut changed = ticket.clone();
        changed[at.index(ticket.len())] ^= 1 << bit;
        prop_assert_eq!(ticketer.decrypt(&changed), None);
        prop_assert_eq!(ticketer.decrypt(&[&ticket[..16], &garbage].concat()), None);
        prop_assert_eq!(ticketer.decrypt(&ticket), Some(state));
        let _ = TicketKeys::import(&garbage);
    }
}

/// A server configuration with a ticketer, and the client configuration that trusts its certificate.
fn tls_pair(keys: &Arc<TicketKeys>, certified: &CertifiedKey<rcgen::KeyPair>) -> ServerConfig {
    let chain = vec![certified.cert.der().clone()];
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let ticketer = Ticketer::new(keys, TicketBinding::new("server.tls", &[], &chain));
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.ticketer = Arc::new(ticketer);
    config
}

fn client(
    certified: &CertifiedKey<rcgen::KeyPair>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A handshake in memory, and one byte from the server, after which the client has its tickets.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(NAME).unwrap()).unwrap();
    let mut bytes = Vec::new();
    let mut is_sent = false;
    while client.wants_write() || server.wants_write() || !is_sent {
        if !is_sent && !server.is_handshaking() && !server.wants_write() {
            server.writer().write_all(b"x").unwrap();
            is_sent = true;
        }
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets().unwrap();
        bytes.clear();
    }
    client.reader().read_exact(&mut [0]).unwrap();
    assert_eq!(client.handshake_kind(), server.handshake_kind());
    client.handshake_kind().unwrap()
}

/// A7, G8: clients resume their sessions at a successor with the exported keys, and not at another process
#[test]
fn sessions_resume_at_a_successor() {
    let certified = generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let keys = new_keys();
    let server = |keys: &Arc<TicketKeys>| Arc::new(tls_pair(keys, &certified));
    for version in [&version::TLS12, &version::TLS13] {
        let client = client(&certified, version);
        let predecessor = server(&keys);
        assert_eq!(handshake(&predecessor, &client), HandshakeKind::Full);
        assert_eq!(handshake(&predecessor, &client), HandshakeKind::Resumed);
        assert_eq!(handshake(&server(&successor(&keys)), &client), HandshakeKind::Resumed);
        assert_eq!(handshake(&server(&new_keys()), &client), HandshakeKind::Full);
    }
}
