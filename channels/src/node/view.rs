//! What a channel looks like to people: balances, phase, and for whatever does not move: what it waits for, until when, and
//! the command that ends it.
//!
//! machine's channel, openings, deposits, receipts → [`ChannelView`]

use super::records::{Deposit, DepositState};
use super::runtime::{State, TowerAddress};
use crate::machine::channel::{Channel, Fault};
use crate::machine::clock::VERSIONS_PER_SECOND;
use crate::machine::dispute::{ChainPhase, OnChain};
use crate::machine::guard::{TowerStep, TowerWait};
use crate::types::{Address, ChannelId, PublicKey, Side, Timestamp, Version};

/// Where a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its deposit is not final.
    Opening,
    /// It takes payments.
    Open,
    /// The peer is not connected, or has not said what it holds.
    Offline,
    /// It takes no payments now.
    Paused,
    /// It is being closed on L1.
    Closing,
    /// It is closed for good.
    Closed,
}

impl Phase {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Offline => "offline",
            Self::Paused => "paused",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For what.
    pub what: String,
    /// Until when at the latest, in Unix seconds; none if nothing but a command ends it.
    pub until: Option<Timestamp>,
    /// What ends it.
    pub command: String,
}

/// A channel for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// Its id.
    pub id: ChannelId,
    /// The counterparty.
    pub peer: PublicKey,
    /// Whether it is connected.
    pub connected: bool,
    /// The token; zero for Ether.
    pub token: Address,
    /// Our side.
    pub side: Side,
    /// Where it stands.
    pub phase: Phase,
    /// What we can pay now.
    pub can_send: u128,
    /// What the counterparty can pay now, as far as we hold it.
    pub can_receive: u128,
    /// What our locks hold.
    pub locked_out: u128,
    /// What the counterparty's locks hold.
    pub locked_in: u128,
    /// All that we ever paid.
    pub sent: u128,
    /// All that we ever received.
    pub received: u128,
    /// What L1 finally holds for both.
    pub pot: u128,
    /// Dispute window, seconds.
    pub window_secs: u32,
    /// Version of our half, of what the peer has signed an echo of, and of the peer's half.
    pub versions: (Version, Version, Version),
    /// Deadline of the dispute on L1.
    pub deadline: Option<Timestamp>,
    /// How many towers have confirmed the newest record.
    pub guarded_by: usize,
    /// Preimages that were released and that the peer has not paid for in its half yet.
    pub released: usize,
    /// How many towers have signed that they hold all of these.
    pub released_guarded_by: usize,
    /// What it waits for, if it does not just work.
    pub waiting: Vec<Waiting>,
}

impl State {
    /// All channels.
    pub fn views(&self) -> Vec<ChannelView> {
        self.node
            .channels()
            .values()
            .map(|channel| self.view_of(channel))
            .collect()
    }

    /// One channel.
    pub fn view(&self, id: &ChannelId) -> Option<ChannelView> {
        self.node
            .channels()
            .get(id)
            .map(|channel| self.view_of(channel))
    }

    fn view_of(&self, channel: &Channel) -> ChannelView {
        let rules = self.node.rules();
        let phase = self.phase(channel);
        let best = channel.best();
        let guarded_by = self
            .guardians
            .receipts(&channel.id)
            .iter()
            .filter(|(_, receipt)| {
                (receipt.version_a, receipt.version_b) == (best.a.version, best.b.version)
            })
            .count();
        let released = super::tower::released(channel);
        let pot = channel.at_final.as_ref().map_or(0, OnChain::pot);
        ChannelView {
            id: channel.id,
            peer: channel.peer,
            connected: self.connected.contains(&channel.peer),
            token: channel.params.token,
            side: channel.side,
            phase,
            can_send: channel.spendable(rules).get(),
            can_receive: channel.held_balance(rules).max(0).unsigned_abs(),
            locked_out: channel.own.locked(),
            locked_in: channel.held.locked(),
            sent: channel.own.paid,
            received: channel.held.half.paid,
            pot: pot.max(0).unsigned_abs(),
            window_secs: channel.params.window_secs,
            versions: (
                channel.own.version,
                channel.own.echoed,
                channel.held.half.version,
            ),
            deadline: deadline(channel),
            guarded_by,
            released: usize::from(released.count),
            released_guarded_by: self.guardians.holding(&channel.id, released),
            waiting: self.waits(channel, phase),
        }
    }

