//! Several credentials for one bucket (C3): each with a name, a limit of its own, and perhaps a quota that it shares.
//!
//! A bucket's single pair stays where it was, under the upstream's section, and has no gate. Credentials with names stand in a map:
//! key pairs for a store, headers for an API. Their order is that of their names, and means nothing. A name is shown in logs, metrics
//! and the status, which is why it is not the access key ID. The same secret twice would be one credential with twice
//! its limit, so it is refused.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::credentials::{ContainerCredentials, CredentialKeys, Credentials};
use super::secret::Secret;
use crate::form::{Fault, Faults, Form, Word, nonzero_size, seconds, shown, whole};
use crate::secret_file::SecretPath;
use crate::section::section;
use crate::setting::Raw;
use crate::walk::{Docs, Read, Section, Spec, key, shared, unset};

/// As long as a metric's label should be.
const NAME_CHARS_MAX: usize = 64;
/// What a header's value may hold at most; longer ones are refused by common servers.
const VALUE_BYTES_MAX: usize = 4096;

/// As whom a request goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// signed with this pair
    Pair(Credentials),
    /// signed with the pair that an endpoint hands out
    Container(ContainerCredentials),
    /// with this header
    Header {
        /// its name, in lower case
        name: String,
        /// its value
        value: Secret,
    },
}

/// One of a bucket's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PooledCredential {
    /// what it is called in logs, metrics and the status
    pub name: String,
    /// as whom
    pub identity: Identity,
    /// requests under way with it
    pub max_concurrent: NonZeroUsize,
    /// credentials of one group are left alone together
    pub quota_group: Option<String>,
}

section! {
    /// What is done about credentials that the upstream throttles or refuses.
    #[derive(Copy)]
    pub struct CredentialPoolConfig {
        /// how long a credential is left alone that the upstream throttles without a `Retry-After`
        ///
        /// Watch `upstream_credential_setbacks_total` with cause `throttled`.
        pub cool_down: Duration = key("cool_down_seconds", seconds(0.001..=86_400.0), Duration::from_secs(5));
        /// the longest that a `Retry-After` may have a credential left alone
        pub max_cool_down: Duration =
            key("max_cool_down_seconds", seconds(0.001..=86_400.0), Duration::from_secs(600))
                .yielding("600, or `cool_down_seconds` if that is longer");
        /// how long a credential is left out that the upstream refuses; then one request tries it again
        pub refused: Duration = key("refused_seconds", seconds(0.001..=604_800.0), Duration::from_secs(900));
    }
}

impl CredentialPoolConfig {
    /// Fits the unset cap to the pause without a `Retry-After`, then refuses a cap below it.
    pub(super) fn checked(mut self, section: &mut Section<'_>) -> Self {
        if !section.is_set("max_cool_down_seconds") {
            self.max_cool_down = self.max_cool_down.max(self.cool_down);
        }
        if self.cool_down > self.max_cool_down {
            let text = |time: Duration| time.as_secs_f64().to_string();
            let low = ("cool_down_seconds", text(self.cool_down));
            section.refuse_order(low, ("max_cool_down_seconds", text(self.max_cool_down)), false);
        }
        self
    }
}

section! {
    /// A key pair of several, as it is written.
    pub(super) struct PairKeys {
        pair: CredentialKeys = shared();
        /// requests that may be under way with this credential
        max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(50));
        /// credentials of one group share a quota: when one is throttled all are left alone
        quota_group: Option<String> = unset("quota_group", Word("text"), "its own");
    }
}

section! {
    /// A header of several, as it is written.
    pub(super) struct HeaderKeys {
        /// header that carries it, such as `authorization`, `x-api-key` or `x-goog-api-key`; a client's own is never forwarded
        header: String = key("header", HeaderIn, "authorization".to_owned());
        /// what the header says, whole, such as `Bearer sk-…`
        value: Option<Secret> = unset("value", ValueText, "required");
        /// file that holds it, in place of `value`
        value_file: Option<Secret> = unset("value_file", ValueIn, "required");
        /// requests that may be under way with this credential
        max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(1));
        /// credentials of one group share a quota: when one is throttled all are left alone
        quota_group: Option<String> = unset("quota_group", Word("text"), "its own");
    }
}

/// How one of several is read.
pub(super) trait Pooled: Read {
    /// What follows a credential's name in the reference.
    const DOCS: Docs;
    /// Refuses what its keys cannot say together; none if they give no identity.
    fn resolve(self, name: String, section: &mut Section<'_>) -> Option<PooledCredential>;
}

impl Pooled for PairKeys {
    const DOCS: Docs = &[" one of several key pairs; its name is shown in logs, metrics and the status"];

