//! Credentials of a bucket towards its store (A2, C5): a key pair in the configuration, a pair in files, a credentials file, or an
//! endpoint that provides pairs with an expiry time.
//!
//! A bucket has one source of credentials. With two, one would be ignored, and an operator could rotate the wrong one. A credentials
//! file has the format of AWS tools (`[profile]`, `aws_access_key_id = …`); only the key pair and the session token are read. The
//! variables of AWS and its search through files and instance metadata are not supported: the gateway must only use credentials that
//! its configuration names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::endpoint::{BaseUrl, Endpoint, Scheme};
use super::secret::Secret;
use crate::effective::Shown;
use crate::fingerprint::{Digest, Fingerprint};
use crate::schema::{Section, key, nested, unset};
use crate::secret_file::{SecretFile, SecretFromFile, SecretPath};
use crate::section::section;
use crate::setting::Raw;
use crate::value_type::{SecretText, ValueError, ValueErrors, ValueType, Word};

const PROFILE: &str = "default";

/// A key pair that signs requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// the public half
    pub access_key_id: String,
    /// the secret half
    pub secret_access_key: Secret,
    /// the session token of temporary credentials
    pub session_token: Option<Secret>,
}

/// An endpoint of a container platform that provides credentials with an expiry time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerCredentials {
    /// its URL with path
    pub url: Endpoint,
    /// file with the value of `authorization`; it is read for each request
    pub authorization_token_file: Option<SecretFile>,
}

section! {
    /// The keys of the credentials.
    pub(super) struct CredentialKeys {
        /// access key ID, the public half of the pair; a bucket without credentials sends unsigned requests
        access_key_id: Option<String> = unset("access_key_id", Word("text"), "none");
        /// file that holds the access key ID, instead of `access_key_id`
        access_key_id_file: Option<Secret> = unset("access_key_id_file", SecretFromFile, "none");
        /// secret access key, the secret half of the pair
        secret_access_key: Option<Secret> = unset("secret_access_key", SecretText, "none");
        /// file that holds the secret access key, instead of `secret_access_key`
        secret_access_key_file: Option<Secret> = unset("secret_access_key_file", SecretFromFile, "none");
        /// session token of temporary credentials
        session_token: Option<Secret> = unset("session_token", SecretText, "none");
        /// credentials file in the format of AWS tools, instead of the pair
        credentials_file: Option<Profiles> = unset("credentials_file", ProfilesFromFile, "none");
        /// profile in the credentials file
        credentials_profile: String = key("credentials_profile", Word("text"), PROFILE.to_owned());
        /// endpoint that provides credentials with an expiry time, instead of the pair
        container_credentials: ContainerKeys = nested("container_credentials");
    }
}

section! {
    /// The keys of a credentials endpoint.
    struct ContainerKeys {
        /// URL of the credentials endpoint (ECS, EKS pod identity); credentials are renewed before they expire
        url: Option<Endpoint> = unset("url", BaseUrl, "none");
        /// file with the value of `authorization` for the credentials endpoint; it is read for each request
        authorization_token_file: Option<SecretFile> =
            unset("authorization_token_file", SecretPath, "none");
    }
}

/// The groups of keys that set credentials; only one group may be in use.
const SOURCES: [&[&str]; 3] = [
    &["access_key_id", "access_key_id_file", "secret_access_key", "secret_access_key_file", "session_token"],
    &["credentials_file", "credentials_profile"],
    &["container_credentials"],
];

/// Rejects named credentials together with a single one.
pub(super) fn check_one_source(section: &mut Section<'_>) {
    let single = SOURCES.iter().copied().flatten().find(|key| section.is_set_within(key));
    if let Some(single) = single.filter(|_| section.is_set_within("credentials")) {
        let message = format!("cannot be set together with {}", section.full_key(single));
        section.refuse(
            "credentials",
            message,
            Some("set one of them: a bucket has one source of credentials".to_owned()),
        );
    }
}

impl CredentialKeys {
    /// Rejects contradictions.
    pub(super) fn check(&self, section: &mut Section<'_>) {
        let set: Vec<&str> = SOURCES
            .iter()
            .filter_map(|keys| keys.iter().find(|key| section.is_set_within(key)))
            .copied()
            .collect();
        if let [first, second, ..] = set[..] {
            let message = format!("cannot be set together with {}", section.full_key(first));
            section.refuse(
                second,
                message,
                Some("set one of them: a bucket has one source of credentials".to_owned()),
            );
        }
        check_pair(section);
        if let Some(profiles) = &self.credentials_file
            && !profiles.0.contains_key(&self.credentials_profile)
        {
            let message = format!("has no profile {} with a key pair", self.credentials_profile);
            let key = section.full_key("credentials_profile");
            section.refuse("credentials_file", message, Some(format!("set {key} to another profile")));
        }
        check_container(&self.container_credentials, &mut section.child("container_credentials"));
    }

    /// The credentials, or their endpoint.
    pub(super) fn resolve(self) -> (Option<Credentials>, Option<ContainerCredentials>) {
        let Self {
            access_key_id,
            access_key_id_file,
            secret_access_key,
            secret_access_key_file,
            session_token,
            credentials_file,
            credentials_profile,
            container_credentials: ContainerKeys { url, authorization_token_file },
        } = self;
        let container = url.map(|url| ContainerCredentials { url, authorization_token_file });
        let of_file = credentials_file.and_then(|Profiles(mut all)| all.remove(&credentials_profile));
        let id = access_key_id.or(access_key_id_file.map(|id| id.expose().to_owned()));
        let pair =
            id.zip(secret_access_key.or(secret_access_key_file)).map(|(access_key_id, secret_access_key)| {
                Credentials { access_key_id, secret_access_key, session_token }
            });
        (of_file.or(pair), container)
    }
}

