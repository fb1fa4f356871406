//! When an engine whose steps fail is given up.

use crate::error::Error;

/// Failed steps in a row after which it is.
const MOST: u32 = 3;

/// Failed steps in a row. Once may be bad luck (memory), again and again means that this process is of no use any more.
#[derive(Debug, Default)]
pub struct Failures(u32);

impl Failures {
    /// A step went well.
    pub fn over(&mut self) {
        self.0 = 0;
    }

    /// A step failed.
    ///
    /// # Errors
    /// The error, if there were too many in a row.
    pub fn another(&mut self, error: Error) -> Result<(), Error> {
        self.0 += 1;
        if self.0 < MOST { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_are_too_many_and_a_step_that_goes_well_begins_anew() {
        let fails = |failures: &mut Failures| failures.another(Error::Engine("no memory".into())).is_err();
        let mut failures = Failures::default();
        for _ in 0..10 {
            assert!(!fails(&mut failures) && !fails(&mut failures));
            failures.over();
        }
        assert_eq!([fails(&mut failures), fails(&mut failures), fails(&mut failures)], [false, false, true]);
    }
}
