//! Prints what is documented about every key: `file` is `default.toml`, `spellings` the table of units and words, anything
//! else its table of keys.

fn main() {
    let text = match std::env::args().nth(1).as_deref() {
        Some("file") => tidegate_config::reference_file(),
        Some("spellings") => tidegate_config::reference_spellings(),
        _ => tidegate_config::reference_table(),
    };
    print!("{text}");
}
