//! TLS session tickets (RFC 5077, RFC 8446, 4.6.1): the state of a session is at the client, sealed under a key of this process.
//!
//! [`TicketKeys`] holds the secrets of the process: one that seals new tickets for 6 h, and the one before it. Each secret is
//! accepted for 12 h and erased then, so a ticket is accepted for at least 6 h and at most 12 h. A successor imports the secrets of its
//! predecessor, so clients resume their sessions across an upgrade.
//!
//! A ticket is sealed with a key that is derived (RFC 5869) from a secret and a [`TicketBinding`]: listener, certificates and
//! protocols. So a ticket of the data listener, of another certificate or of other protocols cannot be opened, and the client
//! gets a full handshake. The layout of a ticket is that of RFC 5077, 4: key name, nonce, encrypted state, tag. Reasons are
//! in `docs/design/client-connections.md`.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::hkdf::{HKDF_SHA256, Prk};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;
use thiserror::Error;
use tidegate_actors::clock;
use zeroize::Zeroizing;

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// How long a secret is accepted after it was made.
const ACCEPT_SECONDS: u32 = 12 * 3600;
const ACCEPT_FOR: Duration = Duration::from_secs(ACCEPT_SECONDS as u64);
/// How long a secret seals new tickets.
const SEAL_FOR: Duration = Duration::from_secs(6 * 3600);
/// The longest ticket. The state of a session without client certificates has less than 600 bytes.
const TICKET_BYTES_MAX: usize = 1024;
/// The first byte of exported secrets.
const EXPORT_VERSION: u8 = 1;
/// A secret in an export: its name, its remaining milliseconds, its bytes.
const EXPORTED_BYTES: usize = NAME_BYTES + size_of::<u64>() + SECRET_BYTES;
/// Separates these keys from others of the same secret.
const LABEL: &[u8] = b"tidegate TLS ticket 1";

/// Exported ticket keys of another format.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the TLS ticket keys have an unknown format")]
pub(crate) struct TicketKeysError;

/// The secrets of a process for session tickets.
pub(crate) struct TicketKeys(RwLock<Secrets>);

/// At most two secrets. None without random bytes of the system: no ticket is sealed then.
#[derive(Default)]
struct Secrets {
    current: Option<TicketSecret>,
    previous: Option<TicketSecret>,
}

struct TicketSecret {
    name: [u8; NAME_BYTES],
    /// On the heap, so that a moved secret leaves no copy behind.
    bytes: Zeroizing<Vec<u8>>,
    expires: Instant,
}

impl TicketKeys {
    /// New random secrets.
    pub(crate) fn generate() -> Self {
        let keys = Self(RwLock::default());
        keys.rotate(clock::now());
        keys
    }

    /// The secrets with their remaining times, for the successor.
    pub(crate) fn export(&self) -> Zeroizing<Vec<u8>> {
        self.export_at(clock::now())
    }

    fn export_at(&self, now: Instant) -> Zeroizing<Vec<u8>> {
        self.rotate(now);
        // A vector that grows would leave copies behind that are not erased.
        let mut exported = Zeroizing::new(Vec::with_capacity(1 + 2 * EXPORTED_BYTES));
        exported.push(EXPORT_VERSION);
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for secret in [&secrets.current, &secrets.previous].into_iter().flatten() {
            let remaining = u64::try_from(secret.remaining(now).as_millis()).unwrap_or(0);
            exported.extend_from_slice(&secret.name);
            exported.extend_from_slice(&remaining.to_be_bytes());
            exported.extend_from_slice(&secret.bytes);
        }
        exported
    }

    /// The secrets of a predecessor.
    ///
    /// # Errors The bytes are not those of `export`.
    pub(crate) fn import(exported: &[u8]) -> Result<Self, TicketKeysError> {
        Self::import_at(exported, clock::now())
    }

    fn import_at(exported: &[u8], now: Instant) -> Result<Self, TicketKeysError> {
        let (version, exported) = exported.split_first().ok_or(TicketKeysError)?;
        let (each, rest) = exported.as_chunks::<EXPORTED_BYTES>();
        if *version != EXPORT_VERSION || each.len() > 2 || !rest.is_empty() {
            return Err(TicketKeysError);
        }
        let mut secrets = Secrets::default();
        for (secret, exported) in [&mut secrets.current, &mut secrets.previous].into_iter().zip(each) {
            *secret = Some(TicketSecret::import(exported, now).ok_or(TicketKeysError)?);
        }
        let keys = Self(RwLock::new(secrets));
        keys.rotate(now);
        Ok(keys)
    }

