//! A payment's parts, with their onions: what the machine takes, and what reads the failures.

use super::graph::Graph;
use super::liquidity::{Crossing, Liquidity, Verdict};
use super::route::Route;
use crate::digest::Domain;
use crate::invoice::Invoice;
use crate::machine::payment::{NewPayment, Part};
use crate::onion::{self, Delivery, Failure, OnionError, Sent};
use crate::types::{Amount, ChannelId, PaymentHash, Preimage, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

/// What the payer keeps of a part until it has ended; bytes for the runtime's records.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentPart {
    /// Over which channel of ours it left.
    pub channel: ChannelId,
    /// The way, ours first.
    pub crossings: Vec<Crossing>,
    sent: Sent,
}

/// What is paid, and how.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// The contract of the channels.
    pub domain: Domain,
    /// The payment's hash.
    pub hash: PaymentHash,
    /// Who is paid.
    pub payee: PublicKey,
    /// The same on all hops.
    pub expiry: Timestamp,
    /// What the payee reads.
    pub delivery: Delivery,
}

impl Order {
    /// For an invoice: `amount` is what all parts deliver together.
    pub fn for_invoice(invoice: &Invoice, amount: Amount, expiry: Timestamp) -> Self {
        Self {
            domain: invoice.domain,
            hash: invoice.hash,
            payee: invoice.payee,
            expiry,
            delivery: Delivery::Invoice {
                secret: invoice.secret,
                total: amount,
            },
        }
    }

    /// Without an invoice: the payer draws the preimage, 32 random bytes.
    pub fn keysend(
        domain: Domain,
        payee: PublicKey,
        preimage: Preimage,
        amount: Amount,
        expiry: Timestamp,
    ) -> Self {
        Self {
            domain,
            hash: preimage.hash(),
            payee,
            expiry,
            delivery: Delivery::Keysend {
                preimage,
                total: amount,
            },
        }
    }

    /// The parts for these routes, in their order. `session` gives 32 fresh random bytes at each call.
    ///
    /// # Errors
    /// [`OnionError`].
    pub fn parts(
        &self,
        routes: &[Route],
        mut session: impl FnMut() -> [u8; 32],
    ) -> Result<(NewPayment, Vec<SentPart>), OnionError> {
        let separator = self.domain.separator();
        let (mut parts, mut kept) = (Vec::new(), Vec::new());
        for route in routes {
            let (onion, sent) = onion::build(
                session(),
                &separator,
                &self.hash,
                self.expiry,
                &route.forwards,
                (self.payee, self.delivery),
            )?;
            parts.push(Part {
                channel: route.first,
                amount: route.sent,
                onion,
            });
            kept.push(SentPart {
                channel: route.first,
                crossings: route.crossings.clone(),
                sent,
            });
        }
        let payment = NewPayment {
            hash: self.hash,
            expiry: self.expiry,
            parts,
        };
        Ok((payment, kept))
    }
}

impl SentPart {
    /// What left us, fees included, units.
    pub fn amount(&self) -> u128 {
        self.crossings.first().map_or(0, |first| first.amount)
    }

    /// What the payee gets, units.
    pub fn delivered(&self) -> u128 {
        self.crossings.last().map_or(0, |last| last.amount)
    }

    /// Which node failed this part, and why; none if the reason is not this part's.
    pub fn read(&self, reason: &[u8]) -> Option<Failure> {
        self.sent.read(reason)
    }

    /// Learns from a failure: whether another try can help.
    pub fn failed(
        &self,
        reason: &[u8],
        graph: &Graph,
        liquidity: &mut Liquidity,
        now: Timestamp,
    ) -> Verdict {
        let failure = self.read(reason);
        liquidity.failed(
            &self.crossings,
            failure.as_ref(),
            |id| self.capacity(graph, id),
            now,
        )
    }

    /// Learns from a success.
    pub fn paid(&self, graph: &Graph, liquidity: &mut Liquidity, now: Timestamp) {
        liquidity.paid(&self.crossings, |id| self.capacity(graph, id), now);
    }

    /// Of a channel that gossip does not show, at least what crossed it is known.
    fn capacity(&self, graph: &Graph, id: &ChannelId) -> u128 {
        let crossed = self.crossings.iter();
        let crossed = crossed.filter(|crossing| crossing.direction.channel == *id);
        let least = crossed.map(|crossing| crossing.amount).max().unwrap_or(0);
        let known = graph.channel(id).map_or(0, |known| known.capacity);
        known.max(least)
    }
}
