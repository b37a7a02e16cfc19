//! The times of all limits as they cross to a successor: by name, as how far they are ahead of one moment.
//!
//! Cells of clients are the bulk: at most 36 bytes of JSON each, and `rate_limit.table_capacity` of them in each of three tables.
//! With its default of 100,000 that is at most 11 MB. Clients that have their whole budget do not cross.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::clock::{MonotonicClock, nanos_between};
use crate::ids::Ids;
use crate::limiter::gcra::{Gcra, Pace};
use crate::limiter::per_subject::SubjectKey;
use crate::limiter::subject_hasher::SubjectSeeds;
use crate::limiter::table::TableTimes;
use crate::limiter::tat::Tat;
use crate::types::{BucketId, IpKey, KeyId};

/// The arrival time of one limit.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedLimit {
    pub(super) pace: Pace,
    /// How far it is ahead with all tokens in use (`Tat::uncapped`), in nanoseconds.
    pub(super) ahead: u64,
}

/// The arrival times of a table of clients: each as its key and how far it is ahead.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedTable {
    pace: Pace,
    floor: u64,
    overflow: u64,
    /// IPv4 addresses.
    short: Vec<(u32, u64)>,
    /// IPv6 networks, or hashes.
    long: Vec<(u64, u64)>,
}

/// The key of a cell in another process.
pub(super) enum CellKey {
    Short(u32),
    Long(u64),
}

impl From<IpKey> for CellKey {
    fn from(key: IpKey) -> Self {
        match key {
            IpKey::V4(bits) => Self::Short(bits),
            IpKey::V6Net(bits) => Self::Long(bits),
        }
    }
}

impl From<CellKey> for IpKey {
    fn from(key: CellKey) -> Self {
        match key {
            CellKey::Short(bits) => Self::V4(bits),
            CellKey::Long(bits) => Self::V6Net(bits),
        }
    }
}

impl From<SubjectKey> for CellKey {
    fn from(key: SubjectKey) -> Self {
        Self::Long(key.fingerprint())
    }
}

impl From<CellKey> for SubjectKey {
    fn from(key: CellKey) -> Self {
        match key {
            CellKey::Short(bits) => Self::from_hash(bits.into()),
            CellKey::Long(bits) => Self::from_hash(bits),
        }
    }
}

/// The most cells of one table that cross: at 36 bytes each, three tables stay below the longest message of an upgrade.
const CELLS_MAX: usize = 2_000_000;

/// How long ago the times were exported, and how long leases of the predecessor lasted then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) elapsed: u64,
    pub(super) lease_left: u64,
}

impl ExportedLimit {
    /// How far the times are ahead under this limit.
    pub(super) fn ahead(&self, gcra: &Gcra, received: Received) -> Tat {
        gcra.imported(self.pace, self.ahead, received.lease_left, received.elapsed)
    }
}

impl ExportedTable {
    pub(super) fn new<K: Into<CellKey>>(gcra: &Gcra, times: TableTimes<K>) -> Self {
        let TableTimes { clients, overflow, floor } = times;
        // A client without a cell starts at the floor.
        let rest = clients.iter().skip(CELLS_MAX);
        let floor = rest.map(|(_, ahead)| ahead.uncapped).fold(floor.uncapped, u64::max);
        let (pace, overflow) = (gcra.pace(), overflow.uncapped);
        let mut table = Self { pace, floor, overflow, short: Vec::new(), long: Vec::new() };
        for (client, ahead) in clients.into_iter().take(CELLS_MAX) {
            match client.into() {
                CellKey::Short(bits) => table.short.push((bits, ahead.uncapped)),
                CellKey::Long(bits) => table.long.push((bits, ahead.uncapped)),
            }
        }
        table
    }

    /// How far the times are ahead under this limit.
    pub(super) fn times<K: From<CellKey>>(&self, gcra: &Gcra, received: Received) -> TableTimes<K> {
        let ahead = |ahead| ExportedLimit { pace: self.pace, ahead }.ahead(gcra, received);
        let short = self.short.iter().map(|(bits, time)| (CellKey::Short(*bits), *time));
        let long = self.long.iter().map(|(bits, time)| (CellKey::Long(*bits), *time));
        let clients = short.chain(long).map(|(key, time)| (key.into(), ahead(time))).collect();
        TableTimes { clients, overflow: ahead(self.overflow), floor: ahead(self.floor) }
    }
}

/// The times of all limits, by ID.
#[derive(Debug)]
pub(crate) struct LimitTimes {
    pub(super) at: Instant,
    /// Remaining time of leases.
    pub(super) lease_left: u64,
    pub(super) global: Option<ExportedLimit>,
    pub(super) buckets: Vec<(BucketId, ExportedLimit)>,
    pub(super) keys: Vec<(KeyId, ExportedLimit)>,
    pub(super) per_ip: Option<ExportedTable>,
    /// None also if hashes of subjects have another meaning in this process.
    pub(super) per_subject: Option<ExportedTable>,
    pub(super) failed_auth: Option<ExportedTable>,
    /// Tables and limits without known times start with their bursts spent.
    pub(super) is_lost: bool,
    pub(super) are_subjects_lost: bool,
}

