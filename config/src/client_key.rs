//! Client keys: the key pairs that clients sign with (A4, A5).
//!
//! The name of a key is its access key ID, unless `access_key_id` is set: environment variables give names in lower case only.
//!
//! A key may be temporary: it has a session token, an expiry time, or both. Clients send the session token with every request. The
//! gateway verifies the token and does not forward it, so a key with a token cannot be the store's own pair as well.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use crate::bucket::Secret;
use crate::client_secret::SharedKeys;
use crate::policy::PolicyConfig;
use crate::priority::Priority;
use crate::rate_limit::RateLimit;
use crate::schema::{Read as _, Section, key, shared, unset};
use crate::section::section;
use crate::value_type::{Choice, SecretText, Timestamp, Word};

/// An observed signature allows offline guesses at any speed. The secrets of S3 have 40 characters.
const SECRET_BYTES_MIN: usize = 8;
const DUPLICATE_HINT: &str =
    "give each key its own ID; the name of an environment variable gives an ID in lower case";

/// The credentials that sign a client's requests towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignAs {
    /// the bucket's own credentials
    Bucket,
    /// the client's pair: the store has the same pair
    Same,
}

const SIGN_AS: Choice<SignAs> = Choice(&[("bucket", SignAs::Bucket), ("same", SignAs::Same)]);

section! {
    /// The keys of one client key.
    struct Keys {
        /// access key ID, the public half of the pair
        access_key_id: Option<String> = unset("access_key_id", Word("text"), "the key's name");
        /// session token that clients must send with each request; it is not forwarded
        session_token: Option<Secret> = unset("session_token", SecretText, "none");
        /// time after which the key is rejected
        expires: Option<SystemTime> = unset("expires", Timestamp, "never");
        /// credentials that sign its requests towards the upstream: those of the bucket, or `same`, the client's own pair
        upstream: SignAs = key("upstream", SIGN_AS, SignAs::Bucket);
        shared: SharedKeys = shared();
    }
}

/// A key pair that a client signs with.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientKey {
    /// the public half
    pub access_key_id: String,
    /// the public half in upper case, if only the name of a variable gives it; clients may then use either spelling
    pub access_key_id_in_capitals: Option<String>,
    /// the secret half
    pub secret: Secret,
    /// the session token that clients must send
    pub session_token: Option<Secret>,
    /// time after which the key is rejected
    pub expires: Option<SystemTime>,
    /// credentials that sign its requests towards the upstream
    pub upstream: SignAs,
    /// the name of its policy
    pub policy: String,
    /// its own rate limit
    pub rate_limit: Option<RateLimit>,
    /// priority class of its requests in a bucket's wait queue; `None` uses the bucket's class
    pub priority: Option<Priority>,
}

/// Reads the map of client keys. An invalid key is left out of the map; its problem stops the start.
pub(crate) fn read(
    section: &mut Section<'_>,
    policies: &BTreeMap<String, PolicyConfig>,
) -> BTreeMap<String, ClientKey> {
    let mut keys: BTreeMap<String, ClientKey> = BTreeMap::new();
    // the IDs in lower case, with their spelling and the names of their keys
    let mut ids: HashMap<String, (String, String)> = HashMap::new();
    for name in section.names() {
        let mut child = section.child(&name);
        child.document(&[" a client key; clients sign requests with it"]);
        let mut written = Keys::read(&mut child);
        written.check(&mut child, policies);
        let Some(id) = access_key_id(section, &name, &written) else { continue };
        let access_key_id_in_capitals = in_capitals(&mut section.child(&name), &written, &id);
        if let Some((other, duplicate)) = ids.get(&id.to_ascii_lowercase()) {
            let case = if *other == id { "" } else { ", in another case" };
            let message = format!("has the same access key ID as {}{case}", section.full_key(duplicate));
            section.refuse(&name, message, Some(DUPLICATE_HINT.to_owned()));
        }
        ids.entry(id.to_ascii_lowercase()).or_insert_with(|| (id.clone(), name.clone()));
        written.access_key_id = Some(id.clone());
        written.write(&mut section.child(&name));
        let secret = written.shared.secret().cloned();
        let Keys { session_token, expires, upstream, shared, .. } = written;
        let SharedKeys { policy, rate_limit, priority, .. } = shared;
        if let (Some(secret), Some(policy)) = (secret, policy) {
            let key = ClientKey {
                access_key_id: id,
                access_key_id_in_capitals,
                secret,
                session_token,
                expires,
                upstream,
                policy,
                rate_limit,
                priority,
            };
            keys.insert(name, key);
        }
    }
    keys
}

impl Keys {
    fn check(&self, section: &mut Section<'_>, policies: &BTreeMap<String, PolicyConfig>) {
        self.shared.check(section, SECRET_BYTES_MIN, policies);
        if self.session_token.is_some() && self.upstream == SignAs::Same {
            let upstream = section.full_key("upstream");
            let message = format!("cannot be set together with {upstream} = same");
            let hint = format!("set {upstream} to bucket: a client's session token is never forwarded");
            section.refuse("session_token", message, Some(hint));
        }
    }
}

/// The access key ID of a key; none, with a problem, if it has characters that an ID cannot have.
fn access_key_id(section: &mut Section<'_>, name: &str, written: &Keys) -> Option<String> {
    let id = written.access_key_id.as_deref().unwrap_or(name);
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | ':');
    if !id.is_empty() && id.len() <= 128 && id.chars().all(is_allowed) {
        return Some(id.to_owned());
    }
    let message = "is not an access key ID: 1 to 128 letters, digits and -_.+@: are allowed";
    if section.child(name).is_set("access_key_id") {
        section.child(name).refuse("access_key_id", message, None);
    } else {
        section.refuse(name, message, None);
    }
    None
}

/// The upper-case spelling of an ID that only names of variables give: they are in upper case, whatever the ID is.
fn in_capitals(section: &mut Section<'_>, written: &Keys, id: &str) -> Option<String> {
    let capitals = id.to_ascii_uppercase();
    let is_ambiguous = written.access_key_id.is_none()
        && !section.is_set("access_key_id")
        && capitals != id
        && section.variables().is_some_and(|names| names.iter().all(|name| name.contains(&capitals)));
    if !is_ambiguous {
        return None;
    }
    let message = format!(
        "the name of a variable does not show whether the ID is {id} or {capitals}: both are accepted"
    );
    let hint = format!("set {} to the right one", section.full_key("access_key_id"));
    section.warn("access_key_id", message, hint);
    Some(capitals)
}
