//! The fixed capacities of a batch circuit. The contract picks offsets and verifying key by a shape's id.

use serde::{Deserialize, Serialize};

/// Words of the header.
pub const HEADER_WORDS: usize = 5;
/// Words of an L1 row.
pub const L1_ROW_WORDS: usize = 5;
/// Words of a row's extras.
pub const EXTRA_WORDS: usize = 3;
/// Transaction rows in one word.
pub const ROWS_PER_WORD: usize = 2;

/// Capacities of one circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// The circuit's id, a constant of the circuit.
    pub id: u16,
    /// L1 rows (Q).
    pub l1_rows: usize,
    /// Transaction rows (N), even.
    pub transaction_rows: usize,
    /// Fee leaves (K), at most 10.
    pub fee_leaves: usize,
}

impl Shape {
    /// For tests and small chains: proves in seconds.
    pub const TINY: Self = Self {
        id: 1,
        l1_rows: 2,
        transaction_rows: 4,
        fee_leaves: 2,
    };
    /// A batch that fills a domain of 2^19.
    pub const SMALL: Self = Self {
        id: 2,
        l1_rows: 8,
        transaction_rows: 20,
        fee_leaves: 2,
    };
    /// A batch that fills a domain of 2^21.
    pub const LARGE: Self = Self {
        id: 3,
        l1_rows: 16,
        transaction_rows: 88,
        fee_leaves: 4,
    };
    /// All circuits, smallest first.
    pub const ALL: [Self; 3] = [Self::TINY, Self::SMALL, Self::LARGE];

    /// The shape with this circuit id.
    pub fn by_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.id == id)
    }

    /// Offset of the first L1 row.
    pub const fn l1_offset(&self) -> usize {
        HEADER_WORDS
    }

    /// Offset of the first word of transaction rows.
    pub const fn rows_offset(&self) -> usize {
        HEADER_WORDS + L1_ROW_WORDS * self.l1_rows
    }

    /// Offset of the first row's extras.
    pub const fn extras_offset(&self) -> usize {
        self.rows_offset() + self.transaction_rows / ROWS_PER_WORD
    }

    /// Length of the data vector.
    pub const fn words(&self) -> usize {
        self.extras_offset() + EXTRA_WORDS * self.transaction_rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_and_shapes_grow() {
        for pair in Shape::ALL.windows(2) {
            assert!(pair[0].id < pair[1].id && pair[0].transaction_rows < pair[1].transaction_rows);
            assert!(pair[0].l1_rows <= pair[1].l1_rows);
        }
        for shape in Shape::ALL {
            assert!(shape.transaction_rows % ROWS_PER_WORD == 0 && shape.fee_leaves <= 10);
            assert_eq!(Shape::by_id(shape.id), Some(shape));
        }
    }
}
