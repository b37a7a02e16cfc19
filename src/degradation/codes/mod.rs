//! The codes of all causes, in the order of their weight. `table.rs` has what is known about each.

mod certificates;
mod configuration;
mod drains;
mod failover;
mod shadow;
mod table;

use serde::{Serialize, Serializer};

use table::CODES;

/// How bad a cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something is not as it should be, and requests are served.
    Degraded,
    /// Requests are refused for a reason of the gateway itself, or a bucket is unusable without an order to drain the bucket itself.
    Critical,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// What a cause concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ScopeKind {
    Process,
    Bucket,
    Endpoint,
    Credential,
    Actor,
    Listener,
    Log,
}

impl ScopeKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Bucket => "bucket",
            Self::Endpoint => "endpoint",
            Self::Credential => "credential",
            Self::Actor => "actor",
            Self::Listener => "listener",
            Self::Log => "log",
        }
    }
}

/// What is known about a code.
#[derive(Debug)]
pub(crate) struct CodeEntry {
    /// The stable name, which alerts match.
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    pub(crate) scope: ScopeKind,
    /// What it means.
    pub(crate) meaning: &'static str,
    /// Effect on requests.
    pub(crate) effect: &'static str,
    /// The reasons of the refusals that it causes.
    pub(crate) refusals: &'static [&'static str],
    /// What ends it.
    pub(crate) ends_when: &'static str,
}

macro_rules! codes {
    ($($code:ident),+ $(,)?) => {
        /// A code, in the order of the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum CauseCode { $($code),+ }

        impl CauseCode {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$code),+];
        }
    };
}

codes!(
    Draining,
    LimiterFailed,
    Exhausted,
    OutOfDescriptors,
    OutOfPorts,
    OutOfMemory,
    InFlightFull,
    TokenKeysMissing,
    CertificateExpired,
    CertificateNotYetValid,
    PoolFailed,
    CircuitForcedOpen,
    CircuitOpen,
    EndpointsOut,
    EndpointsFailing,
    CredentialsMissing,
    CredentialsOut,
    EndpointsDraining,
    BucketDraining,
    CriticalLevel,
    WarningLevel,
    ConnectionsWait,
    LimiterBypassed,
    ActorFailed,
    ActorStalled,
    ActorRestarting,
    MailboxFull,
    SensorsStale,
    SensorUnknown,
    CircuitHalfOpen,
    QueueOverflow,
    Shedding,
    UpstreamUnresponsive,
    StandbyInUse,
    EndpointDraining,
    EndpointOut,
    UpstreamTls,
    UpstreamClockSkew,
    UpstreamUnresolved,
    ResolverStale,
    CredentialRefused,
    CredentialCooling,
    CredentialRenewal,
    TokenKeysRefresh,
    ConfigurationRefused,
    CertificateRefused,
    CertificateExpires,
    Log,
    LimitShadow,
    CircuitShadow,
    ClientLimitShadow,
    ActionShadow,
    Chaos,
);

impl CauseCode {
    /// Its row in the table.
    pub(crate) fn entry(self) -> &'static CodeEntry {
        &CODES[self as usize]
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.entry().name
    }

    pub(crate) fn severity(self) -> Severity {
        self.entry().severity
    }

    /// The page and the anchor that explain it.
    pub(crate) fn docs(self) -> String {
        format!("docs/causes.md#{}", self.as_str())
    }
}

impl Serialize for CauseCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn code_list(words: &[&str]) -> String {
        words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
    }

    /// The section of a code in docs/causes.md.
    fn section(entry: &CodeEntry) -> String {
        let CodeEntry { name, severity, scope, meaning, effect, refusals, ends_when, .. } = entry;
        let mut text = format!("### `{name}`\n\n");
        let _ = writeln!(text, "- Severity: `{}`", severity.as_str());
        let _ = writeln!(text, "- Scope: `{}`", scope.as_str());
        let _ = writeln!(text, "- Meaning: {meaning}");
        let _ = writeln!(text, "- Effect: {effect}");
        if !refusals.is_empty() {
            let _ = writeln!(text, "- Refusals: {}", code_list(refusals));
        }
        let _ = writeln!(text, "- Ends when {ends_when}");
        text
    }

    fn row(entry: &CodeEntry) -> String {
        let CodeEntry { name, severity, scope, meaning, .. } = entry;
        let (severity, scope) = (severity.as_str(), scope.as_str());
        format!("| [`{name}`](causes.md#{name}) | `{severity}` | `{scope}` | {meaning} |")
    }

    fn assert_marked(page: &str, text: &str, mark: &str, expected: &str) {
        let (begin, end) = (format!("<!-- {mark}:begin -->"), format!("<!-- {mark}:end -->"));
        let marked = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        assert!(
            marked.is_some_and(|(text, _)| text.trim() == expected.trim()),
            "{page} differs from the table: put this between {begin} and {end}\n\n{expected}"
        );
    }

    /// X10: each code has its own row, and the rows are in the order of the codes
    #[test]
    fn the_table_has_a_row_for_each_code() {
        for code in CauseCode::ALL {
            let words = format!("{code:?}").replace("Level", "");
            let upper = |c: char| c.is_ascii_uppercase();
            let name: String = words
                .chars()
                .flat_map(|c| upper(c).then_some('_').into_iter().chain([c.to_ascii_lowercase()]))
                .collect();
            assert_eq!(name.trim_start_matches('_'), code.as_str());
        }
        let mut names: Vec<_> = CODES.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
        assert!(CODES.iter().map(|entry| entry.severity).is_sorted_by(|one, next| one >= next));
    }

    /// X10: the pages have exactly the rows of the table
    #[test]
    fn the_pages_have_the_rows_of_the_table() {
        let sections: Vec<_> = CODES.iter().map(section).collect();
        assert_marked(
            "docs/causes.md",
            include_str!("../../../docs/causes.md"),
            "causes",
            &sections.join("\n"),
        );
        let head = "| cause | severity | scope | meaning |\n|---|---|---|---|";
        let rows: Vec<_> = std::iter::once(head.to_owned()).chain(CODES.iter().map(row)).collect();
        assert_marked("docs/status.md", include_str!("../../../docs/status.md"), "causes", &rows.join("\n"));
    }

    /// X10, O4: each reason of a refusal is documented with the answers
    #[test]
    fn the_refusals_are_documented_reasons() {
        let page = include_str!("../../../docs/errors.md");
        for reason in CODES.iter().flat_map(|entry| entry.refusals) {
            assert!(page.contains(&format!("`{reason}`")), "docs/errors.md has no reason {reason}");
        }
    }
}
