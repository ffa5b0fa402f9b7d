//! What nodes tell each other about channels, as frames like those of [`crate::wire`].
//!
//! | type | message | body |
//! |---|---|---|
//! | 32 | node | key 33 · timestamp u64 · features u64 · alias bytes (at most 32) · list (at most 8) of address bytes (at most 255) · signature 65 |
//! | 33 | channel | signer A 20 · payout A 20 · signer B 20 · payout B 20 · token 20 · window u32 · salt u64 · key A 33 · key B 33 · signature A 65 · signature B 65 |
//! | 34 | channel update | channel 32 · side u8 (0: from A) · timestamp u64 · flags u8 (1: disabled) · base fee u128 · millionths u32 · least lock u128 · greatest lock u128 · signature 65 |
//! | 35 | since | epoch u64 · cursor u64 |
//! | 36 | batch | epoch u64 · cursor u64 · more u8 · list (at most 500) of bytes, each type u8 · body of 32 to 34 |
//! | 37 | announcement signature | channel 32 · key 33 · signature 65 |
//!
//! A signature is over `keccak256("Millrace gossip v1" · EIP-712 domain separator 32 · type u8 · body without signatures)`; 33 and 37 have the
//! same digest, that of 33. *The separator keeps gossip of one contract out of another's.*

use crate::digest;
use crate::signing::{self, HotKey, Keys};
use crate::state::{Params, keccak};
use crate::types::{Address, ChannelId, Hash32, PublicKey, Side, Signature, Timestamp};
use crate::wire::{self, Reader, WireError, Writer};
use serde::{Deserialize, Serialize};

/// Longest alias, bytes of UTF-8.
pub const MAX_ALIAS_BYTES: usize = 32;
/// Most addresses of a node.
pub const MAX_ADDRESSES: usize = 8;
/// Longest address, bytes of `host:port`.
pub const MAX_ADDRESS_BYTES: usize = 255;
/// Most items of a batch.
pub const MAX_BATCH: usize = 500;
/// Longest item of a batch, bytes.
const MAX_ITEM_BYTES: usize = 4096;
const SIGNING_TAG: &[u8] = b"Millrace gossip v1";

/// A node and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnnouncement {
    /// Who.
    pub key: PublicKey,
    /// Newer ones replace older ones.
    pub timestamp: Timestamp,
    /// None yet; unknown bits are passed on.
    pub features: u64,
    /// For people: not unique, not trusted.
    pub alias: String,
    /// `host:port`.
    pub addresses: Vec<String>,
    /// The node's.
    pub signature: Signature,
}

/// A channel that forwards for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelAnnouncement {
    /// What its id is made of: L1 knows it by its deposit.
    pub params: Params,
    /// The key of signer A.
    pub key_a: PublicKey,
    /// The key of signer B.
    pub key_b: PublicKey,
    /// Side A's.
    pub signature_a: Signature,
    /// Side B's.
    pub signature_b: Signature,
}

/// What one side asks for forwarding over a channel, away from itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelUpdate {
    /// Which channel.
    pub channel: ChannelId,
    /// Whose.
    pub side: Side,
    /// Newer ones replace older ones.
    pub timestamp: Timestamp,
    /// Nothing is forwarded now.
    pub disabled: bool,
    /// Fee of a forward, units.
    pub fee_base: u128,
    /// Fee of a forward, millionths of what goes out.
    pub fee_ppm: u32,
    /// The smallest lock.
    pub min_lock: u128,
    /// The greatest lock.
    pub max_lock: u128,
    /// That side's.
    pub signature: Signature,
}

/// Something to pass on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A node.
    Node(NodeAnnouncement),
    /// A channel.
    Channel(ChannelAnnouncement),
    /// A side of a channel.
    Update(ChannelUpdate),
}

/// A message about the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gossip {
    /// One item, unasked: about the sender itself.
    Item(Item),
    /// Send what you have learnt after this.
    Since {
        /// The receiver's numbering; another one starts from 0.
        epoch: u64,
        /// The last number that the sender has.
        cursor: u64,
    },
    /// A piece of what the sender knows, in the order in which it learnt it.
    Batch {
        /// The sender's numbering.
        epoch: u64,
        /// Number of the last item.
        cursor: u64,
        /// There are more.
        more: bool,
        /// In order.
        items: Vec<Item>,
    },
    /// The sender's signature for announcing a channel with the receiver.
    AnnouncementSignature {
        /// Which channel.
        channel: ChannelId,
        /// The sender's key.
        key: PublicKey,
        /// Of the announcement.
        signature: Signature,
    },
}

