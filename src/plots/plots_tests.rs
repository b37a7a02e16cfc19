//! Plots as images, tables and figures.

use std::time::{Duration, SystemTime};

use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;

fn plot(values: Vec<Option<f64>>) -> Plot {
    Plot {
        id: "memory".to_owned(),
        title: "Memory".to_owned(),
        unit: Unit::Bytes,
        end: SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 3_600),
        interval: Duration::from_secs(1),
        span: Duration::from_secs(600),
        time_labels: TimeLabels::Ago,
        lines: vec![Line { label: String::new(), values }],
        thresholds: vec![
            Threshold { kind: ThresholdKind::Warning, value: 800.0 * 1024.0 },
            Threshold { kind: ThresholdKind::Critical, value: 900.0 * 1024.0 },
        ],
    }
}

/// Name, attributes and text of an element.
type Element = (String, Vec<(String, String)>, String);

/// The elements of a document that must be well-formed.
fn elements(xml: &str) -> Vec<Element> {
    let mut reader = Reader::from_str(xml);
    let (mut found, mut open) = (Vec::new(), Vec::<usize>::new());
    loop {
        let event = reader.read_event().unwrap();
        let is_open = matches!(event, Event::Start(_));
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                // `attributes` fails for a second attribute of the same name.
                let attributes = tag.attributes().map(|attribute| {
                    let attribute = attribute.unwrap();
                    let name = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
                    (name, String::from_utf8(attribute.value.to_vec()).unwrap())
                });
                let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
                found.push((name, attributes.collect(), String::new()));
                if is_open {
                    open.push(found.len() - 1);
                }
            }
            Event::Text(text) => {
                let text = String::from_utf8(text.to_vec()).unwrap();
                if let Some(at) = open.last() {
                    found[*at].2 += &text;
                }
            }
            Event::End(_) => drop(open.pop()),
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty(), "every element is closed");
    found
}

fn attribute<'a>(of: &'a Element, name: &str) -> Option<&'a str> {
    of.1.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
}

/// X7: the image is well-formed, has a title and a description, and every colour has a class
#[test]
fn an_image_is_themed_and_described() {
    let image = svg(&plot((0..600).map(|at| Some(f64::from(at) * 1024.0)).collect())).unwrap();
    let elements = elements(&image);
    let root = &elements[0];
    assert_eq!((root.0.as_str(), attribute(root, "role")), ("svg", Some("img")));
    let labels: Vec<&str> = attribute(root, "aria-labelledby").unwrap().split(' ').collect();
    let texts: Vec<_> =
        elements[1..3].iter().map(|of| (of.0.as_str(), attribute(of, "id").unwrap())).collect();
    assert_eq!(texts, [("title", labels[0]), ("desc", labels[1])]);
    assert!(
        image.contains("Last value 599 KiB, lowest 0 B, highest 599 KiB. Threshold warning: 800 KiB."),
        "{image}"
    );
    let mut classes = Vec::new();
    for element in &elements[3..] {
        let colors = ["stroke", "fill"].map(|name| attribute(element, name).filter(|value| *value != "none"));
        assert_eq!(colors.iter().flatten().count(), 1, "{element:?}");
        classes.extend(attribute(element, "class"));
    }
    assert_eq!(classes.len(), elements.len() - 3, "each has a class");
    for class in ["plot-line-0", "plot-area", "plot-text", "plot-grid", "plot-warning", "plot-critical"] {
        assert!(classes.contains(&class), "{class}");
    }
    assert!(!image.contains("style="), "a strict content security policy forbids style attributes");
}

