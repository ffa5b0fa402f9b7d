//! What a node means when it refuses a transaction. There is no standard, so the words of the common clients are listed.

/// A refusal, by what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubmitFault {
    /// The node has it already: as good as accepted.
    AlreadyKnown,
    /// The nonce is used up: mined before, or used by another transaction.
    NonceTooLow,
    /// Another transaction with this nonce waits and pays more.
    ReplacementUnderpriced,
    /// The node wants higher fees.
    Underpriced,
    /// The account cannot pay.
    InsufficientFunds(String),
    /// It is not known whether the node got it.
    Unknown(String),
    /// It will be refused each time.
    Refused(String),
}

/// Sorts a node's words.
pub fn classify(message: &str) -> SubmitFault {
    let text = message.to_lowercase();
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    if has(&[
        "already known",
        "already imported",
        "alreadyknown",
        "known transaction",
        "already exists",
        "already in mempool",
    ]) {
        return SubmitFault::AlreadyKnown;
    }
    if has(&[
        "replacement transaction underpriced",
        "replacement underpriced",
        "could not replace existing",
        "replacementnotallowed",
        "too low to replace",
    ]) {
        return SubmitFault::ReplacementUnderpriced;
    }
    if has(&[
        "nonce too low",
        "oldnonce",
        "nonce is too low",
        "invalid transaction nonce",
        "nonce_too_low",
    ]) {
        return SubmitFault::NonceTooLow;
    }
    if has(&[
        "insufficient funds",
        "insufficientfunds",
        "insufficient balance",
        "doesn't have enough funds",
    ]) {
        return SubmitFault::InsufficientFunds(message.to_owned());
    }
    if has(&[
        "underpriced",
        "feetoolow",
        "less than block base fee",
        "fee cap less than",
        "gas price too low",
        "gas price is less than basefee",
        "below minimum",
    ]) {
        return SubmitFault::Underpriced;
    }
    if has(&[
        "txpool is full",
        "pool is full",
        "timeout",
        "timed out",
        "try again",
        "temporarily",
        "nonce too high",
        "nonce gap",
    ]) {
        return SubmitFault::Unknown(message.to_owned());
    }
    SubmitFault::Refused(message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_common_clients_are_understood() {
        use SubmitFault::*;
        for (message, expected) in [
            ("already known", AlreadyKnown),
            ("transaction already imported", AlreadyKnown),
            ("AlreadyKnown", AlreadyKnown),
            ("nonce too low: next nonce 5, tx nonce 3", NonceTooLow),
            (
                "OldNonce, Current nonce: 5, nonce of rejected tx: 3",
                NonceTooLow,
            ),
            (
                "replacement transaction underpriced",
                ReplacementUnderpriced,
            ),
            ("could not replace existing tx", ReplacementUnderpriced),
            (
                "transaction underpriced: tip needed 1, tip permitted 0",
                Underpriced,
            ),
            (
                "max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7",
                Underpriced,
            ),
            ("FeeTooLow, EffectivePriorityFeePerGas too low", Underpriced),
        ] {
            assert_eq!(classify(message), expected, "{message}");
        }
        let poor = "insufficient funds for gas * price + value: address 0x00 have 1 want 2";
        assert_eq!(classify(poor), InsufficientFunds(poor.to_owned()));
        assert_eq!(
            classify("Insufficient funds for gas * price + value"),
            InsufficientFunds("Insufficient funds for gas * price + value".to_owned())
        );
        let cap = "transaction gas limit too high (cap: 16777216, tx: 16777217)";
        assert_eq!(classify(cap), Refused(cap.to_owned()));
        let full = "txpool is full";
        assert_eq!(classify(full), Unknown(full.to_owned()));
    }
}
