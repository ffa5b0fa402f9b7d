//! The log of events on disk, in pages: what one step told is one record, however many events it was.
//!
//! `events of a flush → page, named by the number of its last event → read from any number on · forgotten when old`
//!
//! A program of schema 3 and before wrote a record for each event; those are read as pages of one.

use super::event::{Event, KEPT};
use super::records;
use crate::store::{RimRecord, Store, StoreError, Table};

/// Pages that are read at a time.
const READ_PAGES: usize = 16;
/// Old pages are forgotten when this many events have come since the last time: the database does it by range.
const FORGET_EVERY: u64 = 4096;

/// The page of some events. None without any.
pub(super) fn page(events: &[Event]) -> Option<RimRecord> {
    let name = events.last()?.sequence.to_be_bytes();
    Some(records::write(Table::Events, &name, &events))
}

fn events_of(name: &[u8], bytes: &[u8]) -> Result<Vec<Event>, StoreError> {
    let number = number(name)?;
    let is_named = |page: &Vec<Event>| page.last().map(|event| event.sequence) == Some(number);
    let page = records::read(name, bytes).ok().filter(is_named);
    let single = || Some(vec![records::read(name, bytes).ok()?]).filter(is_named);
    page.or_else(single)
        .ok_or_else(|| damaged(name, "no page of events that ends with its number"))
}

fn number(name: &[u8]) -> Result<u64, StoreError> {
    let bytes = name.try_into();
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_| damaged(name, "the name of a page is no number"))
}

fn damaged(name: &[u8], reason: &str) -> StoreError {
    StoreError::Damaged {
        key: hex::encode(name),
        reason: reason.to_owned(),
    }
}

/// The number of the newest event, 0 before the first.
///
/// # Errors
/// [`StoreError`].
pub(super) fn newest(store: &Store) -> Result<u64, StoreError> {
    let last = store.last_of(Table::Events)?;
    last.map_or(Ok(0), |(name, _)| number(&name))
}

/// Events from a number on, at most `limit`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub(super) fn read(store: &Store, from: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
    let (mut found, mut next) = (Vec::new(), from);
    while found.len() < limit {
        // A page is named by its last event, so the first one from a number on is that which has it.
        let pages = store.rim(Table::Events, &next.to_be_bytes(), READ_PAGES)?;
        let Some((last, _)) = pages.last() else {
            break;
        };
        next = number(last)?.saturating_add(1);
        for (name, bytes) in &pages {
            let page = events_of(name, bytes)?.into_iter();
            found.extend(page.filter(|event| event.sequence >= from));
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Forgets old events, now and then: the newest [`KEPT`] stay, and some older ones.
///
/// # Errors
/// [`StoreError`].
pub(super) fn forget(store: &Store, before: u64, newest: u64) -> Result<(), StoreError> {
    match newest.checked_sub(KEPT) {
        Some(old) if before / FORGET_EVERY != newest / FORGET_EVERY => {
            store.forget_before(Table::Events, &(old + 1).to_be_bytes())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::EventBody;
    use super::*;
    use crate::types::ChannelId;

    fn event(sequence: u64) -> Event {
        Event {
            sequence,
            time: 1_800_000_000,
            body: EventBody::Usable {
                channel: ChannelId([7; 32]),
            },
        }
    }

    fn events(numbers: std::ops::RangeInclusive<u64>) -> Vec<Event> {
        numbers.map(event).collect()
    }

    fn keep(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
        let page = page(&events(numbers)).unwrap();
        store.write(Vec::new(), vec![page]).unwrap();
    }

    #[test]
    fn pages_of_any_length_read_as_one_log_from_any_number_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!((newest(&store), read(&store, 1, 9)), (Ok(0), Ok(vec![])));
        assert_eq!(page(&[]), None);
        // As an older program wrote them, a record for each.
        for number in 1..=3 {
            let record = records::write(Table::Events, &u64::to_be_bytes(number), &event(number));
            store.write(Vec::new(), vec![record]).unwrap();
        }
        keep(&store, 4..=4);
        keep(&store, 5..=300);
        for last in 301..=340 {
            keep(&store, last..=last);
        }
        assert_eq!(newest(&store), Ok(340));
        assert_eq!(read(&store, 0, usize::MAX), Ok(events(1..=340)));
        for (from, limit, last) in [
            (1, 2, 2),
            (2, 4, 5),
            (17, 3, 19),
            (299, 5, 303),
            (340, 9, 340),
        ] {
            assert_eq!(read(&store, from, limit), Ok(events(from..=last)));
        }
        assert_eq!(read(&store, 341, 9), Ok(vec![]));
    }

    #[test]
    fn a_page_under_another_number_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for name in [&7u64.to_be_bytes()[..], &[1; 9]] {
            let record = records::write(Table::Events, name, &events(1..=2));
            store.write(Vec::new(), vec![record]).unwrap();
            let found = read(&store, 1, 9);
            assert!(
                matches!(found, Err(StoreError::Damaged { .. })),
                "{found:?}"
            );
            store
                .write(Vec::new(), vec![records::remove(Table::Events, name)])
                .unwrap();
        }
    }

    #[test]
    fn the_newest_are_kept_and_older_pages_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        keep(&store, 1..=10);
        keep(&store, 11..=20);
        keep(&store, 21..=KEPT + 15);
        forget(&store, 0, KEPT - 1).unwrap();
        forget(&store, KEPT + 14, KEPT + 15).unwrap();
        assert_eq!(read(&store, 1, 1), Ok(events(1..=1)), "not every time");
        forget(&store, 0, KEPT + 15).unwrap();
        assert_eq!(
            read(&store, 1, 1),
            Ok(events(11..=11)),
            "15 are old, 11 to 20 are a page"
        );
        assert_eq!(newest(&store), Ok(KEPT + 15));
    }
}
