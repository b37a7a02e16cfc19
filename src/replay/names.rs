//! Names of a log as numbers: buckets, reasons, keys, subjects and clients. Each table has a maximum of names and of bytes in a name;
//! further and longer names share one number.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use ahash::RandomState;

use crate::replay::log::line::RequestFields;

/// The number of all names beyond the maximum of their table. No limit of one name applies to it.
pub(crate) const OTHERS: u32 = u32::MAX;

/// The reason of a request to a bucket that a configuration does not have, with its number in each table of reasons.
const NO_SUCH_BUCKET_REASON: &str = "no_such_bucket";
pub(crate) const NO_SUCH_BUCKET: u32 = 0;

/// The longest name with a number of its own, in bytes. A line may have a megabyte.
const NAME_BYTES_MAX: usize = 1024;

/// A table of texts.
#[derive(Debug)]
pub(crate) struct Names {
    ids: HashMap<Rc<str>, u32, RandomState>,
    names: Vec<Rc<str>>,
    max: usize,
}

impl Names {
    pub(crate) fn new(max: usize) -> Self {
        Self { ids: HashMap::default(), names: Vec::new(), max }
    }

    /// The number of a name.
    pub(crate) fn id(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if self.names.len() >= self.max || name.len() > NAME_BYTES_MAX {
            return OTHERS;
        }
        let id = u32::try_from(self.names.len()).unwrap_or(OTHERS);
        let name: Rc<str> = name.into();
        self.names.push(Rc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    /// The name with this number.
    pub(crate) fn name(&self, id: u32) -> &str {
        self.names.get(id as usize).map_or("(others)", |name| name)
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// A client as the log names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LoggedClient {
    /// A key, by its number.
    Key(u32),
    /// A subject, by its number.
    Subject(u32),
    /// An address of a client without authentication.
    Address(IpAddr),
    /// A connection without an address.
    Unknown,
}

impl LoggedClient {
    /// Whether it is one of the keys or subjects beyond the maximum of their table, which share a number.
    pub(crate) fn is_untracked(self) -> bool {
        matches!(self, Self::Key(OTHERS) | Self::Subject(OTHERS))
    }
}

/// Most clients with figures of their own.
const CLIENTS_MAX: usize = 10_000;

/// The clients with figures of their own.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    ids: HashMap<LoggedClient, u32, RandomState>,
    clients: Vec<LoggedClient>,
}

impl Clients {
    pub(crate) fn id(&mut self, client: LoggedClient) -> u32 {
        if client.is_untracked() {
            return OTHERS;
        }
        if let Some(id) = self.ids.get(&client) {
            return *id;
        }
        if self.clients.len() >= CLIENTS_MAX {
            return OTHERS;
        }
        let id = u32::try_from(self.clients.len()).unwrap_or(OTHERS);
        self.clients.push(client);
        self.ids.insert(client, id);
        id
    }

    pub(crate) fn client(&self, id: u32) -> Option<LoggedClient> {
        self.clients.get(id as usize).copied()
    }
}

/// Most keys, and most subjects, that have numbers of their own.
pub(crate) const KEYS_MAX: usize = 100_000;

/// The tables of a log.
#[derive(Debug)]
pub(crate) struct LogNames {
    pub(crate) buckets: Names,
    pub(crate) reasons: Names,
    pub(crate) keys: Names,
    pub(crate) subjects: Names,
}

impl Default for LogNames {
    fn default() -> Self {
        // The gateway has about 200.
        let mut reasons = Names::new(256);
        // A replay refuses with it, whether the log has it or not. It is the first one, so its number is known.
        reasons.id(NO_SUCH_BUCKET_REASON);
        Self {
            // A configuration has at most this many buckets.
            buckets: Names::new(65_536),
            reasons,
            keys: Names::new(KEYS_MAX),
            subjects: Names::new(KEYS_MAX),
        }
    }
}

impl LogNames {
    /// The client of an access line.
    pub(crate) fn client_of(&mut self, fields: &RequestFields<'_>) -> LoggedClient {
        match (&fields.key, &fields.subject, fields.client) {
            (Some(key), _, _) => LoggedClient::Key(self.keys.id(key)),
            (None, Some(subject), _) => LoggedClient::Subject(self.subjects.id(subject)),
            (None, None, Some(address)) => LoggedClient::Address(address),
            (None, None, None) => LoggedClient::Unknown,
        }
    }

    /// The name of a client.
    pub(crate) fn client(&self, client: Option<LoggedClient>) -> String {
        match client {
            Some(LoggedClient::Key(id)) => format!("key {}", self.keys.name(id)),
            Some(LoggedClient::Subject(id)) => format!("subject {}", self.subjects.name(id)),
            Some(LoggedClient::Address(address)) => address.to_string(),
            Some(LoggedClient::Unknown) => "(no address)".to_owned(),
            None => "(others)".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A replay refuses with a reason that the log need not have.
    #[test]
    fn the_reason_for_a_missing_bucket_has_its_number() {
        let mut names = LogNames::default();
        assert_eq!(names.reasons.name(NO_SUCH_BUCKET), "no_such_bucket");
        assert_eq!(
            ["x_denied", "no_such_bucket"].map(|reason| names.reasons.id(reason)),
            [1, NO_SUCH_BUCKET]
        );
    }

    /// The memory is bounded: names beyond the maximum share a number, and known ones keep theirs.
    #[test]
    fn a_table_has_a_maximum() {
        let mut names = Names::new(2);
        assert_eq!([names.id("a"), names.id("b"), names.id("c"), names.id("a")], [0, 1, OTHERS, 0]);
        assert_eq!((names.name(1), names.name(OTHERS), names.len()), ("b", "(others)", 2));
        let (mut names, long) = (Names::new(2), "n".repeat(NAME_BYTES_MAX + 1));
        assert_eq!([names.id(&long), names.id(&long[1..]), names.id(&long)], [OTHERS, 0, OTHERS]);
        let mut clients = Clients::default();
        let ids = (0..20_000_u32).map(|at| clients.id(LoggedClient::Key(at))).collect::<Vec<_>>();
        assert_eq!((ids[9_999], ids[10_000], clients.client(ids[10_000])), (9_999, OTHERS, None));
        assert_eq!(Clients::default().id(LoggedClient::Subject(OTHERS)), OTHERS);
    }
}
