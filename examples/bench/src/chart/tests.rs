//! What is drawn, read as XML.

use roxmltree::{Document, Node};

use super::{Theme, draw};
use crate::compare::sample::comparison;

fn texts<'a>(document: &'a Document<'_>) -> Vec<&'a str> {
    let nodes = document.descendants();
    nodes
        .filter(|node| node.has_tag_name("text"))
        .filter_map(|node| node.text())
        .collect()
}

/// The width of the first bar of a relay, which is that of its messages per second.
fn first_bar(document: &Document<'_>, relay: &str) -> f64 {
    let is_row = |node: &Node<'_, '_>| {
        let mut children = node.children();
        let mut titles = children.by_ref().filter(|node| node.has_tag_name("title"));
        let title = titles.next().and_then(|node| node.text());
        node.has_tag_name("g") && title.is_some_and(|title| title.starts_with(relay))
    };
    let row = document.descendants().find(is_row).unwrap();
    let bar = row
        .children()
        .find(|node| node.has_tag_name("rect"))
        .unwrap();
    bar.attribute("width").unwrap().parse().unwrap()
}

#[test]
fn the_chart_is_xml_that_says_every_name_and_value() {
    for theme in [Theme::Light, Theme::Dark] {
        let svg = draw(&comparison(), theme);
        let document = Document::parse(&svg).unwrap();
        let texts = texts(&document);
        for expected in [
            "floor",
            "relay-tokio",
            "slow & <old>",
            "0.50",
            "1.50",
            "3.00",
            "0.25",
        ] {
            assert!(texts.contains(&expected), "{expected}: {texts:?}");
        }
        // The CPU time of one, and the memory of all.
        assert_eq!(texts.iter().filter(|text| **text == "unknown").count(), 4);
        assert!(
            texts
                .iter()
                .any(|text| text.contains("a <machine> & \"more\""))
        );
        assert!(
            texts
                .iter()
                .any(|text| text.contains("one round of 4 s · 10,000 idle"))
        );
        assert!(texts.contains(&"cargo run"));
    }
}

#[test]
fn those_who_cannot_see_it_are_told_the_same() {
    let svg = draw(&comparison(), Theme::Light);
    let document = Document::parse(&svg).unwrap();
    let root = document.root_element();
    assert_eq!(root.attribute("role"), Some("img"));
    for id in root.attribute("aria-labelledby").unwrap().split(' ') {
        let named = document
            .descendants()
            .find(|node| node.attribute("id") == Some(id));
        assert!(!named.unwrap().text().unwrap().is_empty());
    }
    let description = document
        .descendants()
        .find(|node| node.has_tag_name("desc"));
    let description = description.unwrap().text().unwrap();
    let rates = "Messages per second, millions; more is better: \
                 floor 3.00; relay-tokio 1.50; slow & <old> 0.50.";
    assert!(description.starts_with(rates), "{description}");
}

#[test]
fn bars_are_as_long_as_their_values_are_large() {
    let svg = draw(&comparison(), Theme::Light);
    let document = Document::parse(&svg).unwrap();
    let floor = first_bar(&document, "floor: ");
    let ours = first_bar(&document, "relay-tokio: ");
    let slow = first_bar(&document, "slow & <old>: ");
    // The stroke takes half a pixel at each end.
    assert!(
        ((ours + 1.0) / (floor + 1.0) - 0.5).abs() < 0.01,
        "{ours} {floor}"
    );
    assert!(
        ((slow + 1.0) / (floor + 1.0) - 1.0 / 6.0).abs() < 0.01,
        "{slow} {floor}"
    );
}

#[test]
fn each_theme_has_colours_of_its_own() {
    let [light, dark] = [Theme::Light, Theme::Dark].map(|theme| draw(&comparison(), theme));
    assert_ne!(light, dark);
    assert!(light.contains("#ffffff") && !dark.contains("#ffffff"));
}
