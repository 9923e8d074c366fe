//! Every part there is, by name.

use super::harness::Part;
use super::{control, packets, routes, sessions};
use crate::Outcome;

/// Makes a part ready to be measured.
pub type Start = Box<dyn Fn() -> Outcome<Box<dyn Part>>>;

/// A part, not started yet.
pub struct Entry {
    pub name: String,
    /// One of what; a single word.
    pub unit: &'static str,
    /// How many of them one time is.
    pub units: usize,
    pub start: Start,
}

impl Entry {
    pub fn new<P: Part + 'static>(
        name: impl Into<String>,
        (units, unit): (usize, &'static str),
        start: impl Fn() -> Outcome<P> + 'static,
    ) -> Self {
        let start: Start = Box::new(move || Ok(Box::new(start()?)));
        Self { name: name.into(), unit, units, start }
    }
}

/// The parts whose names contain one of the words; without words, all.
pub fn chosen(words: &[String]) -> impl Iterator<Item = Entry> {
    all().into_iter().filter(move |entry| {
        words.is_empty() || words.iter().any(|word| entry.name.contains(word.as_str()))
    })
}

fn all() -> Vec<Entry> {
    [sessions::entries(), packets::entries(), routes::entries(), control::entries()]
        .into_iter()
        .flatten()
        .collect()
}
