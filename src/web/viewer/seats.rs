//! How many tabs, polls and streams may follow at once: per user, and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A user may follow in so many tabs at once.
pub(crate) const PER_USER: usize = 50;

/// All users together.
pub(crate) const IN_ALL: usize = 5000;

/// The seats taken. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_user: HashMap<Arc<str>, usize>,
}

/// One seat; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    user: Arc<str>,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This user has too many.
    User,
    /// There are too many in all.
    All,
}

impl Seats {
    /// Takes a seat for a user.
    ///
    /// # Errors
    /// If the user, or all together, have as many as there may be.
    pub(crate) fn take(&self, user: &str) -> Result<Seat, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.in_all >= IN_ALL {
            return Err(Full::All);
        }
        let user: Arc<str> = user.into();
        let count = taken.by_user.entry(Arc::clone(&user)).or_default();
        if *count >= PER_USER {
            return Err(Full::User);
        }
        *count += 1;
        taken.in_all += 1;
        Ok(Seat { seats: self.clone(), user })
    }

    /// How many are taken.
    pub(crate) fn count(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).in_all
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.in_all -= 1;
        if let Some(count) = taken.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_seats_and_gets_them_back() {
        let seats = Seats::default();
        let mut taken: Vec<_> = (0..PER_USER).map(|_| seats.take("ann").unwrap()).collect();
        assert_eq!(seats.take("ann").unwrap_err(), Full::User);
        let other = seats.take("bob").unwrap();
        assert_eq!(seats.count(), PER_USER + 1);
        taken.pop();
        taken.push(seats.take("ann").unwrap());
        drop((taken, other));
        assert_eq!(seats.count(), 0);
        assert!(seats.taken.lock().unwrap().by_user.is_empty(), "nothing is remembered of who is gone");
    }

    #[test]
    fn all_together_have_a_bound() {
        let seats = Seats::default();
        let taken: Vec<_> = (0..IN_ALL).map(|n| seats.take(&format!("u{}", n / PER_USER)).unwrap()).collect();
        assert_eq!(seats.take("late").unwrap_err(), Full::All);
        drop(taken);
        assert!(seats.take("late").is_ok());
    }
}
