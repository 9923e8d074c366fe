//! The report as a table that Markdown and a terminal show alike.

use std::fmt;

use super::statistics::{Spread, ratio};
use super::{Report, Row};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {} rounds, {} s each\n", self.machine, self.rounds, self.seconds)?;
        let lines: Vec<Vec<String>> =
            [self.head()].into_iter().chain(self.rows.iter().map(|row| self.line(row))).collect();
        write_aligned(f, &lines)?;
        writeln!(f, "\nMedian (least–most) of the rounds.")?;
        if self.candidates.len() > 1 {
            writeln!(
                f,
                "A ratio A : B is the median of those of each round; 2.0 means that A did twice as well \
                 (twice the rate, or half the cost)."
            )?;
        }
        match Spread::of(self.disturbances.iter().copied()) {
            None => Ok(()),
            Some(Spread { median, most, .. }) => writeln!(
                f,
                "Others had {median:.0} % of the machine during a test (median), {most:.0} % at most."
            ),
        }
    }
}

impl Report {
    fn head(&self) -> Vec<String> {
        let names = || self.candidates.iter().map(|candidate| candidate.name.as_str());
        let first = names().next().unwrap_or_default();
        let fixed = ["wire", "test", "what"].map(str::to_owned);
        let ratios = names().skip(1).map(|other| format!("{first} : {other}"));
        fixed.into_iter().chain(names().map(str::to_owned)).chain(ratios).collect()
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let fixed = [row.wire, row.test, row.metric.name].map(str::to_owned);
        let cells = row.values.iter().map(|rounds| cell(rounds));
        let first = row.values.first().map(Vec::as_slice).unwrap_or_default();
        let ratios = row.values.iter().skip(1).map(|other| {
            ratio(row.metric.better, first, other).map_or_else(|| "-".to_owned(), short)
        });
        fixed.into_iter().chain(cells).chain(ratios).collect()
    }
}

/// Median and extremes of the rounds; a dash if all of them failed.
pub fn cell(rounds: &[Option<f64>]) -> String {
    match Spread::of(rounds.iter().flatten().copied()) {
        None => "-".to_owned(),
        Some(Spread { median, least, most }) if least < most => {
            format!("{} ({}–{})", short(median), short(least), short(most))
        }
        Some(Spread { median, .. }) => short(median),
    }
}

/// A number with three digits that matter.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0 => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

/// Writes `lines` as a table; the first is its head.
pub fn write_aligned(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            write!(f, "| {cell:width$} ")?;
        }
        writeln!(f, "|")?;
        if number == 0 {
            for width in &widths {
                write!(f, "|{:-<1$}", "", width + 2)?;
            }
            writeln!(f, "|")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_that_matter() {
        for (value, text) in
            [(0.0, "0"), (0.126, "0.13"), (1.664, "1.66"), (74.26, "74.3"), (42_027.0, "42027")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn a_failed_round_is_left_out() {
        assert_eq!(cell(&[Some(1.0), None, Some(3.0)]), "2.00 (1.00–3.00)");
        assert_eq!(cell(&[None]), "-");
    }
}
