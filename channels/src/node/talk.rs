//! What nodes say to each other beside a channel's state: agreeing on a channel, giving a tower its records, and that an invoice
//! was paid on the rollup.
//!
//! Frames are those of [`crate::wire`]; these types share nothing with the machine's:
//!
//! | type | message | body |
//! |---|---|---|
//! | 64 | OpenPropose | payout address 20 · token 20 · window u32 · salt u64 · deposit u128 |
//! | 65 | OpenAccept | signer A 20 · payout A 20 · signer B 20 · payout B 20 · token 20 · window u32 · salt u64 |
//! | 66 | OpenRefuse | salt u64 · reason bytes |
//! | 72 | TowerWatch | parameters (as OpenAccept) · key A 33 · key B 33 · half A · half B · list A · list B · signature A 65 · signature B 65 · list of preimages 32 |
//! | 73 | TowerReceipt | channel 32 · version A u64 · version B u64 · time u64 · signature 65 |
//! | 74 | TowerRefuse | channel 32 · reason bytes |
//! | 75 | TowerWatch, numbered | as 72 · highest own number u64 · numbers of list A u64 each · numbers of list B · signature 65 |
//! | 76 | TowerReceipt, version 2 | as 73 without the signature · preimages u16 · keccak of their sorted hashes 32 · signature 65 |
//! | 77 | TowerAsk | channel 32 |
//! | 78 | TowerRecord | as 75 |
//! | 79 | TowerNoRecord | channel 32 |
//! | 80 | Paid | payment hash 32 · batch u64 · row u32 · proof bytes (≤ 256) |
//! | 81 | PaidSeen | payment hash 32 |
//!
//! The proposer of a channel is side A. Its signer and the acceptor's are the addresses of the two peers' keys, so a proposal
//! needs no names. The same proposal may be made again: it gets the same answer. A list is `count u16 · locks of 56`.

use super::paid::{Claim, MAX_PROOF_BYTES, Place};
use crate::message::LockId;
use crate::signing::address;
use crate::state::{Halves, LOCK_BYTES, Lock, MAX_LOCKS, Params};
use crate::types::{
    Address, ChannelId, Hash32, PaymentHash, Preimage, PublicKey, Signature, Timestamp, Version,
};
use crate::watchtower::{LockNumbers, PreimagesHeld, Receipt, Watch};
use crate::wire::{self, Reader, WireError, Writer};
use serde::{Deserialize, Serialize};

/// Longest reason, bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// The first type of this table.
pub const FIRST_TYPE: u8 = 64;

/// A channel that a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Where the proposer is paid.
    pub payout: Address,
    /// The token; zero for Ether.
    pub token: Address,
    /// Dispute window, seconds.
    pub window_secs: u32,
    /// Tells channels of the same parties apart; the proposer draws it.
    pub salt: u64,
    /// What the proposer means to deposit, units; binds nobody.
    pub deposit: u128,
}

impl Proposal {
    /// The parameters of the channel between a proposer and an acceptor.
    pub fn params(
        &self,
        proposer: &PublicKey,
        acceptor: &PublicKey,
        acceptor_payout: Address,
    ) -> Option<Params> {
        Some(Params {
            signer_a: address(proposer)?,
            payout_a: self.payout,
            signer_b: address(acceptor)?,
            payout_b: acceptor_payout,
            token: self.token,
            window_secs: self.window_secs,
            salt: self.salt,
        })
    }
}

/// A message between nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Talk {
    /// Let us have a channel.
    OpenPropose(Proposal),
    /// Agreed; the channel is known here.
    OpenAccept(Params),
    /// No.
    OpenRefuse {
        /// Of the proposal.
        salt: u64,
        /// For people.
        reason: String,
    },
    /// Guard this.
    TowerWatch(Box<Watch>),
    /// It is guarded. A receipt that says nothing of preimages answers a record without numbers.
    TowerReceipt(Receipt),
    /// It is not, or not newer.
    TowerRefuse {
        /// The channel.
        channel: ChannelId,
        /// For people.
        reason: String,
    },
    /// I have lost my data: what do you hold for me of this channel?
    TowerAsk(ChannelId),
    /// This, as you gave it to me.
    TowerRecord(Box<Watch>),
    /// Nothing of yours that you could take back.
    TowerNoRecord(ChannelId),
    /// I have paid this invoice of yours on the rollup.
    Paid(Claim),
    /// I have seen the transfer that paid this invoice: say no more of it.
    PaidSeen(PaymentHash),
}

/// Whether a frame, its length taken off, belongs to this table.
pub fn is_talk(frame: &[u8]) -> bool {
    frame.get(1).is_some_and(|kind| *kind >= FIRST_TYPE)
}

