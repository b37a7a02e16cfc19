//! The validity of a certificate (RFC 5280, section 4.1.2.5), read from its DER.
//!
//! rustls checks the validity of foreign certificates and not that of the own one. Only the path to the field `validity` is read; rustls
//! has accepted the certificate before.

use std::time::{Duration, SystemTime};

use time::{Date, Month, PrimitiveDateTime, Time};

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A position in DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The tag and the content of the next element.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn sequence(&mut self) -> Option<Self> {
        self.next().filter(|(tag, _)| *tag == SEQUENCE).map(|(_, content)| Self(content))
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// The time in which both certificates are valid.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }
}

/// The validity; none if the certificate is malformed.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    let mut body = Der(certificate).sequence()?.sequence()?;
    // The version is absent in version 1; then this is the serial number.
    if body.next()?.0 == VERSION {
        body.next()?;
    }
    let (_signature, _issuer) = (body.sequence()?, body.sequence()?);
    let mut validity = body.sequence()?;
    let mut time = || {
        let (tag, text) = validity.next()?;
        parse_time(tag, std::str::from_utf8(text).ok()?)
    };
    Some(Validity { not_before: time()?, not_after: time()? })
}

fn parse_time(tag: u8, text: &str) -> Option<SystemTime> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let (year, at) = match tag {
        UTC_TIME => {
            let year = number(0, 2)?;
            // RFC 5280: two digits from 50 on are of the last century.
            (if year >= 50 { 1900 + year } else { 2000 + year }, 2)
        }
        GENERALIZED_TIME => (number(0, 4)?, 4),
        _ => return None,
    };
    let part = |index: usize| u8::try_from(number(at + 2 * index, at + 2 * index + 2)?).ok();
    let month = Month::try_from(part(0)?).ok()?;
    let date = Date::from_calendar_date(year.into(), month, part(1)?).ok()?;
    let time = Time::from_hms(part(2)?, part(3)?, part(4)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    // A time before 1970 has ended long ago.
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// X10: begin and end are read from certificates of either time format
    #[test]
    fn the_validity_of_a_certificate_is_read() {
        for (year, seconds) in
            [(2031, 1_925_164_800), (2049, 2_493_244_800), (2050, 2_524_780_800), (1969, 0)]
        {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.not_before = date_time_ymd(2001, 1, 3);
            params.not_after = date_time_ymd(year, 1, 3);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let not_before = SystemTime::UNIX_EPOCH + Duration::from_secs(978_480_000);
            let expected = Validity { not_before, not_after: expected };
            assert_eq!(validity(certificate.der()), Some(expected), "{year}");
        }
    }

    /// X10: no certificate that is cut off or changed causes a panic
    #[test]
    fn malformed_certificates_have_no_validity() {
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der().to_vec();
        for length in 0..der.len() {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        for at in 0..der.len() {
            for byte in [0, 0x30, 0x7f, 0x84, 0xff] {
                let mut changed = der.clone();
                changed[at] = byte;
                let _ = validity(&changed);
            }
        }
        for text in ["", "20", "200000000000Z", "20260231000000Z", "2026010é000000Z"] {
            assert_eq!(parse_time(GENERALIZED_TIME, text), None, "{text}");
        }
    }
}
