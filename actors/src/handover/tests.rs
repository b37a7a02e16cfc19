//! Hand-over between two sets of actors (G8).
