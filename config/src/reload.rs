//! When the configuration is loaded again without a command.

use std::time::Duration;

use crate::schema::key;
use crate::section::section;
use crate::value_type::{Flag, seconds};

section! {
    /// Reloads of the configuration.
    pub struct ReloadConfig {
        /// reloads the configuration when the content of its file, or of a file that it names, has changed
        ///
        /// The files are read by their paths, so a replaced symbolic link is a change, as in a ConfigMap of Kubernetes. Without it
        /// only SIGHUP and `POST /reload` load the configuration again.
        pub watch: bool = key("watch", Flag, false);
        /// time between two readings of the files
        ///
        /// New content counts when two readings in a row have found it, so that no half-written file is loaded.
        pub interval: Duration = key("interval", seconds(1.0..=3_600.0), Duration::from_secs(5));
    }
}
