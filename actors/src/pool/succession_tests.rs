//! Pools that follow one another (G3, P3, P4).
