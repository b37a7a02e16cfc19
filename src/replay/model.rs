//! A configuration with its model: the names of the log are those of the configuration here.

use std::time::Duration;

use tidegate_actors::replay::{Arrival, Observer, Replay, ReplayCaller, Work};
use tidegate_actors::{BucketId, Ids, IpKey};
use tidegate_config::{Config, Costs};

use crate::replay::configuration::ConfiguredNames;
use crate::replay::log::merge::MergedLog;
use crate::replay::names::{LoggedClient, NO_SUCH_BUCKET};
use crate::replay::request::RecordedRequest;
use crate::replay::tally::RequestTag;

/// The model.
pub(crate) struct Model<O> {
    pub(crate) names: ConfiguredNames,
    pub(crate) replay: Replay<RequestTag>,
    /// Receives the decisions.
    pub(crate) observer: O,
    /// Costs of requests without a bucket.
    costs: Costs,
}

impl<O: Observer<RequestTag>> Model<O> {
    pub(crate) fn new(config: &Config, seed: u64, observer: O) -> Self {
        let ids = Ids::new(config);
        Self {
            names: ConfiguredNames::new(config, &ids),
            replay: Replay::new(config, &ids, seed),
            observer,
            costs: config.rate_limit.cost,
        }
    }

    /// Decides on a request. Returns its bucket and cost in this configuration.
    pub(crate) fn arrive(
        &mut self,
        request: &RecordedRequest,
        (at, work): (Duration, Work),
        tag: RequestTag,
        log: &MergedLog,
    ) -> (Option<BucketId>, u32) {
        let bucket = request.bucket.and_then(|bucket| self.names.bucket(bucket, &log.names.buckets));
        let cost = request.class.cost(&bucket.map_or(self.costs, |(_, costs)| costs));
        let bucket = bucket.map(|(bucket, _)| bucket);
        let is_missing = request.bucket.is_some() && bucket.is_none();
        // The gateway routes before it authenticates, so this reason replaces a later one of the log.
        let tag = if is_missing { RequestTag { lasting_refusal: Some(NO_SUCH_BUCKET), ..tag } } else { tag };
        let caller = match request.client {
            client if client.is_untracked() => ReplayCaller::Untracked,
            LoggedClient::Key(key) => {
                self.names.key(key, &log.names.keys).map_or(ReplayCaller::Anonymous, ReplayCaller::Key)
            }
            LoggedClient::Subject(subject) => ReplayCaller::Subject(log.names.subjects.name(subject)),
            LoggedClient::Address(_) | LoggedClient::Unknown => ReplayCaller::Anonymous,
        };
        let arrival = Arrival {
            at,
            bucket,
            class: request.class,
            client: request.address.map(IpKey::from),
            caller,
            // A request to a bucket that the configuration does not have gets a local reply after the limits of its head.
            work: if is_missing { Work::Local { took: Duration::ZERO } } else { work },
        };
        self.replay.arrive(arrival, tag, &mut self.observer);
        (bucket, cost)
    }
}
