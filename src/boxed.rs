//! Large values that are built at their place on the heap.

/// A box with the value of an expression. The box is allocated first, so that optimized code writes the value to it. `Box::new` builds the
/// value on the stack and copies it: 3 KiB for the state of a request. A function with a closure would copy what the closure captures.
macro_rules! boxed {
    ($value:expr) => {
        Box::write(Box::new_uninit(), $value)
    };
}

pub(crate) use boxed;
