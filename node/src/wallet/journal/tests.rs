//! Nothing is paid twice: nonces, retries, crashes.

use super::*;
use millrace_circuits::account::Owner;
use millrace_circuits::amount::{FeeCode, Float40};
use millrace_circuits::field::{Word, from_text};
use millrace_circuits::transaction::Action;
use millrace_circuits::types::{Amount, TokenId};

const NOW: Timestamp = Timestamp(1_700_000_000);

fn domain() -> Domain {
    Domain::new(1, L1Address([1; 20]))
}

fn key() -> SecretKey {
    SecretKey::from_bytes([5; 32])
}

fn nonce(value: u64) -> Nonce {
    Nonce::new(value).unwrap()
}

fn from() -> AccountIndex {
    AccountIndex::new(3).unwrap()
}

fn payment(nonce_value: u64, amount: u128) -> Transaction {
    Transaction {
        from: from(),
        nonce: nonce(nonce_value),
        token: TokenId::ZERO,
        fee: FeeCode::ZERO,
        action: Action::Transfer {
            recipient: Owner(from_text("7").unwrap()),
            amount: Float40::exact(Amount(amount)).unwrap(),
        },
        link: Word(from_text("0").unwrap()),
        valid_until: Timestamp(NOW.0 + DEFAULT_VALIDITY_SECS),
    }
}

fn open(folder: &tempfile::TempDir) -> Journal {
    Journal::open(folder.path().join("journal.jsonl")).unwrap()
}

fn sign(journal: &mut Journal, transaction: Transaction) -> Signed {
    journal
        .sign(&domain(), transaction, L1Address([2; 20]), &key(), NOW)
        .unwrap()
}

#[test]
fn what_is_signed_is_on_disk_before_it_is_returned() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let signed = sign(&mut journal, payment(0, 10));
    let text = std::fs::read_to_string(journal.path()).unwrap();
    assert!(text.contains(&signed.id.to_string()) && text.ends_with('\n'));
    drop(journal);
    assert_eq!(open(&folder).get(&signed.id), Some(&signed));
}

#[test]
fn a_nonce_stays_held_while_its_transaction_waits_or_its_fate_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let free = |journal: &Journal| {
        journal
            .free_nonce(&domain(), from(), nonce(0), NOW)
            .unwrap()
    };
    let first = sign(&mut journal, payment(0, 10));
    assert_eq!(free(&journal), nonce(1));
    journal
        .note_outcome(first.id, Outcome::Acknowledged)
        .unwrap();
    assert_eq!(free(&journal), nonce(1));
    let second = sign(&mut journal, payment(1, 10));
    let code = "overdrawn".to_owned();
    journal
        .note_outcome(second.id, Outcome::Rejected { code })
        .unwrap();
    assert_eq!(
        free(&journal),
        nonce(1),
        "what replaces a rejected one takes its nonce"
    );
    assert_eq!(
        journal
            .free_nonce(&domain(), from(), nonce(9), NOW)
            .unwrap(),
        nonce(9)
    );
}

#[test]
fn an_expired_transaction_frees_its_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let signed = sign(&mut journal, payment(0, 10));
    let end = signed.transaction.transaction.valid_until.0;
    let free = |now| journal.free_nonce(&domain(), from(), nonce(0), Timestamp(now));
    assert_eq!(free(end), Some(nonce(1)));
    assert_eq!(free(end + 1), Some(nonce(0)));
}

#[test]
fn a_second_signature_for_a_nonce_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let first = sign(&mut journal, payment(0, 10));
    let second = sign(&mut journal, payment(0, 11));
    drop(journal);
    let journal = open(&folder);
    assert_eq!(journal.get(&first.id).unwrap().outcome, Outcome::Replaced);
    assert_eq!(journal.get(&second.id).unwrap().outcome, Outcome::Unknown);
    let unknown = journal.unknown(&domain(), NOW);
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].id, second.id);
}

#[test]
fn signing_the_same_again_is_the_same_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let first = sign(&mut journal, payment(0, 10));
    journal
        .note_outcome(first.id, Outcome::Acknowledged)
        .unwrap();
    let again = sign(&mut journal, payment(0, 10));
    assert_eq!(again.outcome, Outcome::Acknowledged);
    assert_eq!(journal.records(&domain()).count(), 1);
}

#[test]
fn a_retry_is_recognised_whatever_its_nonce_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let signed = sign(&mut journal, payment(0, 10));
    let mut retry = payment(1, 10);
    retry.valid_until = Timestamp(NOW.0 + 2 * DEFAULT_VALIDITY_SECS);
    assert!(signed.pays_the_same(&retry));
    assert!(!signed.pays_the_same(&payment(1, 11)));
}

#[test]
fn a_transaction_is_past_only_two_hours_after_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let signed = sign(&mut journal, payment(0, 10));
    let end = signed.transaction.transaction.valid_until.0;
    assert!(!signed.is_past(Timestamp(end + GRACE_SECS)));
    assert!(signed.is_past(Timestamp(end + GRACE_SECS + 1)));
}

#[test]
fn signing_more_than_thirty_days_ahead_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let mut far = payment(0, 10);
    far.valid_until = Timestamp(NOW.0 + MAX_VALIDITY_SECS + 1);
    let refused = journal.sign(&domain(), far, L1Address([2; 20]), &key(), NOW);
    assert!(matches!(refused, Err(JournalError::TooFarAhead { .. })));
    assert_eq!(journal.records(&domain()).count(), 0);
}

#[test]
fn a_line_that_a_crash_cut_short_is_dropped_and_the_next_one_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    let first = sign(&mut journal, payment(0, 10));
    sign(&mut journal, payment(1, 10));
    let path = journal.path().to_owned();
    drop(journal);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
    let mut journal = open(&folder);
    assert_eq!(journal.records(&domain()).count(), 1);
    let third = sign(&mut journal, payment(1, 12));
    drop(journal);
    let journal = open(&folder);
    let ids: Vec<_> = journal.records(&domain()).map(|record| record.id).collect();
    assert_eq!(ids, [first.id, third.id]);
}

#[test]
fn a_damaged_line_in_the_middle_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(&folder);
    sign(&mut journal, payment(0, 10));
    let path = journal.path().to_owned();
    drop(journal);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{{\"signed\n{text}")).unwrap();
    let opened = Journal::open(&path);
    assert!(matches!(
        opened.err(),
        Some(JournalError::Damaged { line: 1, .. })
    ));
}

#[test]
fn two_processes_cannot_sign_with_one_wallet() {
    let folder = tempfile::tempdir().unwrap();
    let _held = open(&folder);
    let second = Journal::open(folder.path().join("journal.jsonl"));
    assert!(matches!(second.err(), Some(JournalError::Locked(_))));
}
