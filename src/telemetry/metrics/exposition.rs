//! The answer to a scrape: all metrics in the text format of Prometheus, or in OpenMetrics if the scraper prefers it.

use std::time::{Instant, SystemTime};

use prometheus::{Encoder, IntGauge, Opts, Registry, TextEncoder};

use super::histogram::DurationFamily;
use super::openmetrics::{self, FamilyExemplars};
use super::process::ProcessMetrics;

/// The format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Selects the format by the values of `Accept` (RFC 9110, 12.5.1). OpenMetrics must be named, and not be less
    /// preferred than text. Every other header, malformed ones too, gets text.
    pub(crate) fn negotiate<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut openmetrics, mut text, mut wildcard) = (0.0_f32, None::<f32>, None::<f32>);
        let values = accept.filter_map(|value| std::str::from_utf8(value).ok());
        for range in values.flat_map(|value| value.split(',')).filter_map(MediaRange::parse) {
            let best =
                |known: Option<f32>| Some(known.map_or(range.quality, |known| known.max(range.quality)));
            match range.name {
                name if name.eq_ignore_ascii_case("application/openmetrics-text")
                    && range.version.is_none_or(|version| version == "1.0.0") =>
                {
                    openmetrics = openmetrics.max(range.quality);
                }
                name if name.eq_ignore_ascii_case("text/plain") => text = best(text),
                name if name.eq_ignore_ascii_case("text/*") || name == "*/*" => wildcard = best(wildcard),
                _ => {}
            }
        }
        let text = text.or(wildcard).unwrap_or(0.0);
        if openmetrics > 0.0 && openmetrics >= text { Self::OpenMetrics } else { Self::Text }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => prometheus::TEXT_FORMAT,
            Self::OpenMetrics => openmetrics::CONTENT_TYPE,
        }
    }
}

/// One media range of `Accept`.
struct MediaRange<'a> {
    name: &'a str,
    version: Option<&'a str>,
    quality: f32,
}

impl<'a> MediaRange<'a> {
    /// None if its weight is malformed.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { name: parts.next()?, version: None, quality: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            if name.eq_ignore_ascii_case("q") {
                range.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value.trim_matches('"'));
            }
        }
        Some(range)
    }
}

/// All metrics.
pub(crate) struct Exposition {
    registry: Registry,
    process: ProcessMetrics,
    /// The family with exemplars.
    requests: DurationFamily,
    namespace: String,
}

impl Exposition {
    /// The registry of the metrics of a namespace; an empty one gives names without a prefix.
    ///
    /// # Errors
    /// A metric is registered already.
    pub(crate) fn registry(namespace: &str) -> Result<Registry, prometheus::Error> {
        let prefix = (!namespace.is_empty()).then(|| namespace.to_owned());
        let registry = Registry::new_custom(prefix, None)?;
        let opts = Opts::new("build_info", "the version of the gateway; always 1");
        let opts = opts.const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(match option_env!("BUILD_COMMIT") {
            Some(commit) => opts.const_label("commit", commit),
            None => opts,
        })?;
        build.set(1);
        registry.register(Box::new(build))?;
        Ok(registry)
    }

    pub(super) fn new(
        registry: &Registry,
        namespace: &str,
        requests: &DurationFamily,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self {
            registry: registry.clone(),
            process: ProcessMetrics::register()?,
            requests: requests.clone(),
            namespace: namespace.to_owned(),
        })
    }

    /// Gathers and encodes all metrics.
    pub(crate) fn encode(
        &self,
        format: Format,
        now: (Instant, SystemTime),
    ) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(self.process.gather());
        families.sort_by(|one, other| one.name().cmp(other.name()));
        match format {
            Format::Text => {
                let mut text = Vec::with_capacity(64 * 1024);
                TextEncoder::new().encode(&families, &mut text)?;
                Ok(text)
            }
            Format::OpenMetrics => {
                let separator = if self.namespace.is_empty() { "" } else { "_" };
                let exemplars = FamilyExemplars {
                    name: format!("{}{separator}{}", self.namespace, self.requests.name()),
                    histograms: self.requests.exemplars(),
                    now,
                };
                Ok(openmetrics::encode(&families, &exemplars).into_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// O3: the headers of Prometheus and of browsers, weights, and malformed headers
    #[test]
    fn openmetrics_is_used_where_it_is_preferred() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,*/*;q=0.2";
        for accept in [
            prometheus,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=1.0.0; Q=0.2",
            "text/plain;q=0.5, application/openmetrics-text;q=0.5",
            "application/openmetrics-text;version=\"1.0.0\", */*",
            "application/openmetrics-text;q=0.3, text/plain;q=0.2, */*;q=0.9",
        ] {
            assert_eq!(Format::negotiate([accept.as_bytes()].into_iter()), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.4, text/plain;q=0.5",
            "application/openmetrics-text;q=0.4, text/*",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=NaN",
            "application/openmetrics-text;q=7",
            "application/openmetrics-text;q=-1",
            "application/*",
            ";;;,,,q=1;=",
            "application/openmetrics-textual",
        ] {
            assert_eq!(Format::negotiate([accept.as_bytes()].into_iter()), Format::Text, "{accept}");
        }
        let split = [b"text/plain;q=0.1".as_slice(), b"\xff", b"application/openmetrics-text"];
        assert_eq!(Format::negotiate(split.into_iter()), Format::OpenMetrics, "several headers");
        assert_eq!(Format::negotiate(std::iter::empty()), Format::Text);
    }
}
