//! Sessions of the admin listener: the value of the cookie for which a browser trades its token.
//!
//! An `EventSource` and a link cannot send a header, so the page for people needs a cookie. Its value holds the role, the
//! end and a number of the session, and their HMAC under a key that this process made at its start. So no session needs
//! memory, and none survives a restart. A logout keeps the session's number until the session would end. Each role has such
//! a list with a fixed maximum: when it is full, all sessions of the role end.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

use actix_web::http::header::{COOKIE, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;

use super::role::AdminRole;
use crate::auth::cookies::ADMIN_SESSION;

/// The life of a session.
const SESSION_TIME: Duration = Duration::from_secs(12 * 3600);
/// The most sessions of a role that are known to be logged out.
const ENDED_MAX: usize = 1024;
/// The cookies of this name that are verified in one request. A browser sends several if a neighbour set one.
const COOKIES_MAX: usize = 4;
/// Role, end, number.
const CLAIM_BYTES: usize = 17;

/// A valid session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) role: AdminRole,
    /// Seconds since the epoch of the sessions.
    end: u64,
    number: u64,
}

/// The session of an open event stream, which ends with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamSession {
    pub(super) session: Session,
    pub(super) expires: Instant,
}

/// The sessions of this process.
pub(super) struct Sessions {
    key: hmac::Key,
    epoch: Instant,
    issued: Cell<u64>,
    operators: RefCell<EndedSessions>,
    readers: RefCell<EndedSessions>,
}

/// The sessions of one role that ended before their time. Those of readers cannot end those of operators.
#[derive(Debug, Default)]
struct EndedSessions {
    /// Sessions with a lower number have ended.
    first_valid: u64,
    ended: Vec<Session>,
}

impl EndedSessions {
    fn contains(&self, session: &Session) -> bool {
        session.number < self.first_valid || self.ended.contains(session)
    }

    /// Adds a session. `issued` is the number of the next one, and `now` is in seconds.
    fn add(&mut self, session: Session, issued: u64, now: u64) {
        self.ended.retain(|each| each.end > now);
        if self.ended.len() >= ENDED_MAX {
            self.ended.clear();
            self.first_valid = issued;
        }
        self.ended.push(session);
    }
}

impl Sessions {
    /// # Errors The system has no random bytes.
    pub(super) fn new(now: Instant) -> io::Result<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key =
            key.map_err(|_| io::Error::other("the system gives no random bytes for the sessions' key"))?;
        let (operators, readers) = Default::default();
        Ok(Self { key, epoch: now, issued: Cell::new(0), operators, readers })
    }

    /// The `Set-Cookie` value of a new session.
    pub(super) fn issue(&self, role: AdminRole, now: Instant, over_tls: bool) -> String {
        let number = self.issued.get();
        self.issued.set(number + 1);
        let session = Session { role, end: self.seconds(now + SESSION_TIME), number };
        set_cookie(&self.encode(session), SESSION_TIME, over_tls)
    }

    /// The valid session of a request; `Err` if its cookie is not valid, and `Ok(None)` if it has none.
    pub(super) fn of_request(&self, headers: &HeaderMap, now: Instant) -> Result<Option<Session>, ()> {
        let mut values = cookie_values(headers).take(COOKIES_MAX).peekable();
        if values.peek().is_none() {
            return Ok(None);
        }
        values.find_map(|value| self.verify(value, now)).map(Some).ok_or(())
    }

    /// Whether a session has neither expired nor ended.
    pub(super) fn is_valid(&self, session: &Session, now: Instant) -> bool {
        session.end > self.seconds(now) && !self.ended(session.role).borrow().contains(session)
    }

    /// The time at which a session expires.
    pub(super) fn expiry(&self, session: &Session) -> Instant {
        self.epoch + Duration::from_secs(session.end)
    }

    /// Ends a session.
    pub(super) fn end(&self, session: Session, now: Instant) {
        self.ended(session.role).borrow_mut().add(session, self.issued.get(), self.seconds(now));
    }

    /// Ends every session of a role.
    pub(super) fn end_all(&self, role: AdminRole) {
        self.ended(role).replace(EndedSessions { first_valid: self.issued.get(), ended: Vec::new() });
    }

    fn ended(&self, role: AdminRole) -> &RefCell<EndedSessions> {
        match role {
            AdminRole::Operator => &self.operators,
            AdminRole::Reader => &self.readers,
        }
    }

    fn verify(&self, value: &str, now: Instant) -> Option<Session> {
        let bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (claim, tag) = bytes.split_at_checked(CLAIM_BYTES)?;
        // Compares in constant time.
        hmac::verify(&self.key, claim, tag).ok()?;
        let role = if claim[0] == 1 { AdminRole::Operator } else { AdminRole::Reader };
        let number = |range: std::ops::Range<usize>| claim[range].try_into().map(u64::from_be_bytes).ok();
        let session = Session { role, end: number(1..9)?, number: number(9..17)? };
        self.is_valid(&session, now).then_some(session)
    }

    fn encode(&self, session: Session) -> String {
        let mut bytes = vec![u8::from(session.role == AdminRole::Operator)];
        bytes.extend_from_slice(&session.end.to_be_bytes());
        bytes.extend_from_slice(&session.number.to_be_bytes());
        let tag = hmac::sign(&self.key, &bytes);
        bytes.extend_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn seconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_secs()
    }
}

