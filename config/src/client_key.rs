//! Client keys: the pairs that clients sign with, what they may do, and as whom their requests go on (A4, A5).
//!
//! A key's name is its access key ID, unless it has one of its own: an environment variable can only spell names in
//! lower case. A key without a policy could do nothing and is refused at the start, as is a policy nobody defined.
//!
//! A key may be temporary: it then has a session token, which its clients send with every request, or an end, or both. The
//! token is between the client and the gateway, so a key that has one cannot be the store's own pair as well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::bucket::Secret;
use crate::form::{Choice, Moment, SecretText, Word, shown};
use crate::hint;
use crate::policy::PolicyConfig;
use crate::priority::{PRIORITIES, Priority};
use crate::rate_limit::{RateLimit, RateLimitKeys};
use crate::secret_file::SecretIn;
use crate::section::section;
use crate::walk::{Read as _, Section, key, unset};

/// As whom a client's requests are signed towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignAs {
    /// as the bucket's own credentials say
    Bucket,
    /// as the client: the store knows the same pair
    Same,
}

const SIGN_AS: Choice<SignAs> = Choice(&[("bucket", SignAs::Bucket), ("same", SignAs::Same)]);

section! {
    /// A client key as it is written.
    struct Keys {
        /// public half of the pair
        access_key_id: Option<String> = unset("access_key_id", Word("text"), "the key's name");
        /// secret half of the pair
        secret: Option<Secret> = unset("secret", SecretText, "required");
        /// file that holds the secret half, in place of `secret`
        secret_file: Option<Secret> = unset("secret_file", SecretIn, "required");
        /// session token that its clients send too; it ends here
        session_token: Option<Secret> = unset("session_token", SecretText, "none");
        /// from when on it is no longer taken
        expires: Option<SystemTime> = unset("expires", Moment, "never");
        /// as whom its requests are signed towards the upstream: `same` is the client's own pair
        upstream: SignAs = key("upstream", SIGN_AS, SignAs::Bucket);
        /// name of the policy that says what it may do
        policy: Option<String> = unset("policy", Word("name of a policy"), "required");
        /// limit of its own, in place of `rate_limit.per_key`
        rate_limit: Option<RateLimit> = RateLimitKeys("rate_limit");
        /// class of its requests where they wait for a bucket's place: `high`, `normal` or `low`
        priority: Option<Priority> = unset("priority", PRIORITIES, "what the bucket says of the operation");
    }
}

/// A pair that a client signs with.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientKey {
    /// the public half
    pub access_key_id: String,
    /// the public half in capitals, where only a variable's name says it and both spellings are accepted from clients
    pub access_key_id_in_capitals: Option<String>,
    /// the secret half
    pub secret: Secret,
    /// what its clients send besides
    pub session_token: Option<Secret>,
    /// from when on it is no longer taken
    pub expires: Option<SystemTime>,
    /// as whom its requests go on
    pub upstream: SignAs,
    /// the name of its policy
    pub policy: String,
    /// its own limit
    pub rate_limit: Option<RateLimit>,
    /// class of its requests in a bucket's queue; `None` leaves it to the bucket
    pub priority: Option<Priority>,
}