/// Whether a frame, its length taken off, is gossip: such frames go to [`decode`] and not to the machine.
pub fn is_gossip(frame: &[u8]) -> bool {
    matches!(frame, [_, 32..=37, ..])
}

/// A message as a frame, its length included.
pub fn encode(gossip: &Gossip) -> Vec<u8> {
    wire::frame(|writer| write(writer, gossip))
}

fn write(writer: &mut Writer, gossip: &Gossip) {
    match gossip {
        Gossip::Item(item) => writer.item(item),
        Gossip::Since { epoch, cursor } => writer.raw(&[35]).u64(*epoch).u64(*cursor),
        Gossip::Batch {
            epoch,
            cursor,
            more,
            items,
        } => {
            writer.raw(&[36]).u64(*epoch).u64(*cursor);
            writer.raw(&[u8::from(*more)]).count(items.len());
            for item in items {
                let mut bytes = Writer(Vec::new());
                bytes.item(item);
                writer.bytes(&bytes.0);
            }
            writer
        }
        Gossip::AnnouncementSignature {
            channel,
            key,
            signature,
        } => writer
            .raw(&[37])
            .raw(&channel.0)
            .raw(&key.0)
            .raw(&signature.0),
    };
}

/// Length of an item in a batch, bytes.
pub(super) fn item_bytes(item: &Item) -> usize {
    let mut bytes = Writer(Vec::new());
    bytes.item(item);
    bytes.0.len() + 2
}

/// The message of a frame, its length taken off. Signatures are not looked at.
///
/// # Errors
/// [`WireError`].
pub fn decode(frame: &[u8]) -> Result<Gossip, WireError> {
    wire::open(frame, read)
}

fn read(reader: &mut Reader<'_>) -> Result<Gossip, WireError> {
    Ok(match reader.u8()? {
        kind @ 32..=34 => Gossip::Item(reader.item(kind)?),
        35 => Gossip::Since {
            epoch: reader.u64()?,
            cursor: reader.u64()?,
        },
        36 => Gossip::Batch {
            epoch: reader.u64()?,
            cursor: reader.u64()?,
            more: reader.flag()?,
            items: reader.list(MAX_BATCH, |reader| {
                let bytes = reader.bytes(MAX_ITEM_BYTES)?;
                let mut inner = Reader(&bytes);
                let kind = inner.u8()?;
                let item = inner.item(kind)?;
                inner.end().map(|()| item)
            })?,
        },
        37 => Gossip::AnnouncementSignature {
            channel: ChannelId(reader.raw()?),
            key: PublicKey(reader.raw()?),
            signature: Signature(reader.raw()?),
        },
        other => return Err(WireError::Type(other)),
    })
}

impl Writer {
    fn item(&mut self, item: &Item) -> &mut Self {
        self.unsigned(item);
        match item {
            Item::Node(node) => self.raw(&node.signature.0),
            Item::Channel(channel) => self.raw(&channel.signature_a.0).raw(&channel.signature_b.0),
            Item::Update(update) => self.raw(&update.signature.0),
        }
    }

    fn unsigned(&mut self, item: &Item) -> &mut Self {
        match item {
            Item::Node(node) => {
                self.raw(&[32]).raw(&node.key.0).u64(node.timestamp);
                self.u64(node.features).bytes(node.alias.as_bytes());
                self.count(node.addresses.len());
                for address in &node.addresses {
                    self.bytes(address.as_bytes());
                }
                self
            }
            Item::Channel(channel) => {
                self.raw(&[33]).params(&channel.params);
                self.raw(&channel.key_a.0).raw(&channel.key_b.0)
            }
            Item::Update(update) => self
                .raw(&[34])
                .raw(&update.channel.0)
                .raw(&[update.side as u8])
                .u64(update.timestamp)
                .raw(&[u8::from(update.disabled)])
                .u128(update.fee_base)
                .raw(&update.fee_ppm.to_be_bytes())
                .u128(update.min_lock)
                .u128(update.max_lock),
        }
    }

    fn params(&mut self, params: &Params) -> &mut Self {
        for address in [
            params.signer_a,
            params.payout_a,
            params.signer_b,
            params.payout_b,
            params.token,
        ] {
            self.raw(&address.0);
        }
        self.raw(&params.window_secs.to_be_bytes()).u64(params.salt)
    }
}

