//! Several credentials of one bucket (C3). Each has a name, its own concurrency limit, and optionally a shared quota group.
//!
//! The single key pair of a bucket is set directly in the upstream's section and has no limit of its own. Named credentials are in a
//! map: key pairs for a store, headers for an API. Their order has no effect. Logs, metrics and the status show the name, so it is not
//! the access key ID. The same secret under two names would have twice its limit, so it is rejected.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::credentials::{ContainerCredentials, CredentialKeys, Credentials};
use super::secret::Secret;
use crate::effective::Shown;
use crate::fingerprint::Fingerprint;
use crate::schema::{Docs, Read, Section, Spec, key, shared, unset};
use crate::secret_file::SecretPath;
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{
    ValueError, ValueErrors, ValueType, Word, is_http_token, nonzero_size, quoted, seconds, toml_text, whole,
};

/// A name is the value of a metric label.
const NAME_CHARS_MAX: usize = 64;
/// Maximum length of a header's value; common servers reject longer ones.
const VALUE_BYTES_MAX: usize = 4096;

/// The identity that a request has towards the upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// signed with this pair
    Pair(Credentials),
    /// signed with a pair from a credentials endpoint
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
    /// its name in logs, metrics and the status
    pub name: String,
    /// its identity towards the upstream
    pub identity: Identity,
    /// maximum concurrent requests with it
    pub max_concurrent: NonZeroUsize,
    /// credentials of one group are paused together
    pub quota_group: Option<String>,
}

section! {
    /// Handling of credentials that the upstream throttles or refuses.
    #[derive(Copy)]
    pub struct CredentialPoolConfig {
        /// pause of a credential that the upstream throttles without a `Retry-After`
        ///
        /// Watch `tidegate_upstream_credential_setbacks_total` with cause `throttled`.
        pub cool_down: Duration = key("cool_down_seconds", seconds(0.001..=86_400.0), Duration::from_secs(5));
        /// maximum pause of a credential, even if the `Retry-After` is longer
        pub max_cool_down: Duration =
            key("max_cool_down_seconds", seconds(0.001..=86_400.0), Duration::from_secs(600))
                .default_text("600, or `cool_down_seconds` if that is longer");
        /// pause of a credential that the upstream refuses; after it one request tries the credential
        pub refused: Duration = key("refused_seconds", seconds(0.001..=604_800.0), Duration::from_secs(900));
    }
}

impl CredentialPoolConfig {
    /// Raises the unset maximum to the pause without a `Retry-After`, then rejects a maximum below it.
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
    /// The keys of one named key pair.
    pub(super) struct PairKeys {
        pair: CredentialKeys = shared();
        /// maximum concurrent requests with this credential
        max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(50));
        /// group of credentials with one quota: if one is throttled, all of them pause
        quota_group: Option<String> = unset("quota_group", Word("text"), "its own");
    }
}

section! {
    /// The keys of one named header.
    pub(super) struct HeaderKeys {
        /// header with the credential, such as `authorization` or `x-api-key`; a client's own is never forwarded
        header: String = key("header", CredentialHeader, "authorization".to_owned());
        /// complete value of the header, such as `Bearer sk-…`
        value: Option<Secret> = unset("value", HeaderValueText, "required");
        /// file that holds the value, instead of `value`
        value_file: Option<Secret> = unset("value_file", HeaderValueFromFile, "required");
        /// maximum concurrent requests with this credential
        max_concurrent: NonZeroUsize = key("max_concurrent", whole(1..=100_000), nonzero_size(1));
        /// group of credentials with one quota: if one is throttled, all of them pause
        quota_group: Option<String> = unset("quota_group", Word("text"), "its own");
    }
}

/// The keys of one named credential.
pub(super) trait NamedKeys: Read {
    /// The documentation of the section.
    const DOCS: Docs;
    /// Rejects contradictions; none if the keys give no identity.
    fn resolve(self, name: String, section: &mut Section<'_>) -> Option<PooledCredential>;
}

impl NamedKeys for PairKeys {
    const DOCS: Docs = &[" a named key pair; logs, metrics and the status show its name"];

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

impl NamedKeys for HeaderKeys {
    const DOCS: Docs = &[" a named credential of the API; logs, metrics and the status show its name"];