/// Reads the map of keys. A key with a fault stays out of the map; the fault stops the start.
pub(crate) fn read(
    section: &mut Section<'_>,
    policies: &BTreeMap<String, PolicyConfig>,
) -> BTreeMap<String, ClientKey> {
    let mut keys: BTreeMap<String, ClientKey> = BTreeMap::new();
    let mut ids: Vec<(String, String)> = Vec::new();
    let known: BTreeSet<&str> = policies.keys().map(String::as_str).collect();
    for name in section.names() {
        let mut child = section.child(&name);
        child.introduce(&[" a client key; clients sign with its pair"]);
        let written = Keys::read(&mut child);
        let secret = written.secret.as_ref().or(written.secret_file.as_ref());
        check_secret(&mut child, secret, SECRET_BYTES_MIN);
        check_policy(&mut child, written.policy.as_deref(), &known);
        if written.session_token.is_some() && written.upstream == SignAs::Same {
            let message = format!("is set, and {} is `same`", child.spell("upstream"));
            child.refuse("session_token", message, Some(TOKEN_ENDS_HERE.to_owned()));
        }
        let id = written.access_key_id.clone().unwrap_or_else(|| name.clone());
        let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | ':');
        if id.is_empty() || id.len() > 128 || !id.chars().all(is_id) {
            let message = "is no access key ID: 1 to 128 letters, digits and -_.+@:";
            let at = if child.is_set("access_key_id") { "access_key_id" } else { "" };
            if at.is_empty() {
                section.refuse(&name, message, None)
            } else {
                child.refuse(at, message, None)
            }
            continue;
        }
        let access_key_id_in_capitals = in_capitals(&mut child, &written, &id);
        if let Some((other, twin)) = ids.iter().find(|(other, _)| other.eq_ignore_ascii_case(&id)) {
            let but = if *other == id { "" } else { " in another case" };
            let message = format!("has the access key ID of {}{but}", section.spell(twin));
            section.refuse(&name, message, Some(DUPLICATE_HINT.to_owned()));
        }
        ids.push((id.clone(), name.clone()));
        let Keys {
            secret, secret_file, session_token, expires, upstream, policy, rate_limit, priority, ..
        } = written;
        if let (Some(secret), Some(policy)) = (secret.or(secret_file), policy) {
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

/// The other spelling of an ID that only the names of variables say: they are in capitals, whatever the ID is.
fn in_capitals(section: &mut Section<'_>, written: &Keys, id: &str) -> Option<String> {
    let capitals = id.to_ascii_uppercase();
    let is_ambiguous = written.access_key_id.is_none()
        && !section.is_set("access_key_id")
        && capitals != id
        && section.variables().is_some_and(|names| names.iter().all(|name| name.contains(&capitals)));
    if !is_ambiguous {
        return None;
    }
    let message =
        format!("a variable cannot say whether the ID is {id} or {capitals}: clients may use either");
    section.warn("access_key_id", message, format!("set {} to the one", section.spell("access_key_id")));
    Some(capitals)
}

const DUPLICATE_HINT: &str = "give one of them another; the name of a variable gives a key in lower case";
const TOKEN_ENDS_HERE: &str = "a client's session token never travels on: sign as the bucket does";

/// Refuses a secret that is missing, stands in two places, or could be guessed.
pub(crate) fn check_secret(section: &mut Section<'_>, secret: Option<&Secret>, bytes_min: usize) {
    match (section.is_set("secret"), section.is_set("secret_file")) {
        (true, true) => {
            let message = format!("is set, and so is {}", section.spell("secret"));
            section.refuse("secret_file", message, Some("set one of them".to_owned()));
        }
        (false, false) => {
            let hint = format!("set it, or {}", section.spell("secret_file"));
            section.refuse("secret", "a key needs a secret", Some(hint));
        }
        _ => {}
    }
    if secret.is_some_and(|secret| secret.expose().len() < bytes_min) {
        let at = if section.is_set("secret") { "secret" } else { "secret_file" };
        let message = format!("is shorter than {bytes_min} characters and could be guessed");
        section.refuse(at, message, Some("openssl rand -hex 20 makes a good one".to_owned()));
    }
}

/// A signature that was seen can be tried against guesses at any speed; S3's own secrets have 40 characters.
const SECRET_BYTES_MIN: usize = 8;

/// Refuses a policy that is missing or that nobody defined.
pub(crate) fn check_policy(section: &mut Section<'_>, policy: Option<&str>, known: &BTreeSet<&str>) {
    match policy {
        None if section.is_set("policy") => {}
        None => {
            let hint = "name one, such as policies.readers with buckets and methods".to_owned();
            section.refuse("policy", "a key without a policy may do nothing", Some(hint));
        }
        Some(policy) if !known.contains(policy) => {
            let near = hint::nearest(policy, known.iter().copied());
            let hint = match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("define policies.{policy}"),
            };
            section.refuse("policy", format!("there is no policies.{}", shown(policy)), Some(hint));
        }
        Some(_) => {}
    }
}