/// X7: a value that was not measured is a gap, which a thin line may bridge, and more values do not make the image longer
#[test]
fn a_gap_divides_the_line() {
    // The widths of the lines.
    let widths_of = |values| {
        let lines = elements(&svg(&plot(values)).unwrap());
        let lines = lines.iter().filter(|of| attribute(of, "class") == Some("plot-line-0"));
        lines.map(|of| attribute(of, "stroke-width").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lines_of = |values: Vec<_>| (widths_of(values.clone()).len(), svg(&plot(values)).unwrap().len());
    let values = |count: u32| (0..count).map(|at| Some(f64::from(at % 7))).collect::<Vec<_>>();
    assert_eq!(lines_of(values(600)).0, 1);
    let mut with_gap = values(600);
    with_gap[300..310].fill(None);
    assert_eq!(widths_of(with_gap.clone()), ["3", "3", "1"]);
    with_gap[310..330].fill(None);
    assert_eq!(widths_of(with_gap), ["3", "3"], "a long gap is not bridged");
    let mut one_value = vec![None; 600];
    assert_eq!(lines_of(one_value.clone()).0, 0);
    one_value[300] = Some(1.0);
    let image = svg(&plot(one_value)).unwrap();
    let line = elements(&image).into_iter().find(|of| attribute(of, "class") == Some("plot-line-0")).unwrap();
    assert_eq!((line.0.as_str(), attribute(&line, "r")), ("circle", Some("4")), "a single value is a point");
    assert_eq!(lines_of(Vec::new()).0, 0);
    assert!(lines_of(values(1_000_000)).1 < 2 * lines_of(values(600)).1);
    let nothing = vec![Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)];
    assert_eq!(lines_of(nothing).0, 1, "only finite values are drawn");
}

/// X7: labels have the room that they need, and a short plot has marks with seconds
#[test]
fn labels_fit() {
    let line = |label: &str| Line { label: label.to_owned(), values: vec![Some(1.0); 60] };
    let of = |labels: [&str; 2]| Plot { lines: labels.map(line).to_vec(), ..plot(Vec::new()) };
    let image = svg(&of(["event loop lag", "mailbox wait"])).unwrap();
    let labels: Vec<_> = elements(&image).into_iter().filter(|of| of.2.trim() == "event loop lag").collect();
    assert_eq!(labels.len(), 1, "{image}");
    let left: u32 = attribute(&labels[0], "x").unwrap().parse().unwrap();
    assert!(left + 14 * 12 < 880, "it ends before the edge: {left}");
    assert!(svg(&of(["a label of many characters", "b"])).unwrap().contains("a label of many…"));
    let span = Duration::from_secs(60);
    let short = Plot { span, time_labels: TimeLabels::Clock, ..plot(vec![Some(1.0); 60]) };
    assert!(svg(&short).unwrap().contains("11:59:45"));
}

/// X7, C4: texts and IDs cannot end an element or an attribute
#[test]
fn hostile_texts_are_escaped() {
    let hostile = "</title><script>alert(1)</script>\"' & \u{0}";
    let of_plot = Plot {
        id: "a\"><script>".to_owned(),
        title: hostile.to_owned(),
        unit: Unit::named(hostile),
        lines: vec![Line { label: hostile.to_owned(), values: vec![Some(1.0)] }; 2],
        ..plot(Vec::new())
    };
    let html = figure(&of_plot).unwrap();
    assert!(!html.contains("<script") && !html.contains('\u{0}'), "{html}");
    let names: Vec<_> = elements(&html).into_iter().map(|of| of.0).filter(|name| name == "script").collect();
    assert_eq!(names, Vec::<String>::new());
    assert!(html.contains("id=\"plot-a_22__3e__3c_script_3e_\""), "{html}");
}

/// X7: the table has the lowest, mean and highest value of each minute, the newest first
#[test]
fn a_table_has_the_same_data() {
    let html = figure(&plot((0..120).map(|at| Some(f64::from(at))).collect())).unwrap();
    let cells: Vec<_> =
        elements(&html).into_iter().filter(|of| ["td", "th"].contains(&of.0.as_str())).collect();
    let texts: Vec<&str> = cells.iter().map(|of| of.2.as_str()).collect();
    let first = ["Time", "lowest", "mean", "highest", "last 1 min", "60 B", "89.5 B", "119 B"];
    assert_eq!(texts[..8], first);
    assert_eq!(texts[8..], ["2 min to 1 min ago", "0 B", "29.5 B", "59 B"]);
    assert!(cells.iter().filter(|of| of.0 == "th").all(|of| attribute(of, "scope").is_some()));
    let clock = Plot { time_labels: TimeLabels::Clock, ..plot(vec![Some(1.0); 60]) };
    assert!(figure(&clock).unwrap().contains("11:59:01 to 12:00:01"));
    let far = Plot { end: SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799), ..clock.clone() };
    assert!(figure(&far).unwrap().contains("23:59:00 to 23:59:59"));
    assert!(svg(&clock).unwrap().contains("11:58"));
}

/// X7: an axis has few round marks, and its last one is at or above the highest value
#[test]
fn axes_have_round_marks() {
    for highest in
        [0.0, 1e-9, 0.3, 1.0, 7.0, 95.0, 99.9, 1023.0, 4097.0, 1e6, 2.5e9, 1e15, f64::NAN, f64::INFINITY]
    {
        for unit in ["bytes", "ms", "percent", "requests"].map(Unit::named) {
            let marks = unit.marks(highest);
            assert!((2..=7).contains(&marks.len()), "{unit:?} {highest}: {marks:?}");
            assert!(
                marks.is_sorted() && (!highest.is_finite() || marks[marks.len() - 1] >= highest * 0.999_999)
            );
            if matches!(unit, Unit::Count(_)) {
                assert!(marks.iter().all(|mark| mark.fract() == 0.0), "{marks:?}");
            }
        }
    }
    let texts = |unit: &str, values: &[f64]| {
        values.iter().map(|value| Unit::named(unit).format(*value)).collect::<Vec<_>>()
    };
    assert_eq!(texts("bytes", &[0.0, 1536.0, 3.0 * 1024.0 * 1024.0]), ["0 B", "1.5 KiB", "3 MiB"]);
    assert_eq!(texts("ms", &[0.25, 1234.0, 12_000.0]), ["0.25 ms", "1234 ms", "12 s"]);
    assert_eq!(texts("percent", &[99.95]), ["100 %"]);
    let steps = [10, 600, 3_600, 86_400, 10 * 86_400];
    let steps = steps.map(|span| scale::time_step(Duration::from_secs(span)).as_secs());
    assert_eq!(steps, [2, 120, 900, 21_600, 172_800]);
}