    /// Erases expired secrets, and replaces one that has sealed tickets for 6 h.
    pub(crate) fn rotate(&self, now: Instant) {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).is_due(now) {
            self.0.write().unwrap_or_else(PoisonError::into_inner).rotate(now);
        }
    }

    /// The key that seals a ticket, with the name of its secret.
    fn sealing(&self, binding: &TicketBinding) -> Option<([u8; NAME_BYTES], LessSafeKey)> {
        self.rotate(clock::now());
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.current.as_ref()?;
        Some((secret.name, secret.derive(binding)?))
    }

    /// The key that opens a ticket of the secret with this name.
    fn opening(&self, name: &[u8], binding: &TicketBinding) -> Option<LessSafeKey> {
        self.rotate(clock::now());
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut each = [&secrets.current, &secrets.previous].into_iter().flatten();
        each.find(|secret| secret.name == name)?.derive(binding)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl Secrets {
    fn is_due(&self, now: Instant) -> bool {
        !self.current.as_ref().is_some_and(|current| current.seals(now))
            || self.previous.as_ref().is_some_and(|previous| previous.remaining(now).is_zero())
    }

    fn rotate(&mut self, now: Instant) {
        if !self.current.as_ref().is_some_and(|current| current.seals(now)) {
            // Without random bytes the current secret stays in use until it expires.
            match TicketSecret::random(now) {
                Some(next) => self.previous = self.current.replace(next),
                None => drop(self.current.take_if(|current| current.remaining(now).is_zero())),
            }
        }
        self.previous.take_if(|previous| previous.remaining(now).is_zero());
    }
}

impl TicketSecret {
    fn random(now: Instant) -> Option<Self> {
        let (mut name, mut bytes) = ([0; NAME_BYTES], Zeroizing::new(vec![0; SECRET_BYTES]));
        SystemRandom::new().fill(&mut name).ok()?;
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self { name, bytes, expires: now.checked_add(ACCEPT_FOR)? })
    }

    fn import(exported: &[u8; EXPORTED_BYTES], now: Instant) -> Option<Self> {
        let (name, rest) = exported.split_first_chunk::<NAME_BYTES>()?;
        let (remaining, secret) = rest.split_first_chunk::<8>()?;
        let bytes = Zeroizing::new(secret.to_vec());
        let remaining = Duration::from_millis(u64::from_be_bytes(*remaining)).min(ACCEPT_FOR);
        Some(Self { name: *name, bytes, expires: now.checked_add(remaining)? })
    }

    fn remaining(&self, now: Instant) -> Duration {
        self.expires.saturating_duration_since(now)
    }

    /// Whether it seals new tickets.
    fn seals(&self, now: Instant) -> bool {
        self.remaining(now) > ACCEPT_FOR - SEAL_FOR
    }

    fn derive(&self, TicketBinding(binding): &TicketBinding) -> Option<LessSafeKey> {
        let info = [LABEL, binding.as_slice()];
        let secret = Prk::new_less_safe(HKDF_SHA256, &self.bytes);
        let key = secret.expand(&info, &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

/// What a ticket is valid for: a digest of the listener, its certificates and its protocols.
#[derive(Clone, Copy)]
pub(crate) struct TicketBinding([u8; 32]);

impl TicketBinding {
    pub(crate) fn new(listener: &str, protocols: &[&[u8]], chain: &[CertificateDer<'_>]) -> Self {
        let mut digest = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        add(listener.as_bytes());
        add(&(protocols.len() as u64).to_be_bytes());
        protocols.iter().for_each(|protocol| add(protocol));
        chain.iter().for_each(|certificate| add(certificate));
        let mut binding = [0; 32];
        binding.copy_from_slice(digest.finish().as_ref());
        Self(binding)
    }
}

/// Seals and opens the tickets of one listener with one certificate.
#[derive(Debug)]
pub(crate) struct Ticketer {
    keys: Arc<TicketKeys>,
    binding: TicketBinding,
}

impl Ticketer {
    pub(crate) fn new(keys: &Arc<TicketKeys>, binding: TicketBinding) -> Self {
        Self { keys: Arc::clone(keys), binding }
    }
}

impl fmt::Debug for TicketBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketBinding")
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        ACCEPT_SECONDS
    }

    fn encrypt(&self, state: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.keys.sealing(&self.binding)?;
        // Random: a counter would show how many sessions there are, and a successor would repeat its values.
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let head = NAME_BYTES + NONCE_LEN;
        let bytes = head + state.len() + CHACHA20_POLY1305.tag_len();
        if bytes > TICKET_BYTES_MAX {
            return None;
        }
        let mut ticket = Vec::with_capacity(bytes);
        ticket.extend_from_slice(&name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(state);
        let sealed = ticket.get_mut(head..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(name), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key = self.keys.opening(name, &self.binding)?;
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.open_in_place(nonce, Aad::from(name), &mut state).ok()?.len();
        state.truncate(length);
        Some(state)
    }
}

#[cfg(test)]
#[path = "tls_tickets_tests.rs"]
mod tests;
