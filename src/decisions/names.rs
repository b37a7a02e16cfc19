//! The names of what entries refer to by ID or index, and the configuration key that holds a threshold, with its origin.
//!
//! Each configuration has its own [`Names`]: the index of an endpoint or credential, and the origin of a key, mean something in
//! one configuration only. Parts that a reload leaves unchanged are shared. `kept_names.rs` keeps those of replaced configurations.

use std::sync::{Arc, OnceLock};

use tidegate_actors::{ActorStats, Actors, BucketId, IdMap, Ids, KeyId};
use tidegate_config::{ApiKey, BucketConfig, ClientKey, Config, Kind, Origin, Origins, key_name};

use crate::decisions::decision::{DecidingActor, DecisionFacts, KeyName, NamesNumber};

/// The names of one bucket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BucketNames {
    name: String,
    kind: Kind,
    endpoints: Vec<String>,
    credentials: Vec<String>,
}

impl BucketNames {
    fn new(name: &str, bucket: &BucketConfig) -> Self {
        Self {
            name: name.to_owned(),
            kind: bucket.kind,
            endpoints: bucket.upstream.endpoints.iter().map(|one| one.authority.clone()).collect(),
            credentials: bucket.upstream.credentials_by_name.iter().map(|one| one.name.clone()).collect(),
        }
    }
}

/// The names of a key of clients.
#[derive(Debug, PartialEq, Eq)]
struct ClientKeyNames {
    /// The name in logs: the access key ID, or the API key's name.
    shown: String,
    /// Its section: `keys` or `api_keys`, and its name there.
    section: [String; 2],
}

impl ClientKeyNames {
    fn of_client_key(name: &str, key: &ClientKey) -> Self {
        Self { shown: key.access_key_id.clone(), section: ["keys".to_owned(), name.to_owned()] }
    }

    fn of_api_key(name: &str, _: &ApiKey) -> Self {
        Self { shown: name.to_owned(), section: ["api_keys".to_owned(), name.to_owned()] }
    }
}

/// The statistics of the actors that decide, for their generations.
struct DecidingActors {
    monitor: Arc<ActorStats>,
    limiter: Arc<ActorStats>,
    pools: IdMap<BucketId, Arc<ActorStats>>,
    breakers: IdMap<BucketId, Arc<ActorStats>>,
}

/// The names of a configuration.
pub(crate) struct Names {
    number: NamesNumber,
    buckets: IdMap<BucketId, Arc<BucketNames>>,
    client_keys: IdMap<KeyId, Arc<ClientKeyNames>>,
    origins: Arc<Origins>,
    actors: OnceLock<DecidingActors>,
    /// Whether each decision is a log line too.
    pub(super) is_logged: bool,
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

/// The new value, or the former one if both are equal.
fn shared<T: PartialEq>(new: T, former: Option<&Arc<T>>) -> Arc<T> {
    former.filter(|former| ***former == new).map_or_else(|| Arc::new(new), Arc::clone)
}

impl Names {
    /// The names of a first configuration.
    pub(crate) fn new(config: &Config, ids: &Ids) -> Self {
        Self::build(config, ids, NamesNumber::default(), None)
    }

    /// The names of the next configuration. What equals the present one is shared.
    pub(super) fn next(&self, config: &Config, ids: &Ids, number: NamesNumber) -> Self {
        Self::build(config, ids, number, Some(self))
    }

    fn build(config: &Config, ids: &Ids, number: NamesNumber, former: Option<&Self>) -> Self {
        let buckets = ids.buckets().filter_map(|(name, id)| {
            let names = BucketNames::new(name, config.buckets.get(name)?);
            Some((id, shared(names, former.and_then(|former| former.buckets.get(id)))))
        });
        let client_keys = ids
            .client_keys()
            .filter_map(|(name, id)| Some((id, ClientKeyNames::of_client_key(name, config.keys.get(name)?))));
        let api_keys = ids.api_keys().filter_map(|(name, id)| {
            Some((id, ClientKeyNames::of_api_key(name, config.api_keys.get(name)?)))
        });
        let with_former =
            |(id, names)| (id, shared(names, former.and_then(|former| former.client_keys.get(id))));
        let same_origins = former.filter(|former| former.origins.is_same(&config.origins));
        Self {
            number,
            buckets: buckets.collect(),
            client_keys: client_keys.chain(api_keys).map(with_former).collect(),
            origins: same_origins
                .map_or_else(|| Arc::new(config.origins.clone()), |former| Arc::clone(&former.origins)),
            actors: OnceLock::new(),
            is_logged: config.log.decisions,
        }
    }

