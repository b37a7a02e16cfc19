//! The value of `Date` (RFC 9110, 6.6.1), formatted once a second on each worker thread.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use tidegate_actors::clock;

/// The date of the present second.
#[derive(Default)]
pub(super) struct DateCache {
    text: RefCell<String>,
    until: Cell<Option<Instant>>,
}

impl DateCache {
    /// Calls `use_it` with the date.
    pub(super) fn with<R>(&self, now: Instant, use_it: impl FnOnce(&[u8]) -> R) -> R {
        if self.until.get().is_none_or(|until| until <= now) {
            let wall = clock::wall();
            let since_epoch = wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let past = Duration::from_nanos(u64::from(since_epoch.subsec_nanos()));
            self.until.set(Some(now + Duration::from_secs(1) - past));
            *self.text.borrow_mut() = httpdate::fmt_http_date(wall);
        }
        use_it(self.text.borrow().as_bytes())
    }
}
