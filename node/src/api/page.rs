//! Cursor pages, newest first.
//!
//! `?limit=&cursor=` → [`PageQuery`] → at most `limit` items below the cursor → [`Page`] with `next_cursor` if there are more
//!
//! A cursor names a place in the order, not a count, so that pages neither skip nor repeat items while new ones arrive.

use super::problem::{Code, Problem};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Items of a page unless the request says otherwise.
pub const DEFAULT_LIMIT: usize = 50;
/// Items of a page at most.
pub const MAX_LIMIT: usize = 1000;

/// Which page is wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items at most, 1 to 1000; 50 by default.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    pub limit: Option<usize>,
    /// `next_cursor` of the page before; none for the newest items.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// The limit, checked.
    ///
    /// # Errors
    /// If it is 0 or above [`MAX_LIMIT`].
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => Ok(limit),
            other => Err(Problem::new(
                Code::InvalidParameter,
                format!("limit is {other}: it must be 1 to {MAX_LIMIT}"),
            )
            .at("limit")),
        }
    }

    /// Everything below this place is wanted; none: everything.
    ///
    /// # Errors
    /// If the cursor is none that [`Page::of`] made.
    pub fn below(&self) -> Result<Option<u64>, Problem> {
        let Some(text) = &self.cursor else {
            return Ok(None);
        };
        let place = text
            .strip_prefix('c')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        match place.and_then(|digits| digits.parse().ok()) {
            Some(place) => Ok(Some(place)),
            None => {
                let shown: String = text.chars().take(40).collect();
                Err(
                    Problem::new(Code::InvalidCursor, format!("{shown:?} is no cursor"))
                        .at("cursor"),
                )
            }
        }
    }
}

/// Some items, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; none if this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of at most `limit` items, given up to one more; `place` is an item's place in the order.
    pub fn of(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> u64) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items
            .last()
            .filter(|_| more)
            .map(|last| format!("c{}", place(last)));
        Self { items, next_cursor }
    }

    /// The same page of something else.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(all: &[u64], query: &PageQuery) -> Page<u64> {
        let (limit, below) = (query.limit().unwrap(), query.below().unwrap());
        let wanted = all
            .iter()
            .rev()
            .copied()
            .filter(|item| below.is_none_or(|b| *item < b));
        Page::of(wanted.take(limit + 1).collect(), limit, |item| *item)
    }

    #[test]
    fn pages_cover_everything_once_and_end() {
        let all: Vec<u64> = (1..=10).collect();
        for limit in 1..=11 {
            let mut query = PageQuery {
                limit: Some(limit),
                cursor: None,
            };
            let mut seen = vec![];
            loop {
                let page = page(&all, &query);
                seen.extend(page.items);
                query.cursor = page.next_cursor;
                if query.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all.iter().rev().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn limits_and_cursors_out_of_bounds_are_refused() {
        for limit in [0, MAX_LIMIT + 1] {
            let query = PageQuery {
                limit: Some(limit),
                cursor: None,
            };
            assert_eq!(query.limit().unwrap_err().code, Code::InvalidParameter);
        }
        for cursor in ["", "c", "7", "c-1", "c+1", "c99999999999999999999", "x7"] {
            let query = PageQuery {
                limit: None,
                cursor: Some(cursor.into()),
            };
            assert_eq!(
                query.below().unwrap_err().code,
                Code::InvalidCursor,
                "{cursor}"
            );
        }
    }
}