    fn phase(&self, channel: &Channel) -> Phase {
        if channel.closed {
            return Phase::Closed;
        }
        let is =
            |view: &Option<OnChain>, what: fn(&OnChain) -> bool| view.as_ref().is_some_and(what);
        if channel.closing || is(&channel.at_head, |chain| !chain.is_open()) {
            return Phase::Closing;
        }
        if !is(&channel.at_final, |chain| chain.pot() > 0) && channel.own.version == 0 {
            return Phase::Opening;
        }
        if channel.fault.is_some() || channel.payout.is_some() || !channel.is_open() {
            return Phase::Paused;
        }
        if !channel.session.established {
            return Phase::Offline;
        }
        Phase::Open
    }

    fn waits(&self, channel: &Channel, phase: Phase) -> Vec<Waiting> {
        let id = channel.id;
        let force = format!("millrace channel force-close {id}");
        let mut waits = Vec::new();
        for deposit in self
            .deposits
            .values()
            .filter(|deposit| deposit.channel == id)
        {
            waits.extend(deposit_waits(deposit));
        }
        if let Some(fault) = &channel.fault {
            let away = matches!(fault, Fault::DataLost(_)) && !channel.session.connected;
            let command = match away {
                true => format!("millrace channel connect KEY@ADDRESS of the peer, or {force}"),
                false => force.clone(),
            };
            waits.push(Waiting {
                what: fault_text(fault),
                until: None,
                command,
            });
        }
        waits.extend(self.record_waits(channel));
        if let Some(until) = channel.quiet_until.filter(|_| phase != Phase::Closed) {
            waits.push(Waiting {
                what: "the quiet after a restore: a payout that was signed and forgotten may still execute"
                    .to_owned(),
                until: Some(until),
                command: "nothing to do: it ends by itself".to_owned(),
            });
        }
        let lost_until = channel.lost_up_to / VERSIONS_PER_SECOND;
        if lost_until > self.node.now() && channel.quiet_until.is_some() {
            waits.push(Waiting {
                what: "what the peer paid and we had not signed for: after a restore it comes once more, when no version from before can outbid it"
                    .to_owned(),
                until: Some(lost_until),
                command: "nothing to do: it comes by itself".to_owned(),
            });
        }
        if let Some(payout) = channel.payout {
            let signed = if payout.peer.is_some() {
                "a cooperative payout until L1 has it finally"
            } else {
                "the peer's signature of a cooperative payout"
            };
            waits.push(Waiting {
                what: signed.to_owned(),
                until: Some(payout.coop.valid_until),
                command: force.clone(),
            });
        }
        match phase {
            Phase::Opening => waits.push(Waiting {
                what: "the deposit to be final on L1".to_owned(),
                until: None,
                command: force,
            }),
            Phase::Offline => waits.push(Waiting {
                what: "the peer to connect".to_owned(),
                until: None,
                command: format!(
                    "millrace channel connect {} ADDRESS, or {force}",
                    channel.peer
                ),
            }),
            Phase::Closing => waits.push(closing_waits(channel)),
            Phase::Open | Phase::Paused | Phase::Closed => {}
        }
        let guarded = self.node.waits_for_tower(&id);
        waits.extend(guarded.iter().map(|wait| self.tower_waits(&id, wait)));
        waits.extend(self.release_waits(channel));
        let earliest = channel.own.standing().map(|(_, own)| own.lock.expiry).min();
        if let Some(expiry) = earliest.filter(|_| phase != Phase::Closed) {
            waits.push(Waiting {
                what: "payments under way to be settled or to expire".to_owned(),
                until: Some(expiry),
                command: "nothing to do: each ends by itself".to_owned(),
            });
        }
        waits
    }
}

impl State {
    fn tower_waits(&self, id: &ChannelId, wait: &TowerWait) -> Waiting {
        let TowerWait {
            step,
            hash,
            amount,
            until,
        } = wait;
        let payment = match hash {
            Some(hash) => format!("payment {hash}, {amount} units"),
            None => format!("{amount} units"),
        };
        let what = match step {
            TowerStep::Forward => format!("the tower's receipt, to pass on {payment}"),
            TowerStep::Release => format!("the tower's receipt, to take {payment}"),
            TowerStep::Fail => format!("the tower's receipt, to give back {payment}"),
            TowerStep::Income => format!("the tower's receipt, to count as received: {payment}"),
        };
        let start = self.start_of_tower(&self.guardians.addresses());
        let command = match step {
            TowerStep::Income => format!("{start}, or millrace channel close {id}"),
            _ => format!("{start}, or raise channels.tower_limit and start this node again"),
        };
        Waiting {
            what,
            until: *until,
            command,
        }
    }