/// The `Set-Cookie` value that removes the cookie.
pub(super) fn removal(over_tls: bool) -> String {
    set_cookie("", Duration::ZERO, over_tls)
}

fn set_cookie(value: &str, life: Duration, over_tls: bool) -> String {
    let tls_only = if over_tls { "; Secure" } else { "" };
    let seconds = life.as_secs();
    format!("{ADMIN_SESSION}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{tls_only}")
}

/// The values of the sessions' cookie in a request (RFC 6265, 4.2).
fn cookie_values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs =
        headers.get_all(COOKIE).filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == ADMIN_SESSION)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use tidegate_actors::clock;

    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        headers
    }

    fn pair(set_cookie: &str) -> &str {
        set_cookie.split(';').next().unwrap()
    }

    fn role(sessions: &Sessions, cookie: &str, now: Instant) -> Result<Option<AdminRole>, ()> {
        sessions.of_request(&headers(cookie), now).map(|session| session.map(|session| session.role))
    }

    /// O5, C4: a session has the role of its token for 12 hours, and is valid in its own process alone
    #[test]
    fn a_session_has_a_role_and_an_end() {
        let start = clock::now();
        let sessions = Sessions::new(start).unwrap();
        for expected in [AdminRole::Reader, AdminRole::Operator] {
            let cookie = sessions.issue(expected, start, true);
            assert!(
                cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200; Secure"),
                "{cookie}"
            );
            let cookie = pair(&cookie);
            assert_eq!(role(&sessions, &format!("a=b; {cookie};c=d"), start), Ok(Some(expected)));
            let end = start + SESSION_TIME;
            assert_eq!(role(&sessions, cookie, end - Duration::from_secs(1)), Ok(Some(expected)));
            assert_eq!(role(&sessions, cookie, end), Err(()));
            assert_eq!(role(&Sessions::new(start).unwrap(), cookie, start), Err(()), "another key");
        }
        assert_ne!(
            sessions.issue(AdminRole::Reader, start, false),
            sessions.issue(AdminRole::Reader, start, false)
        );
        assert_eq!(role(&sessions, "tidegate_admi=x; other=y", start), Ok(None));
    }

    /// O5: no changed byte of a value is accepted, and neither is a value of another form
    #[test]
    fn a_changed_value_is_refused() {
        let start = clock::now();
        let sessions = Sessions::new(start).unwrap();
        let cookie = sessions.issue(AdminRole::Reader, start, false);
        let value = pair(&cookie).split_once('=').unwrap().1;
        let bytes = URL_SAFE_NO_PAD.decode(value).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = format!("{ADMIN_SESSION}={}", URL_SAFE_NO_PAD.encode(changed));
            assert_eq!(role(&sessions, &changed, start), Err(()), "byte {index}");
        }
        for value in ["", "x", "====", &value[1..], &format!("{value}AA"), &"A".repeat(100_000)] {
            assert_eq!(role(&sessions, &format!("{ADMIN_SESSION}={value}"), start), Err(()), "{value}");
        }
    }

    /// O5: a logout ends one session; the list of ended ones has a maximum, at which all sessions of the role end
    #[test]
    fn ended_sessions_stay_ended() {
        let start = clock::now();
        let sessions = Sessions::new(start).unwrap();
        let cookies: Vec<String> =
            (0..ENDED_MAX + 2).map(|_| sessions.issue(AdminRole::Operator, start, false)).collect();
        let reader = sessions.issue(AdminRole::Reader, start, false);
        let session = |cookie: &String| sessions.of_request(&headers(pair(cookie)), start);
        for cookie in &cookies[..ENDED_MAX] {
            sessions.end(session(cookie).unwrap().unwrap(), start);
            assert_eq!(session(cookie), Err(()));
        }
        assert!(session(&cookies[ENDED_MAX]).is_ok());
        sessions.end(session(&cookies[ENDED_MAX]).unwrap().unwrap(), start);
        assert!(cookies.iter().all(|cookie| session(cookie).is_err()), "all of them end");
        assert!(session(&sessions.issue(AdminRole::Operator, start, false)).is_ok(), "a later one is valid");
        assert_eq!(sessions.operators.borrow().ended.len(), 1);
        assert!(session(&reader).is_ok(), "the other role keeps its sessions");
    }
}
