//! Placeholders in texts of a scenario: the number of a configuration, the variables of its overlay, the addresses of upstreams.
//!
//! `{n}` is the number of the configuration, `{next}` and `{previous}` its neighbours. `{NAME}` is a variable of the overlay, and
//! `{address:NAME}` the address of an upstream. Variables are filled in first, so the name of an upstream can be one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The values of placeholders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placeholders {
    addresses: BTreeMap<String, SocketAddr>,
    /// The variables of each overlay.
    variables: Vec<BTreeMap<String, String>>,
}

impl Placeholders {
    /// Those of these upstreams and overlays.
    pub(crate) fn new(
        addresses: BTreeMap<String, SocketAddr>,
        variables: Vec<BTreeMap<String, String>>,
    ) -> Self {
        Self { addresses, variables }
    }

    /// The text of this configuration.
    pub(crate) fn fill(&self, text: &str, number: u64) -> String {
        let mut filled = text.to_owned();
        if !text.contains('{') {
            return filled;
        }
        for (name, value) in overlay_of(&self.variables, number).into_iter().flatten() {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        if filled.contains("{address:") {
            for (name, address) in &self.addresses {
                filled = filled.replace(&format!("{{address:{name}}}"), &address.to_string());
            }
        }
        let numbers = [("{n}", number), ("{next}", number + 1), ("{previous}", number.saturating_sub(1))];
        for (placeholder, value) in numbers {
            if filled.contains(placeholder) {
                filled = filled.replace(placeholder, &value.to_string());
            }
        }
        filled
    }
}

/// The overlay of a configuration: they are used in rotation, the first one by configuration 1.
pub(crate) fn overlay_of<T>(overlays: &[T], number: u64) -> Option<&T> {
    let count = u64::try_from(overlays.len()).ok().filter(|count| *count > 0)?;
    overlays.get(usize::try_from(number.saturating_sub(1) % count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_variables_and_addresses_are_filled_in() {
        let variables = |store: &str| BTreeMap::from([("store".to_owned(), store.to_owned())]);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = BTreeMap::from([("a".to_owned(), address(1)), ("b".to_owned(), address(2))]);
        let placeholders = Placeholders::new(addresses, vec![variables("a"), variables("b")]);
        let text = "http://{address:{store}}/s-{n}/{previous}/{next}/{unknown}";
        assert_eq!(placeholders.fill(text, 1), "http://127.0.0.1:1/s-1/0/2/{unknown}");
        assert_eq!(placeholders.fill(text, 8), "http://127.0.0.1:2/s-8/7/9/{unknown}");
        assert_eq!(placeholders.fill("plain", 8), "plain");
        assert_eq!(Placeholders::default().fill("{n}{store}", 3), "3{store}");
    }

    #[test]
    fn overlays_are_used_in_rotation() {
        let used: Vec<_> = (1..=5).map(|number| *overlay_of(&["a", "b"], number).unwrap()).collect();
        assert_eq!(used, ["a", "b", "a", "b", "a"]);
        assert_eq!(overlay_of::<u8>(&[], 1), None);
    }
}
