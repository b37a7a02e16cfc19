//! configuration of tidegate: sections, defaults, sources, checks
