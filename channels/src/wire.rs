//! Messages as bytes: length-prefixed frames with limits, all numbers big-endian.
//!
//! ```text
//! frame   = length u32 (of what follows) · version u8 (1) · type u8 · body
//! list    = count u16 · items          bytes = length u16 · bytes
//! ```
//! | type | message | body |
//! |---|---|---|
//! | 1 | Update | channel 32 · base u64 · half · echo u64 · flags u8 (1: wants an echo) · signature 65 · list of (lock id u64 · lock 56 · onion bytes) · list of settled lock ids · list of dropped lock ids · list of (amount u128 · reference 32) |
//! | 2 | Fulfil | channel 32 · lock id u64 · preimage 32 |
//! | 3 | Fail | channel 32 · lock id u64 · reason bytes |
//! | 4 | Ack | channel 32 · version u64 |
//! | 5 | SignAck | channel 32 · version u64 · echo u64 · signature 65 |
//! | 6 | Refuse | channel 32 · version u64 · held u64 · code u8 · the code's numbers |
//! | 7 | Reestablish | channel 32 · own u64 · own hash 32 · held u64 · held hash 32 · echoed u64 |
//! | 8 | CoopPropose | channel 32 · epoch u32 · pay A u128 · pay B u128 · valid until u64 · signature 65 |
//! | 9 | CoopSign | as CoopPropose |
//! | 10 | Copy | channel 32 · half A · half B · list of (lock id u64 · lock 56) of the sender · the same of the receiver · last lock id u64 · sender's signature 65 · receiver's signature 65 |
//!
//! Types 32 to 37 are gossip (`routing/gossip.rs`), those from 64 on are between nodes rather than about a channel's state
//! (`node/talk.rs`).
//!
//! `half = version u64 · paid u128 · locks 32`. A frame that is longer, shorter or of another version is refused whole.

use crate::digest::Coop;
use crate::message::{
    AddLock, Copy, Direct, LockId, MAX_DIRECTS, MAX_ONION_BYTES, MAX_REASON_BYTES, Message,
    Reestablish, Refusal, SignAck, Update,
};
use crate::state::{Half, Halves, LOCK_BYTES, Lock, MAX_LOCKS};
use crate::types::{Amount, ChannelId, Hash32, LockRoot, Preimage, Signature};
use thiserror::Error;

/// First byte after the length.
pub const WIRE_VERSION: u8 = 1;
/// Longest frame, its length aside, bytes.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// The frame is longer than allowed.
    #[error("frame of {0} bytes, at most 1 MiB is allowed")]
    TooLong(usize),
    /// The bytes end too early.
    #[error("the frame ends too early")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// Another version of the protocol.
    #[error("wire version {0}, this node speaks version 1")]
    Version(u8),
    /// An unknown type of message or refusal.
    #[error("unknown type {0}")]
    Type(u8),
    /// A list or byte string is longer than allowed.
    #[error("{0} items or bytes where fewer are allowed")]
    Count(usize),
    /// A number is out of its range.
    #[error("a number is out of range")]
    Range,
}

/// A message as a frame, its length included.
pub fn encode(message: &Message) -> Vec<u8> {
    frame(|writer| writer.message(message))
}

/// A frame with the type and body that `write` appends, its length included.
pub(crate) fn frame(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer(vec![0, 0, 0, 0, WIRE_VERSION]);
    write(&mut writer);
    let length = u32::try_from(writer.0.len() - 4).expect("limits keep messages below 1 MiB");
    writer.0[..4].copy_from_slice(&length.to_be_bytes());
    writer.0
}

/// Length of the frame that starts with these four bytes, for the transport to read.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn frame_length(prefix: [u8; 4]) -> Result<usize, WireError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(WireError::TooLong(length));
    }
    Ok(length)
}

/// The message of a frame, its length taken off.
///
/// # Errors
/// [`WireError`].
pub fn decode(frame: &[u8]) -> Result<Message, WireError> {
    open(frame, |reader| reader.message())
}

