//! Hand-over of the limits (G8, L1, L2).
