//! Prints the documentation of all keys: without an argument `docs/configuration.md`, with `file` `config/default.toml`, with `spellings`
//! the table of units and words.

fn main() {
    let text = match std::env::args().nth(1).as_deref() {
        Some("file") => tidegate_config::reference_file(),
        Some("spellings") => tidegate_config::reference_spellings(),
        _ => tidegate_config::reference_page(),
    };
    print!("{text}");
}
