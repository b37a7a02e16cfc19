//! Whether a listener accepts one more connection, as far as descriptors go.
