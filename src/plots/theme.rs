//! The roles of coloured elements, and their classes.
//!
//! `plotters` writes colours as attributes. Each role has a colour of its own, and [`add_classes`] finds the elements of a
//! role by it. A rule of a style sheet overrides the attribute (SVG 2, 6.6: presentation attributes have no specificity).

use plotters::style::RGBColor;

use super::ThresholdKind;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Text,
    Grid,
    /// The area below the first line.
    Area,
    Line(usize),
    Threshold(ThresholdKind),
}

/// Class and colour without a style sheet, of each role.
const ROLES: [(Role, &str, RGBColor); 10] = [
    (Role::Text, "plot-text", RGBColor(0x5b, 0x67, 0x70)),
    (Role::Grid, "plot-grid", RGBColor(0xe1, 0xe6, 0xea)),
    (Role::Area, "plot-area", RGBColor(0xdb, 0xe8, 0xf6)),
    (Role::Line(0), "plot-line-0", RGBColor(0x1f, 0x6f, 0xb8)),
    (Role::Line(1), "plot-line-1", RGBColor(0x9a, 0x5a, 0x00)),
    (Role::Line(2), "plot-line-2", RGBColor(0x2f, 0x7d, 0x4f)),
    (Role::Line(3), "plot-line-3", RGBColor(0x8a, 0x3f, 0x8f)),
    (Role::Threshold(ThresholdKind::Warning), "plot-warning", RGBColor(0xb2, 0x7a, 0x00)),
    (Role::Threshold(ThresholdKind::Critical), "plot-critical", RGBColor(0xc8, 0x4a, 0x10)),
    (Role::Threshold(ThresholdKind::Exhausted), "plot-exhausted", RGBColor(0xb3, 0x1d, 0x2c)),
];

impl Role {
    pub(super) fn color(self) -> RGBColor {
        ROLES.iter().find(|(role, ..)| *role == self).map_or(ROLES[0].2, |(.., color)| *color)
    }
}

/// Adds its class to each coloured element. An element has one colour, as its `stroke` or as its `fill`.
pub(super) fn add_classes(svg: &str) -> String {
    let mut themed = svg.to_owned();
    for (_, class, RGBColor(red, green, blue)) in ROLES {
        for attribute in ["stroke", "fill"] {
            let color = format!("{attribute}=\"#{red:02X}{green:02X}{blue:02X}\"");
            themed = themed.replace(&color, &format!("class=\"{class}\" {color}"));
        }
    }
    themed
}