/// What `read` finds after the version of a frame whose length is taken off; it must use all of it.
pub(crate) fn open<T>(
    frame: &[u8],
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, WireError>,
) -> Result<T, WireError> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(WireError::TooLong(frame.len()));
    }
    let mut reader = Reader(frame);
    let version = reader.u8()?;
    if version != WIRE_VERSION {
        return Err(WireError::Version(version));
    }
    let found = read(&mut reader)?;
    reader.end().map(|()| found)
}

pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    fn message(&mut self, message: &Message) {
        match message {
            Message::Update(update) => self.update(update),
            Message::Fulfil {
                channel,
                lock,
                preimage,
            } => self.start(2, channel).u64(*lock).raw(&preimage.0),
            Message::Fail {
                channel,
                lock,
                reason,
            } => self.start(3, channel).u64(*lock).bytes(reason),
            Message::Ack { channel, version } => self.start(4, channel).u64(*version),
            Message::SignAck(ack) => self
                .start(5, &ack.channel)
                .u64(ack.version)
                .u64(ack.echo)
                .raw(&ack.signature.0),
            Message::Refuse {
                channel,
                version,
                held,
                refusal,
            } => self
                .start(6, channel)
                .u64(*version)
                .u64(*held)
                .refusal(refusal),
            Message::Reestablish(said) => self
                .start(7, &said.channel)
                .u64(said.own)
                .raw(&said.own_hash.0)
                .u64(said.held)
                .raw(&said.held_hash.0)
                .u64(said.echoed),
            Message::Copy(copy) => self.copy(copy),
            Message::CoopPropose {
                channel,
                coop,
                signature,
            } => self.start(8, channel).coop(coop, signature),
            Message::CoopSign {
                channel,
                coop,
                signature,
            } => self.start(9, channel).coop(coop, signature),
        };
    }

    fn start(&mut self, kind: u8, channel: &ChannelId) -> &mut Self {
        self.0.push(kind);
        self.raw(&channel.0)
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u64(&mut self, number: u64) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn u128(&mut self, number: u128) -> &mut Self {
        self.raw(&number.to_be_bytes())
    }

    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        let count = u16::try_from(count).expect("limits keep lists below 2^16");
        self.raw(&count.to_be_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    fn update(&mut self, update: &Update) -> &mut Self {
        self.start(1, &update.channel)
            .u64(update.base)
            .half(&update.half)
            .u64(update.echo)
            .raw(&[u8::from(update.want_ack)])
            .raw(&update.signature.0)
            .count(update.adds.len());
        for add in &update.adds {
            self.u64(add.id).raw(&add.lock.pack()).bytes(&add.onion);
        }
        for ids in [&update.settles, &update.drops] {
            self.count(ids.len());
            for id in ids {
                self.u64(*id);
            }
        }
        self.count(update.directs.len());
        for direct in &update.directs {
            self.u128(direct.amount.get()).raw(&direct.reference.0);
        }
        self
    }

    pub(crate) fn half(&mut self, half: &Half) -> &mut Self {
        self.u64(half.version).u128(half.paid).raw(&half.locks.0)
    }

    fn copy(&mut self, copy: &Copy) -> &mut Self {
        self.start(10, &copy.channel)
            .half(&copy.halves.a)
            .half(&copy.halves.b);
        for locks in [&copy.sender_locks, &copy.receiver_locks] {
            self.count(locks.len());
            for (id, lock) in locks {
                self.u64(*id).raw(&lock.pack());
            }
        }
        self.u64(copy.last_lock)
            .raw(&copy.sender_signature.0)
            .raw(&copy.receiver_signature.0)
    }

    fn coop(&mut self, coop: &Coop, signature: &Signature) -> &mut Self {
        self.raw(&coop.epoch.to_be_bytes())
            .u128(coop.pay_a)
            .u128(coop.pay_b)
            .u64(coop.valid_until)
            .raw(&signature.0)
    }

    fn refusal(&mut self, refusal: &Refusal) -> &mut Self {
        match *refusal {
            Refusal::NotOpen => self.raw(&[0]),
            Refusal::Base { base, held } => self.raw(&[1]).u64(base).u64(held),
            Refusal::Cooperating { until } => self.raw(&[2]).u64(until),
            Refusal::NotFinal => self.raw(&[3]),
            Refusal::Echo {
                echo,
                oldest,
                newest,
            } => self.raw(&[4]).u64(echo).u64(oldest).u64(newest),
            Refusal::Signature => self.raw(&[5]),
            Refusal::Balance { short } => self.raw(&[6]).u128(short),
            Refusal::Paid { expected, found } => self.raw(&[7]).u128(expected).u128(found),
            Refusal::List => self.raw(&[8]),
            Refusal::LockId(id) => self.raw(&[9]).u64(id),
            Refusal::Drop(id) => self.raw(&[10]).u64(id),
            Refusal::Size => self.raw(&[11]),
            Refusal::Ahead { version, latest } => self.raw(&[12]).u64(version).u64(latest),
            Refusal::Outbid { version, above } => self.raw(&[13]).u64(version).u64(above),
        }
    }
}

pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn end(&self) -> Result<(), WireError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(WireError::Trailing(left)),
        }
    }

    fn message(&mut self) -> Result<Message, WireError> {
        let kind = self.u8()?;
        if !(1..=10).contains(&kind) {
            return Err(WireError::Type(kind));
        }
        let channel = ChannelId(self.raw()?);
        Ok(match kind {
            1 => Message::Update(Box::new(self.update(channel)?)),
            2 => Message::Fulfil {
                channel,
                lock: self.u64()?,
                preimage: Preimage(self.raw()?),
            },
            3 => Message::Fail {
                channel,
                lock: self.u64()?,
                reason: self.bytes(MAX_REASON_BYTES)?,
            },
            4 => Message::Ack {
                channel,
                version: self.u64()?,
            },
            5 => Message::SignAck(SignAck {
                channel,
                version: self.u64()?,
                echo: self.u64()?,
                signature: Signature(self.raw()?),
            }),
            6 => Message::Refuse {
                channel,
                version: self.u64()?,
                held: self.u64()?,
                refusal: self.refusal()?,
            },
            7 => Message::Reestablish(Reestablish {
                channel,
                own: self.u64()?,
                own_hash: Hash32(self.raw()?),
                held: self.u64()?,
                held_hash: Hash32(self.raw()?),
                echoed: self.u64()?,
            }),
            8 => {
                let (coop, signature) = self.coop()?;
                Message::CoopPropose {
                    channel,
                    coop,
                    signature,
                }
            }
            10 => Message::Copy(Box::new(self.copy(channel)?)),
            _ => {
                let (coop, signature) = self.coop()?;
                Message::CoopSign {
                    channel,
                    coop,
                    signature,
                }
            }
        })
    }

    pub(crate) fn raw<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.raw::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        self.raw().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, WireError> {
        self.raw().map(u128::from_be_bytes)
    }

    pub(crate) fn count(&mut self, most: usize) -> Result<usize, WireError> {
        let count = usize::from(self.raw().map(u16::from_be_bytes)?);
        if count > most {
            return Err(WireError::Count(count));
        }
        Ok(count)
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Result<Vec<u8>, WireError> {
        let length = self.count(most)?;
        if length > self.0.len() {
            return Err(WireError::Truncated);
        }
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    pub(crate) fn list<T>(
        &mut self,
        most: usize,
        item: impl Fn(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count(most)?;
        (0..count).map(|_| item(self)).collect()
    }

    fn update(&mut self, channel: ChannelId) -> Result<Update, WireError> {
        let base = self.u64()?;
        let half = self.half()?;
        let echo = self.u64()?;
        let want_ack = match self.u8()? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Range),
        };
        Ok(Update {
            channel,
            base,
            half,
            echo,
            want_ack,
            signature: Signature(self.raw()?),
            adds: self.list(MAX_LOCKS, Self::add)?,
            settles: self.list(MAX_LOCKS, Self::u64)?,
            drops: self.list(MAX_LOCKS, Self::u64)?,
            directs: self.list(MAX_DIRECTS, Self::direct)?,
        })
    }

    pub(crate) fn half(&mut self) -> Result<Half, WireError> {
        Ok(Half {
            version: self.u64()?,
            paid: self.u112()?,
            locks: LockRoot(self.raw()?),
        })
    }

    fn copy(&mut self, channel: ChannelId) -> Result<Copy, WireError> {
        Ok(Copy {
            channel,
            halves: Halves {
                a: self.half()?,
                b: self.half()?,
            },
            sender_locks: self.list(MAX_LOCKS, Self::numbered)?,
            receiver_locks: self.list(MAX_LOCKS, Self::numbered)?,
            last_lock: self.u64()?,
            sender_signature: Signature(self.raw()?),
            receiver_signature: Signature(self.raw()?),
        })
    }

    fn numbered(&mut self) -> Result<(LockId, Lock), WireError> {
        let id = self.u64()?;
        let lock = Lock::unpack(&self.raw::<LOCK_BYTES>()?).map_err(|_| WireError::Range)?;
        Ok((id, lock))
    }

    fn add(&mut self) -> Result<AddLock, WireError> {
        Ok(AddLock {
            id: self.u64()?,
            lock: Lock::unpack(&self.raw::<LOCK_BYTES>()?).map_err(|_| WireError::Range)?,
            onion: self.bytes(MAX_ONION_BYTES)?,
        })
    }

    fn direct(&mut self) -> Result<Direct, WireError> {
        Ok(Direct {
            amount: Amount::new(self.u128()?).map_err(|_| WireError::Range)?,
            reference: Hash32(self.raw()?),
        })
    }

    fn coop(&mut self) -> Result<(Coop, Signature), WireError> {
        let coop = Coop {
            epoch: self.raw().map(u32::from_be_bytes)?,
            pay_a: self.u112()?,
            pay_b: self.u112()?,
            valid_until: self.u64()?,
        };
        Ok((coop, Signature(self.raw()?)))
    }

    fn u112(&mut self) -> Result<u128, WireError> {
        let number = self.u128()?;
        if number >= crate::types::PAID_LIMIT {
            return Err(WireError::Range);
        }
        Ok(number)
    }

    fn refusal(&mut self) -> Result<Refusal, WireError> {
        Ok(match self.u8()? {
            0 => Refusal::NotOpen,
            1 => Refusal::Base {
                base: self.u64()?,
                held: self.u64()?,
            },
            2 => Refusal::Cooperating { until: self.u64()? },
            3 => Refusal::NotFinal,
            4 => Refusal::Echo {
                echo: self.u64()?,
                oldest: self.u64()?,
                newest: self.u64()?,
            },
            5 => Refusal::Signature,
            6 => Refusal::Balance {
                short: self.u128()?,
            },
            7 => Refusal::Paid {
                expected: self.u128()?,
                found: self.u128()?,
            },
            8 => Refusal::List,
            9 => Refusal::LockId(self.u64()?),
            10 => Refusal::Drop(self.u64()?),
            11 => Refusal::Size,
            12 => Refusal::Ahead {
                version: self.u64()?,
                latest: self.u64()?,
            },
            13 => Refusal::Outbid {
                version: self.u64()?,
                above: self.u64()?,
            },
            other => return Err(WireError::Type(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::keccak;
    use crate::types::PaymentHash;

    fn messages() -> Vec<Message> {
        let channel = ChannelId([1; 32]);
        let signature = Signature([2; 65]);
        let coop = Coop {
            epoch: 3,
            pay_a: 4,
            pay_b: 5,
            valid_until: 6,
        };
        let lock = Lock {
            hash: PaymentHash([7; 32]),
            amount: Amount::new(8).unwrap(),
            expiry: 9,
        };
        let update = Update {
            channel,
            base: 10,
            half: Half {
                version: 11,
                paid: 12,
                locks: LockRoot([13; 32]),
            },
            echo: 14,
            adds: vec![AddLock {
                id: 15,
                lock,
                onion: vec![16; 20],
            }],
            settles: vec![17, 18],
            drops: vec![19],
            directs: vec![Direct {
                amount: Amount::new(20).unwrap(),
                reference: Hash32([21; 32]),
            }],
            want_ack: true,
            signature,
        };
        let refusals = [
            Refusal::NotOpen,
            Refusal::Base { base: 1, held: 2 },
            Refusal::Cooperating { until: 3 },
            Refusal::NotFinal,
            Refusal::Echo {
                echo: 4,
                oldest: 5,
                newest: 6,
            },
            Refusal::Signature,
            Refusal::Balance { short: 7 },
            Refusal::Paid {
                expected: 8,
                found: 9,
            },
            Refusal::List,
            Refusal::LockId(10),
            Refusal::Drop(11),
            Refusal::Size,
            Refusal::Ahead {
                version: 44,
                latest: 45,
            },
            Refusal::Outbid {
                version: 46,
                above: 47,
            },
        ];
        let mut messages = vec![
            Message::Update(Box::new(update)),
            Message::Fulfil {
                channel,
                lock: 22,
                preimage: Preimage([23; 32]),
            },
            Message::Fail {
                channel,
                lock: 24,
                reason: vec![25, 26],
            },
            Message::Ack {
                channel,
                version: 27,
            },
            Message::SignAck(SignAck {
                channel,
                version: 28,
                echo: 29,
                signature,
            }),
            Message::Reestablish(Reestablish {
                channel,
                own: 30,
                own_hash: Hash32([31; 32]),
                held: 32,
                held_hash: Hash32([33; 32]),
                echoed: 43,
            }),
            Message::CoopPropose {
                channel,
                coop,
                signature,
            },
            Message::CoopSign {
                channel,
                coop,
                signature,
            },
            Message::Copy(Box::new(Copy {
                channel,
                halves: Halves {
                    a: Half::ZERO,
                    b: Half {
                        version: 36,
                        paid: 37,
                        locks: LockRoot([38; 32]),
                    },
                },
                sender_locks: vec![(39, lock)],
                receiver_locks: vec![(40, lock), (41, lock)],
                last_lock: 42,
                sender_signature: signature,
                receiver_signature: signature,
            })),
        ];
        messages.extend(refusals.map(|refusal| Message::Refuse {
            channel,
            version: 34,
            held: 35,
            refusal,
        }));
        messages
    }

    #[test]
    fn every_message_comes_back() {
        for message in messages() {
            let frame = encode(&message);
            let length = frame_length(*frame.first_chunk().unwrap()).unwrap();
            assert_eq!(length, frame.len() - 4);
            assert_eq!(decode(&frame[4..]), Ok(message));
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let all: Vec<u8> = messages().iter().flat_map(encode).collect();
        assert_eq!(
            hex::encode(keccak(&all)),
            "a4fc77895b562ec30d78088f92959222e4f474d9b128a59f954fbc61c1a83800",
            "a change of these bytes is a new wire version"
        );
    }

    #[test]
    fn cut_long_and_strange_frames_are_refused() {
        for message in messages() {
            let frame = &encode(&message)[4..];
            for end in 0..frame.len() {
                assert!(decode(&frame[..end]).is_err(), "{message:?} cut at {end}");
            }
            let mut longer = frame.to_vec();
            longer.push(0);
            assert_eq!(decode(&longer), Err(WireError::Trailing(1)));
        }
        assert_eq!(decode(&[2, 1]), Err(WireError::Version(2)));
        assert_eq!(decode(&[1, 11]), Err(WireError::Type(11)));
        assert_eq!(
            frame_length([0, 16, 0, 1]),
            Err(WireError::TooLong((1 << 20) + 1))
        );
    }

    #[test]
    fn altered_bytes_never_panic() {
        // A small generator: the point is many strange frames, not good chance.
        let mut state = 1u64;
        for message in messages() {
            let frame = encode(&message)[4..].to_vec();
            for _ in 0..2000 {
                let mut altered = frame.clone();
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (state >> 33) as usize % altered.len();
                altered[at] ^= (state >> 25) as u8;
                if let Ok(other) = decode(&altered) {
                    assert_eq!(&encode(&other)[4..], altered, "one message, one encoding");
                }
            }
        }
    }
}
