//! The one way to declare a section: the field's doc comment is also the key's documentation.
//!
//! A macro, because nothing else can put one doc comment into both rustdoc and the table of `docs/configuration.md`.

/// Declares a section: a struct, how it is read, and its defaults.
macro_rules! section {
    ($(#[$outer:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])* $field_vis:vis $field:ident: $type:ty = $spec:expr;)*
    }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])* $field_vis $field: $type,)*
        }

        impl $crate::walk::Read for $name {
            fn read(section: &mut $crate::walk::Section<'_>) -> Self {
                Self { $($field: section.take(&[$($doc),*], $spec),)* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $crate::walk::defaults()
            }
        }
    };
}

pub(crate) use section;
