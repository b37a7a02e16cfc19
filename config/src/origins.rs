//! The origin of each key that a source sets, kept with the configuration for explanations. It has no values, so it holds no secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::problem::Origin;
use crate::setting::Settings;

/// The origin of each key that is set. A copy shares them.
#[derive(Debug, Clone, Default)]
pub struct Origins(Arc<BTreeMap<String, Origin>>);

/// The origin of a value is not part of the value: configurations with the same values are equal.
impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Origins {
    pub(crate) fn of(settings: &Settings) -> Self {
        let origins = settings.iter().map(|(path, setting)| (path.to_string(), setting.origin.clone()));
        Self(Arc::new(origins.collect()))
    }

    /// Whether both have the same origin for each key. Equality does not compare origins.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// The number of keys that are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The origin of a key, such as `server.port`; `Default` if no source sets it.
    pub fn origin(&self, key: &str) -> &Origin {
        self.0.get(key).unwrap_or(&Origin::Default)
    }

    /// Whether a source sets the key.
    pub fn is_set(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::{Origin, Sources, load};

    /// O4: a key has the origin of the source that set it last; a key that is not set has none
    #[test]
    fn a_key_has_the_origin_of_its_value() {
        let sources = Sources::default()
            .text(
                "t.toml",
                "[server]\nkeep_alive = 7\nheader_timeout = 3\n[buckets.\"a:b\".s3]\nregion = \"x\"",
            )
            .environment([("TIDEGATE_SERVER__KEEP_ALIVE", "8"), ("TIDEGATE_BUCKETS__C__KIND", "http")]);
        // The buckets have no endpoints: the origins do not depend on the values.
        let merged = sources.merge();
        let origins = super::Origins::of(&merged.settings);
        let variable = |name: &str| Origin::Variable(name.to_owned());
        assert_eq!(origins.origin("server.keep_alive"), &variable("TIDEGATE_SERVER__KEEP_ALIVE"));
        assert_eq!(origins.origin("server.header_timeout"), &Origin::File(PathBuf::from("t.toml")));
        assert_eq!(origins.origin("buckets.\"a:b\".s3.region"), &Origin::File(PathBuf::from("t.toml")));
        assert_eq!(origins.origin("buckets.c.kind"), &variable("TIDEGATE_BUCKETS__C__KIND"));
        assert!(!origins.is_set("server.port"));
        assert_eq!(origins.origin("server.port"), &Origin::Default);
    }

    /// O4: a loaded configuration has the origins of its keys
    #[test]
    fn a_loaded_configuration_has_its_origins() {
        let config = load(Sources::default().text("t.toml", "[server]\nkeep_alive = 7")).unwrap();
        assert_eq!(config.origins.origin("server.keep_alive"), &Origin::File(PathBuf::from("t.toml")));
    }
}
