//! Measures the store's clock from a response to a signed request (A2).
//!
//! An S3 error has a code for a refused signature time, and the store's time in `<ServerTime>`. The response to a
//! HEAD has no document: a 401 or 403 with a date that differs by almost as much as stores tolerate may be such a
//! refusal. The gateway then tries once more. If the result is the same, the client gets it.
//!
//! Sources: S3 API reference, "Error responses" (`RequestTimeTooSkewed`); AWS "Common errors" (`RequestExpired`).

use std::time::{Duration, SystemTime};

use actix_web::http::header::{DATE, HeaderMap};
use tidegate_actors::clock;
use tidegate_s3::sigv4::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::upstream::response::error_document::ErrorDocumentPrefix;
use crate::upstream::rules::store_clock::{ClockOffset, ClockSkew, StoreClock, TimeRefusal};

/// Error codes for a refused signature time.
const TIME_ERROR_CODES: [&str; 3] = ["RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"];
/// One minute less than the difference that stores tolerate (15 minutes).
const TOLERATED: Duration = Duration::from_secs(14 * 60);

/// The parts of a response that contain the store's time.
pub(crate) struct DatedResponse<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) is_head: bool,
    pub(crate) code: Option<&'a str>,
    pub(crate) document: Option<&'a ErrorDocumentPrefix>,
}

impl DatedResponse<'_> {
    /// Reports to the clock of the endpoint whether the store accepted the time of a signature with the offset
    /// `used`.
    pub(crate) fn report(&self, used: ClockOffset, store_clock: &StoreClock) -> Option<ClockSkew> {
        let is_plain = used == ClockOffset::default();
        match self.status {
            400 | 401 | 403 => {
                self.refusal(used, clock::wall()).map(|time| store_clock.report_refusal(time, clock::now()))
            }
            ..500 if !is_plain || store_clock.is_in_episode() => {
                store_clock.report_acceptance(used, self.measured(clock::wall()), clock::now());
                None
            }
            _ => None,
        }
    }

    fn refusal(&self, used: ClockOffset, now: SystemTime) -> Option<TimeRefusal> {
        let is_named = self.code.is_some_and(|code| TIME_ERROR_CODES.contains(&code));
        if is_named {
            return Some(TimeRefusal { used, measured: self.measured(now), is_confirmed: is_named });
        }
        let measured = self.measured(now).filter(|_| self.is_head && self.status != 400)?;
        measured.differs_by(used, TOLERATED).then_some(TimeRefusal {
            used,
            measured: Some(measured),
            is_confirmed: is_named,
        })
    }

    /// The offset of the store's clock. `<ServerTime>` takes precedence over the date, which a proxy may have
    /// written.
    fn measured(&self, now: SystemTime) -> Option<ClockOffset> {
        let server_time = self.document.and_then(|document| parse_time(&document.element("ServerTime")?));
        let date = || httpdate::parse_http_date(self.headers.get(DATE)?.to_str().ok()?).ok();
        server_time.or_else(date).map(|store_time| ClockOffset::between(now, store_time))
    }
}

/// Parses `2026-11-29T11:09:20Z` and `20261129T110920Z`.
fn parse_time(text: &str) -> Option<SystemTime> {
    let basic = || Timestamp::parse(text).map(|timestamp| timestamp.to_time());
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from).or_else(basic)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use bytes::Bytes;

    use super::*;
    use crate::upstream::response::error_document::RemainingBody;

    const NOW: &str = "Sun, 29 Nov 2026 11:00:00 GMT";

    fn refusal(status: u16, is_head: bool, date: &str, document: &str) -> Option<TimeRefusal> {
        let mut headers = HeaderMap::new();
        if let Ok(date) = HeaderValue::from_str(date) {
            headers.insert(DATE, date);
        }
        let document = ErrorDocumentPrefix {
            bytes: Bytes::copy_from_slice(document.as_bytes()),
            remaining: RemainingBody::Complete,
        };
        let code = document.code();
        let response = DatedResponse {
            status,
            headers: &headers,
            is_head,
            code: code.as_deref(),
            document: Some(&document),
        };
        response.refusal(ClockOffset::default(), httpdate::parse_http_date(NOW).unwrap())
    }

    fn ahead(seconds: u64) -> Option<ClockOffset> {
        let now = httpdate::parse_http_date(NOW).unwrap();
        Some(ClockOffset::between(now, now + Duration::from_secs(seconds)))
    }

    /// A2, X9: the code decides; `<ServerTime>` takes precedence over the date
    #[test]
    fn the_store_names_its_time() {
        let document = |code: &str, time: &str| format!("<Error><Code>{code}</Code>{time}</Error>");
        let date = "Sun, 29 Nov 2026 12:00:00 GMT";
        let named = |document: &str| refusal(403, false, date, document).map(|refusal| refusal.measured);
        for code in TIME_ERROR_CODES {
            assert_eq!(named(&document(code, "")), Some(ahead(3600)), "{code}");
        }
        for time in ["2026-11-29T11:30:00Z", "20261129T113000Z", "2026-11-29T12:30:00.000+01:00"] {
            let time = format!("<ServerTime>{time}</ServerTime>");
            assert_eq!(named(&document(TIME_ERROR_CODES[2], &time)), Some(ahead(1800)), "{time}");
        }
        for absurd in ["soon", "", "2026-13-29T11:30:00Z", "-1"] {
            let time = format!("<ServerTime>{absurd}</ServerTime>");
            assert_eq!(named(&document(TIME_ERROR_CODES[2], &time)), Some(ahead(3600)), "{absurd}");
        }
        assert_eq!(named(&document("AccessDenied", "")), None);
        for absurd in ["", "0", "yesterday", "Sun, 99 Nov 2026 12:00:00 GMT"] {
            let undated = refusal(403, false, absurd, &document(TIME_ERROR_CODES[2], ""))
                .map(|refusal| refusal.measured);
            assert_eq!(undated, Some(None), "{absurd}");
        }
    }

    /// A2, X9: a response without a document is a refusal only if the date is far off
    #[test]
    fn the_response_to_head_is_judged_by_its_date() {
        let of =
            |status, is_head, date| refusal(status, is_head, date, "").map(|refusal| refusal.is_confirmed);
        assert_eq!(of(403, true, "Sun, 29 Nov 2026 10:45:00 GMT"), Some(false));
        assert_eq!(of(401, true, "Sun, 29 Nov 2026 11:15:00 GMT"), Some(false));
        assert_eq!(of(403, true, "Sun, 29 Nov 2026 11:13:00 GMT"), None);
        assert_eq!(of(403, false, "Sun, 29 Nov 2026 12:00:00 GMT"), None);
        assert_eq!(of(400, true, "Sun, 29 Nov 2026 12:00:00 GMT"), None);
        assert_eq!(of(403, true, ""), None);
    }
}
