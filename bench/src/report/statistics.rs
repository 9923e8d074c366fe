//! Medians, spreads and ratios.

use crate::measure::Better;

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    /// None if there is no value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            least: *values.first()?,
            most: *values.last()?,
        })
    }
}

/// How much better the first did than another: the median of the ratios of each round, more than
/// one if it was better. None if they are not to be compared, or if no round
/// has a value of both that is more than zero.
pub fn ratio(better: Better, first: &[Option<f64>], other: &[Option<f64>]) -> Option<f64> {
    let rounds = first.iter().zip(other).filter_map(|(first, other)| {
        let (first, other) = ((*first)?, (*other)?);
        let ratio = match better {
            Better::More => first / other,
            Better::Less => other / first,
            Better::Neither => return None,
        };
        (first > 0.0 && other > 0.0).then_some(ratio)
    });
    Spread::of(rounds).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_middles() {
        for (values, expected) in [
            (vec![], None),
            (vec![3.0], Some((3.0, 3.0, 3.0))),
            (vec![9.0, 1.0, 2.0], Some((2.0, 1.0, 9.0))),
            (vec![4.0, 1.0, 2.0, 9.0], Some((3.0, 1.0, 9.0))),
        ] {
            let spread = Spread::of(values.clone());
            let found = spread.map(|spread| (spread.median, spread.least, spread.most));
            assert_eq!(found, expected, "{values:?}");
        }
    }

    #[test]
    fn a_ratio_compares_only_what_the_same_round_saw() {
        // The second round was disturbed: both did badly. Medians alone would not tell.
        let (first, other) = ([Some(4.0), Some(1.0), None], [Some(2.0), Some(0.5), Some(9.0)]);
        assert_eq!(ratio(Better::More, &first, &other), Some(2.0));
        assert_eq!(ratio(Better::Less, &first, &other), Some(0.5));
    }

    #[test]
    fn there_is_no_ratio_with_nothing_or_of_an_aside() {
        assert_eq!(ratio(Better::Less, &[Some(0.0)], &[Some(7.0)]), None);
        assert_eq!(ratio(Better::Less, &[None], &[Some(7.0)]), None);
        assert_eq!(ratio(Better::Neither, &[Some(7.0)], &[Some(7.0)]), None);
    }
}
