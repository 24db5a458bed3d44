//! Where a service node's log was left and taken up again, as its absences tell: before which lines a new stretch begins.

use std::collections::VecDeque;

use crate::protocol::state::Absence;

/// Around a change of primary the kept rows of two nodes stand in any order: for so many lines before it, at most.
const UNSETTLED: u64 = 100;

/// A place in a life at which one stretch ends and the next begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Border {
    /// The last line before it.
    pub(crate) after: u64,
    /// A line of the term before it, so long before its end that nothing that was kept earlier is of whoever came next.
    pub(crate) settled: u64,
}

impl Border {
    /// Of an absence after a term that began after line `led_from`.
    fn of(absence: Absence, led_from: u64) -> Self {
        let led = absence.after.saturating_sub(led_from);
        Self { after: absence.after, settled: absence.after - UNSETTLED.min(led / 2) }
    }
}

/// The borders of the life that goes on that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Borders {
    ahead: VecDeque<Border>,
    /// Absences up to here are known.
    heeded: u64,
}

impl Borders {
    /// Of a life of which nothing was heard before, nor of another: all its stretches are told apart.
    pub(crate) fn of_first(absences: &[Absence]) -> Self {
        let mut borders = Self::default();
        borders.heed(absences, 0);
        borders
    }

    /// Of a life that is heard after another one, and where its present stretch begins: `known` is the last line that was heard of
    /// it before. In the absence after that line the other was heard; in the newest one, if nothing was heard of it.
    pub(crate) fn of_later(absences: &[Absence], known: Option<u64>) -> (Border, Self) {
        let begun = match known {
            Some(last) => absences.iter().position(|absence| absence.upto >= last),
            None => absences.len().checked_sub(1),
        };
        let told = begun.and_then(|begun| borders_of(absences).nth(begun));
        let border = match (known, told) {
            (Some(last), Some(told)) => Border { after: last, settled: told.settled.min(last) },
            (Some(last), None) => Border { after: last, settled: last },
            (None, told) => told.unwrap_or_default(),
        };
        let past = begun.or(absences.len().checked_sub(1)).and_then(|begun| absences.get(begun));
        let mut borders = Self { heeded: past.map_or(0, |absence| absence.upto), ..Self::default() };
        borders.heed(absences, border.after);
        (border, borders)
    }

    /// Heeds what the node tells; lines up to `last` are known.
    pub(crate) fn heed(&mut self, absences: &[Absence], last: u64) {
        for (absence, border) in absences.iter().zip(borders_of(absences)) {
            if absence.upto > self.heeded {
                self.heeded = absence.upto;
                // before its first term nothing was left
                if absence.after > 0 {
                    self.ahead.push_back(Border { after: border.after.max(last), ..border });
                }
            }
        }
    }

    /// The first border after this line.
    pub(crate) fn next(&self, last: u64) -> Option<u64> {
        self.ahead.iter().map(|border| border.after).find(|after| *after > last)
    }

    /// The border that is crossed by coming to this line.
    pub(crate) fn cross(&mut self, seq: u64) -> Option<Border> {
        let crossed = self.ahead.partition_point(|border| border.after < seq);
        self.ahead.drain(..crossed).next_back()
    }
}

fn borders_of(absences: &[Absence]) -> impl Iterator<Item = Border> {
    // the first of all is that before the first term; where older ones are not told any more nobody knows when the term before the
    // oldest began, and what was kept around its end counts as settled: no row is told twice
    let oldest = absences.first().map_or(0, |oldest| oldest.after);
    let began = std::iter::once(oldest).chain(absences.iter().map(|absence| absence.upto));
    absences.iter().zip(began).map(|(absence, led_from)| Border::of(*absence, led_from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENCES: [Absence; 3] =
        [Absence { after: 0, upto: 10 }, Absence { after: 50, upto: 60 }, Absence { after: 1060, upto: 1060 }];

    const FIRST: Border = Border { after: 50, settled: 30 };
    const SECOND: Border = Border { after: 1060, settled: 960 };

    #[test]
    fn a_life_that_is_heard_first_has_a_border_at_the_end_of_each_former_term() {
        let mut borders = Borders::of_first(&ABSENCES);
        assert_eq!((borders.next(0), borders.next(50), borders.next(1060)), (Some(50), Some(1060), None));
        assert_eq!((borders.cross(50), borders.cross(51), borders.cross(52)), (None, Some(FIRST), None));
        assert_eq!(borders.cross(2000), Some(SECOND));
    }

    #[test]
    fn what_was_kept_before_a_term_whose_beginning_is_not_told_is_not_looked_at_again() {
        let borders: Vec<Border> = borders_of(&ABSENCES[1..]).collect();
        assert_eq!(borders, [Border { settled: 50, ..FIRST }, SECOND]);
    }

    #[test]
    fn a_border_is_heeded_once_and_lies_never_before_what_is_known() {
        let mut borders = Borders::of_first(&ABSENCES[..1]);
        borders.heed(&ABSENCES[..2], 55);
        borders.heed(&ABSENCES[..2], 58);
        assert_eq!((borders.cross(55), borders.cross(56)), (None, Some(Border { after: 55, ..FIRST })));
        borders.heed(&ABSENCES, 700);
        borders.heed(&ABSENCES[1..], 701);
        assert_eq!((borders.cross(1061), borders.cross(u64::MAX)), (Some(SECOND), None));
    }

    #[test]
    fn the_absence_in_which_another_was_heard_is_where_the_stretch_begins() {
        let later = |known| {
            let (border, borders) = Borders::of_later(&ABSENCES, known);
            (border, borders.next(border.after))
        };
        // left at the end of its first term, a little before or after, or long before
        for (known, settled) in [(50, 30), (48, 30), (55, 30), (20, 20)] {
            assert_eq!(later(Some(known)), (Border { after: known, settled }, Some(1060)));
        }
        // in its second one
        assert_eq!(later(Some(1000)), (Border { after: 1000, settled: 960 }, None));
        assert_eq!(later(None), (SECOND, None));
        assert_eq!(Borders::of_later(&ABSENCES[..1], None).0, Border::default());
        assert_eq!(Borders::of_later(&[], Some(7)).0, Border { after: 7, settled: 7 });
    }
}
