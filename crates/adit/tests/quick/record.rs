//! What was seen in a play, section by section.

use std::collections::BTreeMap;

/// The text of each section, by a title such as `up: routes`.
#[derive(Clone, Debug, Default)]
pub struct Record(pub BTreeMap<String, String>);

impl Record {
    pub fn read(text: &str) -> Self {
        let mut sections = BTreeMap::new();
        let mut title = String::new();
        for line in text.lines() {
            match line.strip_prefix("== ") {
                Some(new) => {
                    // A step that is taken twice has two records.
                    title = new.to_owned();
                    while sections.contains_key(&title) {
                        title = format!("again {title}");
                    }
                    sections.insert(title.clone(), String::new());
                }
                None => {
                    let section: &mut String = sections.entry(title.clone()).or_default();
                    *section += line;
                    section.push('\n');
                }
            }
        }
        Self(sections)
    }

    /// Changes the sections whose titles end so.
    pub fn edit(&mut self, end: &str, mut change: impl FnMut(&str) -> String) {
        for (title, text) in &mut self.0 {
            if title.ends_with(end) {
                *text = change(text);
            }
        }
    }
}