/// A message as a frame, its length included.
pub fn encode(talk: &Talk) -> Vec<u8> {
    wire::frame(|writer| write(writer, talk))
}

/// The message of a frame, its length taken off.
///
/// # Errors
/// [`WireError`].
pub fn decode(frame: &[u8]) -> Result<Talk, WireError> {
    wire::open(frame, read)
}

fn write(writer: &mut Writer, talk: &Talk) {
    match talk {
        Talk::OpenPropose(proposal) => {
            writer
                .raw(&[64])
                .raw(&proposal.payout.0)
                .raw(&proposal.token.0)
                .raw(&proposal.window_secs.to_be_bytes())
                .u64(proposal.salt)
                .u128(proposal.deposit);
        }
        Talk::OpenAccept(params) => write_params(writer.raw(&[65]), params),
        Talk::OpenRefuse { salt, reason } => {
            writer.raw(&[66]).u64(*salt).bytes(text(reason));
        }
        Talk::TowerWatch(watch) => {
            let kind = if watch.numbers.is_some() { 75 } else { 72 };
            write_watch(writer.raw(&[kind]), watch);
        }
        Talk::TowerReceipt(receipt) => write_receipt(writer, receipt),
        Talk::TowerRefuse { channel, reason } => {
            writer.raw(&[74]).raw(&channel.0).bytes(text(reason));
        }
        Talk::TowerAsk(channel) => {
            writer.raw(&[77]).raw(&channel.0);
        }
        Talk::TowerRecord(watch) => write_watch(writer.raw(&[78]), watch),
        Talk::TowerNoRecord(channel) => {
            writer.raw(&[79]).raw(&channel.0);
        }
        Talk::Paid(claim) => {
            let proof = &claim.proof[..claim.proof.len().min(MAX_PROOF_BYTES)];
            writer
                .raw(&[80])
                .raw(&claim.hash.0)
                .u64(claim.place.batch)
                .raw(&claim.place.row.to_be_bytes())
                .bytes(proof);
        }
        Talk::PaidSeen(hash) => {
            writer.raw(&[81]).raw(&hash.0);
        }
    }
}

