//! Variables of the environment as bytes, for the way from one process to another.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use zeroize::Zeroizing;

/// Variables by name.
pub type Variables = Vec<(OsString, OsString)>;

/// Encodes variables like the kernel does: `NAME=VALUE`, each ended by a zero.
#[must_use]
pub fn pack_variables(variables: &Variables) -> Zeroizing<Vec<u8>> {
    let size = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    // Bytes that grow leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    for (name, value) in variables {
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// Decodes what [`pack_variables`] encoded.
#[must_use]
pub fn unpack_variables(bytes: &[u8]) -> Variables {
    let variable = |entry: &[u8]| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..equals]), text(&entry[equals + 1..])))
    };
    bytes.split(|byte| *byte == 0).filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C5
    #[test]
    fn variables_are_the_same_after_the_way() {
        let variables: Variables =
            [("A", "x=y\n z"), ("B", ""), ("C", "ü")].map(|(a, b)| (a.into(), b.into())).into();
        assert_eq!(unpack_variables(&pack_variables(&variables)), variables);
    }
}
