//! bounded open-loop load tests for tidegate, as data