impl Reader<'_> {
    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Range),
        }
    }

    fn text(&mut self, most: usize) -> Result<String, WireError> {
        String::from_utf8(self.bytes(most)?).map_err(|_| WireError::Range)
    }

    fn item(&mut self, kind: u8) -> Result<Item, WireError> {
        Ok(match kind {
            32 => Item::Node(NodeAnnouncement {
                key: PublicKey(self.raw()?),
                timestamp: self.u64()?,
                features: self.u64()?,
                alias: self.text(MAX_ALIAS_BYTES)?,
                addresses: self.list(MAX_ADDRESSES, |reader| reader.text(MAX_ADDRESS_BYTES))?,
                signature: Signature(self.raw()?),
            }),
            33 => Item::Channel(ChannelAnnouncement {
                params: self.params()?,
                key_a: PublicKey(self.raw()?),
                key_b: PublicKey(self.raw()?),
                signature_a: Signature(self.raw()?),
                signature_b: Signature(self.raw()?),
            }),
            34 => Item::Update(ChannelUpdate {
                channel: ChannelId(self.raw()?),
                side: if self.flag()? { Side::B } else { Side::A },
                timestamp: self.u64()?,
                disabled: self.flag()?,
                fee_base: self.u128()?,
                fee_ppm: u32::from_be_bytes(self.raw()?),
                min_lock: self.u128()?,
                max_lock: self.u128()?,
                signature: Signature(self.raw()?),
            }),
            other => return Err(WireError::Type(other)),
        })
    }

    fn params(&mut self) -> Result<Params, WireError> {
        Ok(Params {
            signer_a: Address(self.raw()?),
            payout_a: Address(self.raw()?),
            signer_b: Address(self.raw()?),
            payout_b: Address(self.raw()?),
            token: Address(self.raw()?),
            window_secs: u32::from_be_bytes(self.raw()?),
            salt: self.u64()?,
        })
    }
}

impl Item {
    /// What its keys sign.
    pub fn digest(&self, separator: &Hash32) -> Hash32 {
        let mut bytes = Writer(SIGNING_TAG.to_vec());
        bytes.raw(&separator.0).unsigned(self);
        Hash32(keccak(&bytes.0))
    }
}

impl NodeAnnouncement {
    /// Signs it in place.
    pub fn sign(mut self, separator: &Hash32, key: &HotKey) -> Self {
        self.key = key.public();
        self.signature = key.sign(&Item::Node(self.clone()).digest(separator));
        self
    }

    /// Whether its node made it.
    pub fn verify(&self, separator: &Hash32) -> bool {
        let digest = Item::Node(self.clone()).digest(separator);
        signing::verify(&self.key, &digest, &self.signature)
    }
}

impl ChannelAnnouncement {
    /// Its channel's id.
    pub fn channel(&self, separator: &Hash32) -> ChannelId {
        digest::channel_id(separator, &self.params)
    }

    /// The key of a side.
    pub fn key(&self, side: Side) -> PublicKey {
        match side {
            Side::A => self.key_a,
            Side::B => self.key_b,
        }
    }

    /// This node's signature for it.
    pub fn signature(&self, separator: &Hash32, key: &HotKey) -> Signature {
        key.sign(&Item::Channel(self.clone()).digest(separator))
    }

    /// Whether both sides made it, with the keys that L1 knows.
    pub fn verify(&self, separator: &Hash32) -> bool {
        let digest = Item::Channel(self.clone()).digest(separator);
        signing::address(&self.key_a) == Some(self.params.signer_a)
            && signing::address(&self.key_b) == Some(self.params.signer_b)
            && signing::verify(&self.key_a, &digest, &self.signature_a)
            && signing::verify(&self.key_b, &digest, &self.signature_b)
    }
}

impl ChannelUpdate {
    /// Signs it in place.
    pub fn sign(mut self, separator: &Hash32, key: &HotKey) -> Self {
        self.signature = key.sign(&Item::Update(self.clone()).digest(separator));
        self
    }

    /// Whether the holder of `key` made it.
    pub fn verify(&self, separator: &Hash32, key: &PublicKey) -> bool {
        let digest = Item::Update(self.clone()).digest(separator);
        signing::verify(key, &digest, &self.signature)
    }

    /// What a forward of `amount` costs, rounded up. None above every amount.
    pub fn fee(&self, amount: u128) -> Option<u128> {
        fee(self.fee_base, self.fee_ppm, amount)
    }
}

/// Base and millionths of an amount, rounded up.
pub fn fee(base: u128, ppm: u32, amount: u128) -> Option<u128> {
    amount
        .checked_mul(u128::from(ppm))
        .map(|product| product.div_ceil(1_000_000))?
        .checked_add(base)
}