    pub(super) fn number(&self) -> NamesNumber {
        self.number
    }

    /// The entries of all tables, as a measure of their memory.
    pub(super) fn entries(&self) -> usize {
        self.buckets.len() + self.client_keys.len() + self.origins.len()
    }

    /// Sets the actors of the configuration, which are created after its names. A second call changes nothing.
    pub(crate) fn set_actors(&self, actors: &Actors) {
        let by_name: std::collections::HashMap<&str, &Arc<ActorStats>> =
            actors.actor_stats().map(|stats| (stats.name(), stats)).collect();
        let named = |name: &str| by_name.get(name).map(|stats| Arc::clone(stats));
        let of_buckets = |kind: &str| {
            let of_bucket = |(id, bucket): (BucketId, &Arc<BucketNames>)| {
                Some((id, named(&format!("{kind}:{}", bucket.name))?))
            };
            self.buckets.iter().filter_map(of_bucket).collect()
        };
        if let (Some(monitor), Some(limiter)) = (named("monitor"), named("limiter")) {
            let (pools, breakers) = (of_buckets("pool"), of_buckets("breaker"));
            let _ = self.actors.set(DecidingActors { monitor, limiter, pools, breakers });
        }
    }

    pub(super) fn actor(&self, actor: DecidingActor, bucket: Option<BucketId>) -> Option<&ActorStats> {
        let actors = self.actors.get()?;
        Some(match actor {
            DecidingActor::Monitor => &actors.monitor,
            DecidingActor::Limiter => &actors.limiter,
            DecidingActor::Pool => actors.pools.get(bucket?)?,
            DecidingActor::Breaker => actors.breakers.get(bucket?)?,
        })
    }

    /// The name of the actor that decided.
    pub(crate) fn actor_name(&self, facts: &DecisionFacts) -> Option<&str> {
        facts.figures.actor.and_then(|actor| self.actor(actor, facts.bucket)).map(ActorStats::name)
    }

    pub(super) fn bucket_names(&self, id: BucketId) -> Option<&Arc<BucketNames>> {
        self.buckets.get(id)
    }

    pub(crate) fn bucket(&self, id: BucketId) -> Option<&str> {
        self.buckets.get(id).map(|bucket| bucket.name.as_str())
    }

    /// The bucket of this name.
    pub(super) fn find_bucket(&self, name: &str) -> Option<BucketId> {
        self.buckets.iter().find(|(_, bucket)| bucket.name == name).map(|(id, _)| id)
    }

    /// The name of the client's key.
    pub(crate) fn client_key(&self, facts: &DecisionFacts) -> Option<&str> {
        self.client_keys.get(facts.key?).map(|key| key.shown.as_str())
    }

    /// The endpoint of a decision: host and port.
    pub(crate) fn endpoint(&self, facts: &DecisionFacts) -> Option<&str> {
        let bucket = self.buckets.get(facts.bucket?)?;
        bucket.endpoints.get(usize::from(facts.endpoint?)).map(String::as_str)
    }

    pub(crate) fn credential(&self, facts: &DecisionFacts) -> Option<&str> {
        let bucket = self.buckets.get(facts.bucket?)?;
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
        let bucket = || self.buckets.get(facts.bucket?);
        Some(match name {
            KeyName::Process(key) | KeyName::Header(key) => key.to_owned(),
            KeyName::Bucket(key) => format!("{}.{key}", key_name(&["buckets", &bucket()?.name])),
            KeyName::Upstream(key) => {
                let BucketNames { name, kind, .. } = &**bucket()?;
                format!("{}.{key}", key_name(&["buckets", name, kind.as_str()]))
            }
            KeyName::ClientKey(key) => {
                let [section, name] = &self.client_keys.get(facts.key?)?.section;
                format!("{}.{key}", key_name(&[section, name]))
            }
        })
    }
}