fn check_pair(section: &mut Section<'_>) {
    let set_keys = |name: &'static str, file: &'static str| {
        [name, file].into_iter().filter(|key| section.is_set(key)).collect::<Vec<_>>()
    };
    let id = set_keys("access_key_id", "access_key_id_file");
    let secret = set_keys("secret_access_key", "secret_access_key_file");
    for twice in [&id, &secret] {
        if let [first, second] = twice[..] {
            section.refuse_both([first, second]);
        }
    }
    let missing = match (id.first(), secret.first()) {
        (Some(present), None) => Some(("secret_access_key", *present)),
        (None, Some(present)) => Some(("access_key_id", *present)),
        (None, None) if section.is_set("session_token") => Some(("access_key_id", "session_token")),
        _ => None,
    };
    if let Some((missing, present)) = missing {
        let message = format!("is required together with {}", section.full_key(present));
        section.refuse(missing, message, Some("set both, or neither to send unsigned requests".to_owned()));
    }
}

fn check_container(keys: &ContainerKeys, section: &mut Section<'_>) {
    let ContainerKeys { url, .. } = keys;
    match url {
        None if section.is_set("authorization_token_file") && !section.is_set("url") => {
            let message =
                format!("is required together with {}", section.full_key("authorization_token_file"));
            section.refuse("url", message, None);
        }
        Some(url) if url.scheme == Scheme::Http && !is_local(&url.host) => {
            let message = format!("{} would send credentials without TLS to another machine", url.url());
            let hint = "use https://; http:// is allowed for loopback and link-local addresses".to_owned();
            section.refuse("url", message, Some(hint));
        }
        _ => {}
    }
}

/// Whether traffic to a host stays on this machine, or between it and its hypervisor.
pub(crate) fn is_local(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        // fd00:ec2::23 is the IPv6 address of EKS
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments()[..2] == [0xfd00, 0x0ec2],
        Err(_) => host == "localhost",
    }
}

/// The key pairs of a credentials file by profile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Profiles(BTreeMap<String, Credentials>);

/// The path of a credentials file.
struct ProfilesFromFile;

impl ValueType for ProfilesFromFile {
    type Value = Profiles;

    fn parse(&self, raw: &Raw) -> Result<Profiles, ValueErrors> {
        let (_, text) = SecretPath::open(raw)?;
        profiles(text.expose()).ok_or_else(|| {
            ValueError::new("is not a credentials file")
                .with_hint("use the format of AWS tools: [default], aws_access_key_id = …")
                .into()
        })
    }

    fn accepts(&self) -> String {
        SecretPath.accepts()
    }

    fn shown(&self, _: &Profiles, raw: Option<&Raw>) -> Shown {
        Shown::path(raw)
    }

    fn fingerprint(&self, Profiles(profiles): &Profiles) -> Option<Fingerprint> {
        let mut digest = Digest::new();
        for (name, Credentials { access_key_id, secret_access_key, session_token }) in profiles {
            let token = session_token.as_ref().map_or("", |token| token.expose());
            for part in [name, access_key_id, secret_access_key.expose(), token] {
                digest.add(part.as_bytes());
            }
        }
        Some(digest.finish())
    }

    fn to_toml(&self, _: &Profiles) -> String {
        "\"…\"".to_owned()
    }
}

/// Parses lines `[profile]` and `name = value`; none if a line is neither.
fn profiles(text: &str) -> Option<Profiles> {
    let mut profiles: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            let name = name.strip_prefix("profile ").unwrap_or(name).trim();
            current = Some(profiles.entry(name.to_owned()).or_default());
        } else {
            let (name, value) = line.split_once('=')?;
            current.as_mut()?.insert(name.trim(), value.trim());
        }
    }
    let pair = |(name, values): (String, BTreeMap<&str, &str>)| {
        let credentials = Credentials {
            access_key_id: (*values.get("aws_access_key_id")?).to_owned(),
            secret_access_key: Secret::new(*values.get("aws_secret_access_key")?),
            session_token: values.get("aws_session_token").map(|token| Secret::new(*token)),
        };
        Some((name, credentials))
    };
    Some(Profiles(profiles.into_iter().filter_map(pair).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_has_profiles() {
        let text = "# of a tool\n[default]\naws_access_key_id = A\naws_secret_access_key=b=/+\n\n\
                    [profile temporary]\naws_access_key_id=C\naws_secret_access_key = d\naws_session_token = t\nregion = x\n\
                    [half]\naws_access_key_id = E\n";
        let Profiles(all) = profiles(text).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["default", "temporary"], "half a pair is none");
        assert_eq!(
            (&*all["default"].access_key_id, all["default"].secret_access_key.expose()),
            ("A", "b=/+")
        );
        assert_eq!(all["temporary"].session_token, Some(Secret::new("t")));
        assert_eq!(profiles("aws_access_key_id = A"), None, "no profile");
        assert_eq!(profiles("[default]\nnonsense"), None);
    }

    #[test]
    fn credentials_without_tls_stay_on_this_machine() {
        for near in ["127.0.0.1", "::1", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost"] {
            assert!(is_local(near), "{near}");
        }
        for far in ["10.0.0.1", "example.com", "fd00:ec3::23", "8.8.8.8"] {
            assert!(!is_local(far), "{far}");
        }
    }
}
