//! The names of what entries refer to by index, and the configuration key that holds a threshold, with its origin.

use tidegate_actors::{BucketId, KeyId};
use tidegate_config::{Config, Kind, Origin, Origins, key_name};

use crate::decisions::decision::{DecisionFacts, KeyName};

/// The names of one bucket.
#[derive(Debug)]
struct BucketNames {
    name: String,
    kind: Kind,
    endpoints: Vec<String>,
    credentials: Vec<String>,
}

/// The names of a key of clients.
#[derive(Debug)]
struct ClientKeyNames {
    /// The name in logs: the access key ID, or the API key's name.
    shown: String,
    /// Its section: `keys` or `api_keys`, and its name there.
    section: [String; 2],
}

/// The names of a configuration.
#[derive(Debug)]
pub(crate) struct Names {
    buckets: Vec<BucketNames>,
    client_keys: Vec<ClientKeyNames>,
    origins: Origins,
}

/// The key that holds a threshold, and the origin of its value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ThresholdKey<'a> {
    /// The key, or the name of the client's header.
    pub(crate) key: String,
    /// None if the client set the value.
    origin: Option<&'a Origin>,
}

impl ThresholdKey<'_> {
    /// The kind of the origin: `default`, `file`, `variable` or `header`.
    pub(crate) fn origin_kind(&self) -> &'static str {
        match self.origin {
            None => "header",
            Some(Origin::Default | Origin::System) => "default",
            Some(Origin::CommandLine | Origin::File(_)) => "file",
            Some(Origin::Variable(_)) => "variable",
        }
    }

    /// The path of the file, or the name of the variable.
    pub(crate) fn source(&self) -> Option<String> {
        match self.origin? {
            Origin::File(path) => Some(path.display().to_string()),
            Origin::Variable(name) => Some(name.clone()),
            Origin::Default | Origin::System | Origin::CommandLine => None,
        }
    }
}

impl Names {
    pub(crate) fn new(config: &Config) -> Self {
        let buckets = config.buckets.iter().map(|(name, bucket)| BucketNames {
            name: name.clone(),
            kind: bucket.kind,
            endpoints: bucket.upstream.endpoints.iter().map(|one| one.authority.clone()).collect(),
            credentials: bucket.upstream.credentials_by_name.iter().map(|one| one.name.clone()).collect(),
        });
        // The order of the keyring: client keys, then API keys.
        let keys = config.keys.iter().map(|(name, key)| ClientKeyNames {
            shown: key.access_key_id.clone(),
            section: ["keys".to_owned(), name.clone()],
        });
        let api_keys = config.api_keys.keys().map(|name| ClientKeyNames {
            shown: name.clone(),
            section: ["api_keys".to_owned(), name.clone()],
        });
        Self {
            buckets: buckets.collect(),
            client_keys: keys.chain(api_keys).collect(),
            origins: config.origins.clone(),
        }
    }

    pub(crate) fn bucket(&self, id: BucketId) -> Option<&str> {
        self.buckets.get(id.index()).map(|bucket| bucket.name.as_str())
    }

    /// The bucket of this name.
    pub(crate) fn find_bucket(&self, name: &str) -> Option<BucketId> {
        let at = self.buckets.iter().position(|bucket| bucket.name == name)?;
        u32::try_from(at).ok().map(BucketId::new)
    }

    pub(crate) fn client_key(&self, id: KeyId) -> Option<&str> {
        self.client_keys.get(id.index()).map(|key| key.shown.as_str())
    }

    /// The endpoint of a decision: host and port.
    pub(crate) fn endpoint(&self, facts: &DecisionFacts) -> Option<&str> {
        let bucket = self.buckets.get(facts.bucket?.index())?;
        bucket.endpoints.get(usize::from(facts.endpoint?)).map(String::as_str)
    }

    pub(crate) fn credential(&self, facts: &DecisionFacts) -> Option<&str> {
        let bucket = self.buckets.get(facts.bucket?.index())?;
        bucket.credentials.get(usize::from(facts.credential?)).map(String::as_str)
    }

    /// The key that holds the threshold of a decision: the first that a source sets, else the first.
    pub(crate) fn threshold_key(&self, facts: &DecisionFacts) -> Option<ThresholdKey<'_>> {
        if let [KeyName::Header(name), ..] = facts.figures.keys {
            return Some(ThresholdKey { key: (*name).to_owned(), origin: None });
        }
        let candidates = || facts.figures.keys.iter().filter_map(|name| self.key(*name, facts));
        let key = candidates().find(|key| self.origins.is_set(key)).or_else(|| candidates().next())?;
        let origin = Some(self.origins.origin(&key));
        Some(ThresholdKey { key, origin })
    }

    fn key(&self, name: KeyName, facts: &DecisionFacts) -> Option<String> {
        let bucket = || self.buckets.get(facts.bucket?.index());
        Some(match name {
            KeyName::Process(key) | KeyName::Header(key) => key.to_owned(),
            KeyName::Bucket(key) => format!("{}.{key}", key_name(&["buckets", &bucket()?.name])),
            KeyName::Upstream(key) => {
                let BucketNames { name, kind, .. } = bucket()?;
                format!("{}.{key}", key_name(&["buckets", name, kind.as_str()]))
            }
            KeyName::ClientKey(key) => {
                let [section, name] = &self.client_keys.get(facts.key?.index())?.section;
                format!("{}.{key}", key_name(&[section, name]))
            }
        })
    }
}
