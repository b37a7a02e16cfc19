//! Prints what is documented about every key: `file` is `default.toml`, anything else is the README's table.

fn main() {
    let wants_file = std::env::args().nth(1).is_some_and(|shape| shape == "file");
    let text =
        if wants_file { tidegate_config::reference_file() } else { tidegate_config::reference_table() };
    print!("{text}");
}
