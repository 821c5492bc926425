//! [`CpuBudget`]: how much time of each second a filter spends on one kind of work. The host would put a filter aside
//! that takes more than its limit, with all that it does.

use std::cell::Cell;
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// Time of this VM's seconds, by the host's clock ([`portolan_sdk::now`]).
///
/// ```
/// use std::time::Duration;
///
/// let budget = portolan_filter_conditions::CpuBudget::new(Duration::from_millis(200));
/// budget.spend(1_000_000_000, 1_250_000_000);
/// assert!(budget.is_spent(1_300_000_000));
/// assert!(!budget.is_spent(2_000_000_000));
/// ```
#[derive(Debug)]
pub struct CpuBudget {
    limit: u64,
    second: Cell<u64>,
    spent: Cell<u64>,
}

impl CpuBudget {
    /// So much of each second.
    pub fn new(limit: Duration) -> Self {
        Self { limit: limit.as_nanos() as u64, second: Cell::new(0), spent: Cell::new(0) }
    }

    /// True when this second has no more. Times are nanoseconds since 1970.
    pub fn is_spent(&self, now: u64) -> bool {
        self.second.get() == now / SECOND && self.spent.get() >= self.limit
    }

    /// Counts the work from `start` to `end`, for the second of its end.
    pub fn spend(&self, start: u64, end: u64) {
        let second = end / SECOND;
        if self.second.replace(second) != second {
            self.spent.set(0);
        }
        self.spent.set(self.spent.get().saturating_add(end.saturating_sub(start)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_much_and_the_next_one_has_it_again() {
        let budget = CpuBudget::new(Duration::from_nanos(300));
        assert!(!budget.is_spent(5 * SECOND));
        budget.spend(5 * SECOND, 5 * SECOND + 299);
        assert!(!budget.is_spent(5 * SECOND + 400));
        budget.spend(5 * SECOND + 400, 5 * SECOND + 401);
        assert!(budget.is_spent(5 * SECOND + 402));
        assert!(!budget.is_spent(6 * SECOND), "a new second");
        assert!(!budget.is_spent(4 * SECOND), "a clock that was set back");
        budget.spend(7 * SECOND, 6 * SECOND);
        assert!(!budget.is_spent(6 * SECOND));
    }
}
