//! Sections that a scenario has many times, such as 10,000 keys. `{i}` is the number of one, from 0.

use serde::Deserialize;
use toml::{Table, Value};

use crate::gateway::{merge, table};

/// Repeated sections.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepeatedSpec {
    /// The section that contains them, such as `keys`.
    section: String,
    /// Their number.
    count: u64,
    /// Their names.
    name: String,
    /// The keys of each.
    settings: Table,
}

impl RepeatedSpec {
    /// Adds the sections to a configuration.
    pub(crate) fn add_to(&self, all: &mut Table) {
        let sections = (0..self.count).map(|number| {
            let filled = fill(&Value::Table(self.settings.clone()), number);
            (self.name.replace("{i}", &number.to_string()), filled)
        });
        let sections: Table = sections.collect();
        merge(all, &table([(&self.section, sections.into())]));
    }
}

fn fill(value: &Value, number: u64) -> Value {
    match value {
        Value::String(text) => text.replace("{i}", &number.to_string()).into(),
        Value::Array(items) => items.iter().map(|item| fill(item, number)).collect::<Vec<_>>().into(),
        Value::Table(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), fill(value, number)));
            fields.collect::<Table>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_has_its_number() {
        let repeated: RepeatedSpec = toml::from_str(
            "section = 'keys'\ncount = 3\nname = 'k{i}'\n[settings]\nsecret = 's{i}'\nlist = ['{i}', 'x']\nn = 1",
        )
        .unwrap();
        let mut all: Table = toml::from_str("[keys.own]\nsecret = 'x'").unwrap();
        repeated.add_to(&mut all);
        assert_eq!(all["keys"].as_table().unwrap().len(), 4);
        assert_eq!(all["keys"]["k2"]["secret"].as_str(), Some("s2"));
        assert_eq!(all["keys"]["k2"]["list"][0].as_str(), Some("2"));
        assert_eq!(all["keys"]["k0"]["n"].as_integer(), Some(1));
    }
}
