//! Hand-over of the circuits (G8, B1).