/// A reason within its limit, cut between characters.
fn text(reason: &str) -> &[u8] {
    let mut end = reason.len().min(MAX_TEXT_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason.as_bytes()[..end]
}

fn write_params(writer: &mut Writer, params: &Params) {
    writer
        .raw(&params.signer_a.0)
        .raw(&params.payout_a.0)
        .raw(&params.signer_b.0)
        .raw(&params.payout_b.0)
        .raw(&params.token.0)
        .raw(&params.window_secs.to_be_bytes())
        .u64(params.salt);
}

fn write_watch(writer: &mut Writer, watch: &Watch) {
    write_params(writer, &watch.params);
    writer
        .raw(&watch.key_a.0)
        .raw(&watch.key_b.0)
        .half(&watch.halves.a)
        .half(&watch.halves.b);
    for list in [&watch.list_a, &watch.list_b] {
        writer.count(list.len());
        for lock in list {
            writer.raw(&lock.pack());
        }
    }
    writer.raw(&watch.signatures.0.0).raw(&watch.signatures.1.0);
    writer.count(watch.preimages.len());
    for preimage in &watch.preimages {
        writer.raw(&preimage.0);
    }
    let Some(numbers) = &watch.numbers else {
        return;
    };
    writer.u64(numbers.last);
    for list in [&numbers.list_a, &numbers.list_b] {
        for number in list {
            writer.u64(*number);
        }
    }
    writer.raw(&numbers.signature.0);
}

fn write_receipt(writer: &mut Writer, receipt: &Receipt) {
    let kind = if receipt.preimages.is_some() { 76 } else { 73 };
    writer
        .raw(&[kind])
        .raw(&receipt.channel.0)
        .u64(receipt.version_a)
        .u64(receipt.version_b)
        .u64(receipt.stored);
    if let Some(held) = &receipt.preimages {
        writer.raw(&held.count.to_be_bytes()).raw(&held.hashes.0);
    }
    writer.raw(&receipt.signature.0);
}

fn read(reader: &mut Reader<'_>) -> Result<Talk, WireError> {
    Ok(match reader.u8()? {
        64 => Talk::OpenPropose(Proposal {
            payout: Address(reader.raw()?),
            token: Address(reader.raw()?),
            window_secs: u32::from_be_bytes(reader.raw()?),
            salt: reader.u64()?,
            deposit: reader.u128()?,
        }),
        65 => Talk::OpenAccept(read_params(reader)?),
        66 => Talk::OpenRefuse {
            salt: reader.u64()?,
            reason: read_text(reader)?,
        },
        72 => Talk::TowerWatch(Box::new(read_watch(reader)?)),
        73 => Talk::TowerReceipt(read_receipt(reader, false)?),
        74 => Talk::TowerRefuse {
            channel: ChannelId(reader.raw()?),
            reason: read_text(reader)?,
        },
        75 => Talk::TowerWatch(Box::new(read_numbered(reader)?)),
        76 => Talk::TowerReceipt(read_receipt(reader, true)?),
        77 => Talk::TowerAsk(ChannelId(reader.raw()?)),
        78 => Talk::TowerRecord(Box::new(read_numbered(reader)?)),
        79 => Talk::TowerNoRecord(ChannelId(reader.raw()?)),
        80 => Talk::Paid(Claim {
            hash: PaymentHash(reader.raw()?),
            place: Place {
                batch: reader.u64()?,
                row: u32::from_be_bytes(reader.raw()?),
            },
            proof: reader.bytes(MAX_PROOF_BYTES)?,
        }),
        81 => Talk::PaidSeen(PaymentHash(reader.raw()?)),
        other => return Err(WireError::Type(other)),
    })
}

/// Text of a peer is shown to people: only printable characters of it.
fn read_text(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let bytes = reader.bytes(MAX_TEXT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| WireError::Range)?;
    if text.chars().any(char::is_control) {
        return Err(WireError::Range);
    }
    Ok(text)
}

fn read_params(reader: &mut Reader<'_>) -> Result<Params, WireError> {
    Ok(Params {
        signer_a: Address(reader.raw()?),
        payout_a: Address(reader.raw()?),
        signer_b: Address(reader.raw()?),
        payout_b: Address(reader.raw()?),
        token: Address(reader.raw()?),
        window_secs: u32::from_be_bytes(reader.raw()?),
        salt: reader.u64()?,
    })
}

fn read_watch(reader: &mut Reader<'_>) -> Result<Watch, WireError> {
    Ok(Watch {
        params: read_params(reader)?,
        key_a: PublicKey(reader.raw()?),
        key_b: PublicKey(reader.raw()?),
        halves: Halves {
            a: reader.half()?,
            b: reader.half()?,
        },
        list_a: reader.list(MAX_LOCKS, read_lock)?,
        list_b: reader.list(MAX_LOCKS, read_lock)?,
        signatures: (Signature(reader.raw()?), Signature(reader.raw()?)),
        preimages: reader.list(MAX_LOCKS, |reader| Ok(Preimage(reader.raw()?)))?,
        numbers: None,
    })
}

/// A record with as many numbers as each list has locks.
fn read_numbered(reader: &mut Reader<'_>) -> Result<Watch, WireError> {
    let watch = read_watch(reader)?;
    let last = reader.u64()?;
    let mut numbers = |list: &[Lock]| -> Result<Vec<LockId>, WireError> {
        list.iter().map(|_| reader.u64()).collect()
    };
    let list_a = numbers(&watch.list_a)?;
    let list_b = numbers(&watch.list_b)?;
    let numbers = LockNumbers {
        list_a,
        list_b,
        last,
        signature: Signature(reader.raw()?),
    };
    Ok(Watch {
        numbers: Some(numbers),
        ..watch
    })
}

fn read_receipt(reader: &mut Reader<'_>, tells_preimages: bool) -> Result<Receipt, WireError> {
    let channel = ChannelId(reader.raw()?);
    let version_a = Version::from_be_bytes(reader.raw()?);
    let version_b = Version::from_be_bytes(reader.raw()?);
    let stored = Timestamp::from_be_bytes(reader.raw()?);
    let preimages = match tells_preimages {
        true => Some(PreimagesHeld {
            count: u16::from_be_bytes(reader.raw()?),
            hashes: Hash32(reader.raw()?),
        }),
        false => None,
    };
    Ok(Receipt {
        channel,
        version_a,
        version_b,
        stored,
        signature: Signature(reader.raw()?),
        preimages,
    })
}

fn read_lock(reader: &mut Reader<'_>) -> Result<Lock, WireError> {
    Lock::unpack(&reader.raw::<LOCK_BYTES>()?).map_err(|_| WireError::Range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Half, keccak};
    use crate::types::{Amount, LockRoot};

    fn messages() -> Vec<Talk> {
        let params = Params {
            signer_a: Address([1; 20]),
            payout_a: Address([2; 20]),
            signer_b: Address([3; 20]),
            payout_b: Address([4; 20]),
            token: Address([5; 20]),
            window_secs: 86_400,
            salt: 6,
        };
        let half = |version| Half {
            version,
            paid: 7,
            locks: LockRoot([8; 32]),
        };
        let lock = Lock {
            hash: PaymentHash([9; 32]),
            amount: Amount::new(10).unwrap(),
            expiry: 11,
        };
        let channel = ChannelId([12; 32]);
        let signature = Signature([13; 65]);
        vec![
            Talk::OpenPropose(Proposal {
                payout: Address([14; 20]),
                token: Address::ZERO,
                window_secs: 43_200,
                salt: 15,
                deposit: 16,
            }),
            Talk::OpenAccept(params),
            Talk::OpenRefuse {
                salt: 17,
                reason: "no".to_owned(),
            },
            Talk::TowerWatch(Box::new(Watch {
                params,
                key_a: PublicKey([2; 33]),
                key_b: PublicKey([3; 33]),
                halves: Halves {
                    a: half(18),
                    b: half(19),
                },
                list_a: vec![lock],
                list_b: vec![],
                signatures: (signature, signature),
                preimages: vec![Preimage([20; 32])],
                numbers: None,
            })),
            Talk::TowerReceipt(Receipt {
                channel,
                version_a: 21,
                version_b: 22,
                stored: 23,
                signature,
                preimages: None,
            }),
            Talk::TowerRefuse {
                channel,
                reason: "older".to_owned(),
            },
        ]
    }

    fn tower_messages() -> Vec<Talk> {
        let (mut watch, mut receipt) = (None, None);
        for talk in messages() {
            match talk {
                Talk::TowerWatch(found) => watch = Some(found),
                Talk::TowerReceipt(found) => receipt = Some(found),
                _ => {}
            }
        }
        let (mut watch, mut receipt) = (watch.unwrap(), receipt.unwrap());
        watch.numbers = Some(LockNumbers {
            list_a: vec![24],
            list_b: vec![],
            last: 25,
            signature: Signature([26; 65]),
        });
        receipt.preimages = Some(PreimagesHeld {
            count: 27,
            hashes: Hash32([28; 32]),
        });
        let channel = receipt.channel;
        vec![
            Talk::TowerWatch(watch.clone()),
            Talk::TowerReceipt(receipt),
            Talk::TowerAsk(channel),
            Talk::TowerRecord(watch),
            Talk::TowerNoRecord(channel),
        ]
    }

    fn paid_messages() -> Vec<Talk> {
        vec![
            Talk::Paid(Claim {
                hash: PaymentHash([1; 32]),
                place: Place { batch: 2, row: 3 },
                proof: vec![4; 180],
            }),
            Talk::PaidSeen(PaymentHash([5; 32])),
        ]
    }

    #[test]
    fn every_message_comes_back_and_none_cut_or_longer() {
        let all = messages().into_iter().chain(paid_messages());
        for talk in all.chain(tower_messages()) {
            let frame = encode(&talk);
            assert!(is_talk(&frame[4..]));
            assert_eq!(decode(&frame[4..]), Ok(talk));
            for end in 4..frame.len() {
                assert!(decode(&frame[4..end]).is_err());
            }
            let mut longer = frame[4..].to_vec();
            longer.push(0);
            assert_eq!(decode(&longer), Err(WireError::Trailing(1)));
        }
        assert_eq!(decode(&[1, 99]), Err(WireError::Type(99)));
        assert_eq!(
            decode(&[1, 66, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 7]),
            Err(WireError::Range)
        );
    }

    #[test]
    fn the_bytes_are_pinned() {
        let all: Vec<u8> = messages().iter().flat_map(encode).collect();
        assert_eq!(
            hex::encode(keccak(&all)),
            "9cb0c0b542d8e5deea7de6766d5f8e14c7e8832c513b99cd4f2d77372be73af4",
            "a change of these bytes is a new wire version"
        );
        let tower: Vec<u8> = tower_messages().iter().flat_map(encode).collect();
        assert_eq!(
            hex::encode(keccak(&tower)),
            "3fa740f06994aea5752c4d02811e32096e40be7a5635225527f780bd0605314d",
            "a change of these bytes is a new wire version"
        );
        let paid: Vec<u8> = paid_messages().iter().flat_map(encode).collect();
        assert_eq!(
            hex::encode(keccak(&paid)),
            "3cceca81474c09d7b67c4125d164f911185ca7d6623fe65a4a3f471efac09344",
            "a change of these bytes is a new wire version"
        );
    }

    #[test]
    fn a_proof_longer_than_its_limit_is_refused() {
        let claim = |length| Claim {
            hash: PaymentHash([1; 32]),
            place: Place { batch: 2, row: 3 },
            proof: vec![4; length],
        };
        let mut frame = encode(&Talk::Paid(claim(MAX_PROOF_BYTES)));
        assert!(decode(&frame[4..]).is_ok());
        // Its length is the two bytes before it.
        let at = frame.len() - MAX_PROOF_BYTES - 2;
        frame[at..at + 2].copy_from_slice(&(MAX_PROOF_BYTES as u16 + 1).to_be_bytes());
        frame.push(4);
        assert!(decode(&frame[4..]).is_err());
    }
}
