//! Bounded ring read by number; tells a late reader what it missed.
//!
//! Readers keep their own place and pull: a slow one costs nothing, stops nobody and learns exactly what it lost.

use std::collections::VecDeque;

/// How many classes items are counted in when they are lost (a log's levels).
pub const CLASSES: usize = 5;

/// How many items were lost, by class.
pub type Counts = [u64; CLASSES];

/// The classes of this many lost items are remembered, a byte each; older losses are counted without their class.
const REMEMBERED: usize = 1 << 20;

/// Items numbered without gaps, the oldest of which make room for new ones.
#[derive(Debug)]
pub struct Ring<T> {
    items: VecDeque<Slot<T>>,
    /// The number the next item gets.
    next: u64,
    bytes: usize,
    most_items: usize,
    most_bytes: usize,
    /// Classes of items already dropped, the last of them being that of number `first - 1`.
    lost: VecDeque<u8>,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    bytes: usize,
    class: u8,
}

/// The numbers `from..=to`, which a reader can't have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first one lost.
    pub from: u64,
    /// The last one lost.
    pub to: u64,
    /// How many of each class; fewer than `to - from + 1` in all if it is too long ago to tell.
    pub counts: Counts,
}

impl<T> Ring<T> {
    /// An empty ring that numbers from 1 and holds at most so many items and bytes (but always the last item).
    #[must_use]
    pub fn new(most_items: usize, most_bytes: usize) -> Self {
        Self {
            items: VecDeque::new(),
            next: 1,
            bytes: 0,
            most_items: most_items.max(1),
            most_bytes,
            lost: VecDeque::new(),
        }
    }

    /// Adds an item that weighs `bytes`, of class `class` (below [`CLASSES`]), and gives it the next number.
    pub fn push(&mut self, item: T, bytes: usize, class: u8) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.items.push_back(Slot { item, bytes, class });
        self.shrink();
        number
    }

    /// Changes the bounds; what no longer fits is dropped now.
    pub fn resize(&mut self, most_items: usize, most_bytes: usize) {
        self.most_items = most_items.max(1);
        self.most_bytes = most_bytes;
        self.shrink();
    }

    /// Goes on at number `next` (never back), as after numbers this ring never saw; what it held is dropped.
    pub fn skip_to(&mut self, next: u64) {
        if next > self.next {
            self.items.clear();
            self.bytes = 0;
            self.lost.clear();
            self.next = next;
        }
    }

    fn shrink(&mut self) {
        while self.items.len() > 1 && (self.items.len() > self.most_items || self.bytes > self.most_bytes) {
            if let Some(slot) = self.items.pop_front() {
                self.bytes -= slot.bytes;
                if self.lost.len() == REMEMBERED {
                    self.lost.pop_front();
                }
                self.lost.push_back(slot.class);
            }
        }
    }

    /// The number of the oldest item held (that of the next one, if none is).
    #[must_use]
    pub fn first(&self) -> u64 {
        self.next - self.items.len() as u64
    }

    /// The number of the newest item ever added; 0 if there was none.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// What the items held weigh.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a reader that has seen everything up to `seen` can't have any more, if anything.
    #[must_use]
    pub fn missed(&self, seen: u64) -> Option<Missed> {
        let (from, to) = (seen.saturating_add(1), self.first() - 1);
        if from > to {
            return None;
        }
        let mut counts = Counts::default();
        let count = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
        for class in self.lost.iter().rev().take(count) {
            counts[usize::from(*class)] += 1;
        }
        Some(Missed { from, to, counts })
    }

    /// The items after number `seen` that are still held, oldest first, each with its number.
    pub fn after(&self, seen: u64) -> impl DoubleEndedIterator<Item = (u64, &T)> + ExactSizeIterator {
        let first = self.first();
        let skip = seen.saturating_add(1).saturating_sub(first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.items.len());
        let start = first + skip as u64;
        self.items.range(skip..).enumerate().map(move |(at, slot)| (start + at as u64, &slot.item))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_late_reader_is_told_what_it_missed() {
        let mut ring = Ring::new(3, 1000);
        for class in [0, 1, 2, 2, 3] {
            ring.push(class, 1, class);
        }
        assert_eq!((ring.first(), ring.last()), (3, 5));
        assert_eq!(ring.missed(0), Some(Missed { from: 1, to: 2, counts: [1, 1, 0, 0, 0] }));
        assert_eq!(ring.missed(1), Some(Missed { from: 2, to: 2, counts: [0, 1, 0, 0, 0] }));
        assert_eq!(ring.missed(2), None);
        assert_eq!(ring.after(0).map(|(n, _)| n).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(ring.after(4).map(|(n, _)| n).collect::<Vec<_>>(), [5]);
        assert_eq!(ring.after(99).count(), 0);
    }

    #[test]
    fn one_item_larger_than_the_ring_is_still_held() {
        let mut ring = Ring::new(10, 100);
        ring.push("small", 10, 0);
        ring.push("huge", 1_000, 0);
        assert_eq!(ring.after(0).collect::<Vec<_>>(), [(2, &"huge")]);
    }

    proptest! {
        /// Whatever is pushed and however late a reader comes, what it gets and what it missed add up to everything.
        #[test]
        fn nothing_is_lost_untold(sizes in prop::collection::vec((0_usize..50, 0_u8..5), 0..200), seen in 0_u64..250, items in 1_usize..40) {
            let mut ring = Ring::new(items, 300);
            for (bytes, class) in &sizes {
                ring.push((), *bytes, *class);
            }
            let got = ring.after(seen).count() as u64;
            let missed = ring.missed(seen).map_or(0, |missed| {
                assert_eq!(missed.counts.iter().sum::<u64>(), missed.to - missed.from + 1);
                missed.to - missed.from + 1
            });
            prop_assert_eq!(got + missed, (sizes.len() as u64).saturating_sub(seen));
            prop_assert!(ring.after(0).count() <= items);
        }
    }
}
