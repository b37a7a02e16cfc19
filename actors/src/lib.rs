//! all policy state of tidegate, in supervised actors
