//! Reports that a configuration is retired: its last user has dropped it.

use tidegate_actors::ConfigNumber;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Sends the number of its configuration when the last user of it has dropped it.
pub(crate) struct Retirement {
    number: ConfigNumber,
    retired: UnboundedSender<ConfigNumber>,
}

impl Retirement {
    /// That of the first configuration, and the receiver of all numbers.
    pub(crate) fn first() -> (Self, UnboundedReceiver<ConfigNumber>) {
        let (retired, numbers) = unbounded_channel();
        (Self { number: ConfigNumber::FIRST, retired }, numbers)
    }

    /// That of the configuration after this one.
    pub(crate) fn next(&self) -> Self {
        Self { number: self.number.next(), retired: self.retired.clone() }
    }

    pub(crate) fn number(&self) -> ConfigNumber {
        self.number
    }
}

impl Drop for Retirement {
    fn drop(&mut self) {
        // The receiver is gone once the gateway has ended.
        let _ = self.retired.send(self.number);
    }
}