    /// What makes one of these towers answer.
    fn start_of_tower(&self, towers: &[TowerAddress]) -> String {
        let mut towers = towers.iter();
        let away = towers.find(|tower| !self.connected.contains(&tower.key));
        match away {
            Some(tower) => format!(
                "see that `millrace tower` runs at {} with key {}",
                tower.address, tower.key
            ),
            None => "see what `millrace tower` says there".to_owned(),
        }
    }

    /// After a loss of data: towers that have not said what they hold.
    fn record_waits(&self, channel: &Channel) -> Option<Waiting> {
        let (towers, until) = self.towers_unheard(channel)?;
        let first = channel.has_lost_data() && self.now < until;
        let (what, until) = match first {
            true => (
                "the towers' records of this channel; then, or at that time, the peer is heard",
                Some(until),
            ),
            false => (
                "the record of a tower that does not answer; it is asked until the quiet ends",
                channel.quiet_until,
            ),
        };
        Some(Waiting {
            what: what.to_owned(),
            until,
            command: self.start_of_tower(&towers),
        })
    }

    /// Preimages above the limit that are out, and that no tower has confirmed: whoever leaves for good now may lose what they pay.
    fn release_waits(&self, channel: &Channel) -> Option<Waiting> {
        let held = super::tower::released(channel);
        let unguarded = self.guardians.holding(&channel.id, held) == 0;
        let until = self.node.released_above_limit(&channel.id);
        let until = until.filter(|_| unguarded && !channel.closed)?;
        Some(Waiting {
            what: format!(
                "the tower's receipt for {} released preimages: without it, or the peer's payment, do not leave this node off",
                held.count
            ),
            until: Some(until),
            command: self.start_of_tower(&self.guardians.addresses()),
        })
    }
}

fn deadline(channel: &Channel) -> Option<Timestamp> {
    match channel.at_head.as_ref().map(|chain| &chain.phase) {
        Some(ChainPhase::Closing(dispute)) => Some(dispute.deadline),
        _ => None,
    }
}

fn deposit_waits(deposit: &Deposit) -> Option<Waiting> {
    match &deposit.state {
        DepositState::Landed(_) => None,
        DepositState::Sending(problem) => Some(Waiting {
            what: match problem {
                Some(problem) => format!("a deposit of {}: {problem}", deposit.amount),
                None => format!("a deposit of {} to be in a block", deposit.amount),
            },
            until: None,
            command: "nothing to do: it is tried again every 15 s".to_owned(),
        }),
        DepositState::Refused(reason) => Some(Waiting {
            what: format!("a deposit of {} was refused: {reason}", deposit.amount),
            until: None,
            command: format!(
                "millrace channel deposit {} {}",
                deposit.channel, deposit.amount
            ),
        }),
    }
}

fn closing_waits(channel: &Channel) -> Waiting {
    match channel.at_head.as_ref().map(|chain| &chain.phase) {
        Some(ChainPhase::Closing(dispute)) => {
            let locks = dispute.list_a.iter().chain(&dispute.list_b);
            let last = locks.map(|lock| lock.expiry + 1).max().unwrap_or(0);
            Waiting {
                what: "the dispute's deadline and the locks in it; it is settled by itself then".to_owned(),
                until: Some(dispute.deadline.max(last)),
                command: "nothing to do: anybody may settle then".to_owned(),
            }
        }
        Some(ChainPhase::Open) | None => Waiting {
            what: "L1 to take the transaction that closes it".to_owned(),
            until: None,
            command: "nothing to do: it is sent again every minute; see that the node's account has ETH for gas".to_owned(),
        },
        Some(_) => Waiting {
            what: "the close to be final on L1".to_owned(),
            until: None,
            command: "nothing to do".to_owned(),
        },
    }
}

/// What is wrong, in words.
pub fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::Equivocation(version) => {
            format!("the peer signed two halves of version {version}: the channel is being closed")
        }
        Fault::NotSuperseded => {
            "the peer did not replace an update that broke a rule: the channel is used no more"
                .to_owned()
        }
        Fault::DataLost(version) => format!(
            "this node's data is old, or the peer says so (version {version} of ours): nothing is signed until the peer has said what it holds and given back what is missing"
        ),
    }
}