impl LimitTimes {
    /// The times of a limiter that does not answer.
    pub(super) fn lost(at: Instant) -> Self {
        Self {
            at,
            lease_left: 0,
            global: None,
            buckets: Vec::new(),
            keys: Vec::new(),
            per_ip: None,
            per_subject: None,
            failed_auth: None,
            is_lost: true,
            are_subjects_lost: false,
        }
    }

    pub(super) fn received(&self, now: Instant) -> Received {
        Received { elapsed: nanos_between(self.at, now), lease_left: self.lease_left }
    }
}

/// The times of all limits, by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedLimits {
    /// The limiter did not answer, so the times are not known.
    is_lost: bool,
    /// The moment of the times, in nanoseconds of `CLOCK_MONOTONIC`.
    at: u64,
    lease_left: u64,
    global: Option<ExportedLimit>,
    buckets: BTreeMap<String, ExportedLimit>,
    client_keys: BTreeMap<String, ExportedLimit>,
    api_keys: BTreeMap<String, ExportedLimit>,
    per_ip: Option<ExportedTable>,
    per_subject: Option<ExportedTable>,
    pub(super) subject_seeds: Option<SubjectSeeds>,
    failed_auth: Option<ExportedTable>,
    /// Clients that are locked out after failed authentications, and until when.
    lockouts_short: Vec<(u32, u64)>,
    lockouts_long: Vec<(u64, u64)>,
}

fn by_name<'a, I: Copy + Ord>(
    names: impl Iterator<Item = (&'a str, I)>,
    limits: &BTreeMap<I, ExportedLimit>,
) -> BTreeMap<String, ExportedLimit> {
    names.filter_map(|(name, id)| Some((name.to_owned(), *limits.get(&id)?))).collect()
}

fn by_id<'a, I>(
    names: impl Iterator<Item = (&'a str, I)>,
    limits: &BTreeMap<String, ExportedLimit>,
) -> Vec<(I, ExportedLimit)> {
    names.filter_map(|(name, id)| Some((id, *limits.get(name)?))).collect()
}

impl ExportedLimits {
    pub(super) fn new(times: LimitTimes, ids: &Ids, clock: &MonotonicClock) -> Self {
        let buckets: BTreeMap<BucketId, ExportedLimit> = times.buckets.into_iter().collect();
        let keys: BTreeMap<KeyId, ExportedLimit> = times.keys.into_iter().collect();
        Self {
            is_lost: times.is_lost,
            at: clock.nanos(times.at),
            lease_left: times.lease_left,
            global: times.global,
            buckets: by_name(ids.buckets(), &buckets),
            client_keys: by_name(ids.client_keys(), &keys),
            api_keys: by_name(ids.api_keys(), &keys),
            per_ip: times.per_ip,
            per_subject: times.per_subject,
            failed_auth: times.failed_auth,
            ..Self::default()
        }
    }

    /// The times by the IDs of this process. Unknown names are ignored.
    pub(super) fn times(
        self,
        ids: &Ids,
        knows_subjects: bool,
        clock: &MonotonicClock,
        now: Instant,
    ) -> LimitTimes {
        let mut keys = by_id(ids.client_keys(), &self.client_keys);
        keys.extend(by_id(ids.api_keys(), &self.api_keys));
        LimitTimes {
            at: clock.instant(self.at).min(now),
            lease_left: self.lease_left,
            global: self.global,
            buckets: by_id(ids.buckets(), &self.buckets),
            keys,
            per_ip: self.per_ip,
            are_subjects_lost: self.per_subject.is_some() && !knows_subjects,
            per_subject: self.per_subject.filter(|_| knows_subjects),
            failed_auth: self.failed_auth,
            is_lost: self.is_lost,
        }
    }

    pub(super) fn set_lockouts(&mut self, lockouts: Vec<(IpKey, Instant)>, clock: &MonotonicClock) {
        for (client, until) in lockouts {
            let until = clock.nanos(until);
            match client.into() {
                CellKey::Short(bits) => self.lockouts_short.push((bits, until)),
                CellKey::Long(bits) => self.lockouts_long.push((bits, until)),
            }
        }
    }

    pub(super) fn lockouts(&self, clock: &MonotonicClock) -> Vec<(IpKey, Instant)> {
        let short = self.lockouts_short.iter().map(|(bits, until)| (IpKey::V4(*bits), *until));
        let long = self.lockouts_long.iter().map(|(bits, until)| (IpKey::V6Net(*bits), *until));
        short.chain(long).map(|(client, until)| (client, clock.instant(until))).collect()
    }
}
