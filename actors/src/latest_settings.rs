//! The settings of an actor that a reload replaces.
//!
//! A message is lost if its actor crashes while it handles it. So the new settings are stored here first, the message only
//! makes the actor read them, and a restart reads them too.

use std::sync::{Arc, Mutex, PoisonError};

/// The settings that an actor must have, shared with its handles.
#[derive(Debug)]
pub(crate) struct LatestSettings<T>(Mutex<Arc<T>>);

impl<T> LatestSettings<T> {
    pub(crate) fn new(settings: T) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(settings))))
    }

    /// Replaces the settings. The caller sends the actor a message afterwards.
    pub(crate) fn store(&self, settings: Arc<T>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// The settings as last stored.
    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The settings, if they are not these.
    pub(crate) fn load_changed(&self, present: &Arc<T>) -> Option<Arc<T>> {
        Some(self.load()).filter(|latest| !Arc::ptr_eq(latest, present))
    }
}
