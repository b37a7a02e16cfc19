//! The macro that declares a section: the doc comment of a field is also the documentation of its key.
//!
//! Only a macro can use one doc comment for rustdoc and for the reference in `docs/configuration.md`.

/// Declares a section: its struct, how it is read and its effective values are recorded, and its defaults.
macro_rules! section {
    ($(#[$outer:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])* $field_vis:vis $field:ident: $type:ty = $spec:expr;)*
    }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])* $field_vis $field: $type,)*
        }

        impl $crate::schema::Read for $name {
            fn read(section: &mut $crate::schema::Section<'_>) -> Self {
                Self { $($field: section.read_field(&[$($doc),*], $spec),)* }
            }

            fn write(&self, section: &mut $crate::schema::Section<'_>) {
                $($crate::schema::Spec::write($spec, &self.$field, section);)*
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $crate::schema::defaults()
            }
        }
    };
}

pub(crate) use section;