    fn resolve(self, name: String, section: &mut Section<'_>) -> Option<PooledCredential> {
        let Self { header, value, value_file, max_concurrent, quota_group } = self;
        section.refuse_unless_one(["value", "value_file"], "a credential needs a value");
        let value = value.or(value_file)?;
        let identity = Identity::Header { name: header, value };
        Some(PooledCredential { name, identity, max_concurrent, quota_group })
    }
}

/// The map of named credentials; `K` are the keys of one of them.
pub(super) struct CredentialMap<K>(&'static str, std::marker::PhantomData<K>);

pub(super) fn credential_map<K: NamedKeys>(name: &'static str) -> CredentialMap<K> {
    CredentialMap(name, std::marker::PhantomData)
}

impl<K: NamedKeys> Spec for CredentialMap<K> {
    type Value = Vec<PooledCredential>;

    fn read(self, docs: Docs, section: &mut Section<'_>) -> Vec<PooledCredential> {
        let mut map = section.child(self.0);
        map.document(docs);
        let mut pool: Vec<PooledCredential> = Vec::new();
        for name in map.names() {
            check_name(&mut map, &name);
            let mut child = map.child(&name);
            child.document(K::DOCS);
            let Some(credential) = K::read(&mut child).resolve(name.clone(), &mut child) else { continue };
            if let Some(duplicate) = pool.iter().find(|other| is_same(&other.identity, &credential.identity))
            {
                let message = format!("is the same credential as {}", map.full_key(&duplicate.name));
                let hint = "remove one of them: each named credential has its own limit".to_owned();
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
        let message = format!(
            "is not the name of a credential: 1 to {NAME_CHARS_MAX} letters, digits and -_. are allowed"
        );
        map.refuse(name, message, None);
    }
}

/// The name of a header that may carry a credential, in lower case.
struct CredentialHeader;

/// Headers with another purpose: they frame the message or name its receiver.
const RESERVED: [&str; 12] = [
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

impl ValueType for CredentialHeader {
    type Value = String;

    fn parse(&self, raw: &Raw) -> Result<String, ValueErrors> {
        let name = raw.text()?.trim().to_ascii_lowercase();
        if !is_http_token(&name) {
            let error = ValueError::new(format!("{} is not the name of a header", quoted(&name)));
            return Err(error.with_hint("use a header such as authorization or x-api-key").into());
        }
        if RESERVED.contains(&name.as_str()) {
            let error = ValueError::new(format!("{} is reserved for another purpose", quoted(&name)));
            return Err(error.with_hint("use a header such as authorization or x-api-key").into());
        }
        Ok(name)
    }

    fn accepts(&self) -> String {
        "header".to_owned()
    }

    fn to_toml(&self, value: &String) -> String {
        toml_text(value)
    }
}

/// A header's value. Spaces are allowed, as in `Bearer …`. The errors do not repeat the value.
fn header_value(text: &str) -> Result<Secret, ValueError> {
    let text = text.trim();
    match text {
        "" => Err(ValueError::new("is empty")),
        _ if text.len() > VALUE_BYTES_MAX => {
            Err(ValueError::new(format!("has more than {VALUE_BYTES_MAX} bytes")))
        }
        _ if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => Ok(Secret::new(text)),
        _ => Err(ValueError::new("has characters that a header cannot have: it must be one line of ASCII")),
    }
}

/// A header's value that errors, log lines and the reference do not show.
struct HeaderValueText;

impl ValueType for HeaderValueText {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, ValueErrors> {
        Ok(header_value(raw.text()?)?)
    }

    fn accepts(&self) -> String {
        "text, never shown".to_owned()
    }

    fn is_secret(&self) -> bool {
        true
    }

    fn shown(&self, _: &Secret, _: Option<&Raw>) -> Shown {
        Shown::secret()
    }

    fn fingerprint(&self, value: &Secret) -> Option<Fingerprint> {
        Some(Fingerprint::of(value.expose()))
    }

    fn to_toml(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}

/// The path of a file that holds a header's value.
struct HeaderValueFromFile;

impl ValueType for HeaderValueFromFile {
    type Value = Secret;

    fn parse(&self, raw: &Raw) -> Result<Secret, ValueErrors> {
        let (_, secret) = SecretPath::open(raw)?;
        Ok(header_value(secret.expose())?)
    }

    fn accepts(&self) -> String {
        SecretPath.accepts()
    }

    fn shown(&self, _: &Secret, raw: Option<&Raw>) -> Shown {
        Shown::path(raw)
    }

    fn fingerprint(&self, value: &Secret) -> Option<Fingerprint> {
        Some(Fingerprint::of(value.expose()))
    }

    fn to_toml(&self, _: &Secret) -> String {
        "\"…\"".to_owned()
    }
}