    fn resolve(self, name: String, section: &mut Section<'_>) -> Option<PooledCredential> {
        let Self { pair, max_concurrent, quota_group } = self;
        pair.check(section);
        let identity = match pair.resolve() {
            (Some(pair), _) => Identity::Pair(pair),
            (None, Some(container)) => Identity::Container(container),
            (None, None) => {
                if !section.has_problem() {
                    section.refuse("access_key_id", "a credential needs a key pair", None);
                }
                return None;
            }
        };
        Some(PooledCredential { name, identity, max_concurrent, quota_group })
    }
}

impl Pooled for HeaderKeys {
    const DOCS: Docs = &[" a credential of the API; its name is shown in logs, metrics and the status"];

    fn resolve(self, name: String, section: &mut Section<'_>) -> Option<PooledCredential> {
        let Self { header, value, value_file, max_concurrent, quota_group } = self;
        match (section.is_set("value"), section.is_set("value_file")) {
            (true, true) => {
                let message = format!("is set, and so is {}", section.spell("value"));
                section.refuse("value_file", message, Some("set one of them".to_owned()));
            }
            (false, false) => {
                let hint = format!("set it, or {}", section.spell("value_file"));
                section.refuse("value", "a credential needs a value", Some(hint));
            }
            _ => {}
        }
        let value = value.or(value_file)?;
        let identity = Identity::Header { name: header, value };
        Some(PooledCredential { name, identity, max_concurrent, quota_group })
    }
}

/// The map of credentials; `K` is what one of them is written as.
pub(super) struct PoolOf<K>(&'static str, std::marker::PhantomData<K>);

pub(super) fn pool_of<K: Pooled>(name: &'static str) -> PoolOf<K> {
    PoolOf(name, std::marker::PhantomData)
}

impl<K: Pooled> Spec for PoolOf<K> {
    type Value = Vec<PooledCredential>;

    fn take(self, docs: Docs, section: &mut Section<'_>) -> Vec<PooledCredential> {
        let mut map = section.child(self.0);
        map.introduce(docs);
        let mut pool: Vec<PooledCredential> = Vec::new();
        for name in map.names() {
            check_name(&mut map, &name);
            let mut child = map.child(&name);
            child.introduce(K::DOCS);
            let Some(credential) = K::read(&mut child).resolve(name.clone(), &mut child) else { continue };
            if let Some(twin) = pool.iter().find(|other| is_same(&other.identity, &credential.identity)) {
                let message = format!("is the same credential as {}", map.spell(&twin.name));
                let hint = "each has a limit of its own, so each must be another".to_owned();
                map.refuse(&name, message, Some(hint));
            }
            pool.push(credential);
        }
        pool
    }
}

fn is_same(one: &Identity, other: &Identity) -> bool {
    match (one, other) {
        (Identity::Pair(one), Identity::Pair(other)) => one.access_key_id == other.access_key_id,
        (Identity::Header { value: one, .. }, Identity::Header { value: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

fn check_name(map: &mut Section<'_>, name: &str) {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_fit) {
        let message = format!("is no credential's name: 1 to {NAME_CHARS_MAX} letters, digits and -_.");
        map.refuse(name, message, None);
    }
}

/// The name of a header that may carry a credential, in lower case.
struct HeaderIn;

/// Headers that frame the message or name its receiver.
const TAKEN: [&str; 12] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
    "x-tidegate-reason",
];

impl Form for HeaderIn {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, Faults> {
        let name = raw.text()?.trim().to_ascii_lowercase();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            let fault = Fault::new(format!("{} is no header's name", shown(&name)));
            return Err(fault.hinting("such as authorization or x-api-key").into());
        }
        if TAKEN.contains(&name.as_str()) {
            let fault = Fault::new(format!("{} has another meaning", shown(&name)));
            return Err(fault.hinting("such as authorization or x-api-key").into());
        }
        Ok(name)
    }

    fn accepts(&self) -> String {
        "header".to_owned()
    }

    fn show(&self, value: &String) -> String {
        shown(value)
    }
}

/// A header's value; blanks may stand in it, as in `Bearer …`. The faults do not repeat it.
fn header_value(text: &str) -> Result<Secret, Fault> {
    let text = text.trim();
    match text {
        "" => Err(Fault::new("is empty")),
        _ if text.len() > VALUE_BYTES_MAX => {
            Err(Fault::new(format!("has more than {VALUE_BYTES_MAX} bytes")))
        }
        _ if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => Ok(Secret::new(text)),
        _ => Err(Fault::new("holds what no header may: more than one line, or other than ASCII")),
    }
}

/// A header's value that no error, log line or reference shows.
struct ValueText;

impl Form for ValueText {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, Faults> {
        Ok(header_value(raw.text()?)?)
    }

    fn accepts(&self) -> String {
        "text, never shown".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn show(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}

/// The path of a file whose content is a header's value.
struct ValueIn;

impl Form for ValueIn {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, Faults> {
        let (_, secret) = SecretPath::open(raw)?;
        Ok(header_value(secret.expose())?)
    }

    fn accepts(&self) -> String {
        SecretPath.accepts()
    }

    fn show(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}
